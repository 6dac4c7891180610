"""Figures from data: pure functions without Streamlit. Each returns a Plotly figure that describes itself."""

from dashboard.charts.accuracy import accuracy_by_task
from dashboard.charts.bias import bias_bars
from dashboard.charts.bits import bit_map, width_counts
from dashboard.charts.expert import bank_profile, error_by_width, expert_frequencies
from dashboard.charts.frequency import ORDERS, VIEWS, frequency_heatmaps
from dashboard.charts.frontier import damage_by_layer, frontier_chart
from dashboard.charts.grids import Axes, specialisation_order
from dashboard.charts.measures import FrequencyGrid, SensitivityGrid
from dashboard.charts.sensitivity import sensitivity_heatmaps
from dashboard.charts.stability import bits_drift, frequency_drift, signal_drift
from dashboard.charts.tokens import Overlay, overlap_map, strip_of_scores, token_overlays

__all__ = [
    "ORDERS",
    "VIEWS",
    "Axes",
    "FrequencyGrid",
    "Overlay",
    "SensitivityGrid",
    "accuracy_by_task",
    "bank_profile",
    "bias_bars",
    "bit_map",
    "bits_drift",
    "damage_by_layer",
    "error_by_width",
    "expert_frequencies",
    "frequency_drift",
    "frequency_heatmaps",
    "frontier_chart",
    "overlap_map",
    "sensitivity_heatmaps",
    "signal_drift",
    "specialisation_order",
    "strip_of_scores",
    "token_overlays",
    "width_counts",
]
