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

__all__ = [
    "ORDERS",
    "VIEWS",
    "Axes",
    "FrequencyGrid",
    "SensitivityGrid",
    "accuracy_by_task",
    "bank_profile",
    "bias_bars",
    "bit_map",
    "damage_by_layer",
    "error_by_width",
    "expert_frequencies",
    "frequency_heatmaps",
    "frontier_chart",
    "sensitivity_heatmaps",
    "specialisation_order",
    "width_counts",
]
