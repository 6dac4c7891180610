"""Figures from data: pure functions without Streamlit. Each returns a Plotly figure that describes itself."""

from dashboard.charts.accuracy import accuracy_by_task
from dashboard.charts.bias import divergence_by_layer
from dashboard.charts.bits import bit_map, no_bits, width_counts
from dashboard.charts.evidence import paired_by_budget, paired_forest, scores_by_budget
from dashboard.charts.expert import bank_profile, error_by_width, expert_frequencies
from dashboard.charts.frequency import VIEWS
from dashboard.charts.frontier import damage_by_layer, frontier_chart
from dashboard.charts.grids import Axes, specialisation_order
from dashboard.charts.maps import LAYER_ORDERS, ORDERS, expert_at, expert_maps, expert_order, layer_order
from dashboard.charts.measures import FrequencyGrid, SensitivityGrid
from dashboard.charts.pairs import alike_dots, together_dots
from dashboard.charts.reported import reported_bars
from dashboard.charts.routes import token_path, token_strip
from dashboard.charts.stability import bits_drift, frequency_drift, signal_drift, sufficiency_curve
from dashboard.charts.tasks import use_by_task
from dashboard.charts.tokens import Overlay, overlap_map, strip_of_scores, token_overlays
from dashboard.charts.traffic import distance_by_layer
from dashboard.charts.truth import check_scatter, ranking_dots, truth_scatter
from dashboard.charts.two_runs import bits_crossed, bits_difference, changed_by_layer, order_agreement

__all__ = [
    "LAYER_ORDERS",
    "ORDERS",
    "VIEWS",
    "Axes",
    "FrequencyGrid",
    "Overlay",
    "SensitivityGrid",
    "accuracy_by_task",
    "alike_dots",
    "bank_profile",
    "bit_map",
    "bits_crossed",
    "bits_difference",
    "bits_drift",
    "changed_by_layer",
    "check_scatter",
    "damage_by_layer",
    "distance_by_layer",
    "divergence_by_layer",
    "error_by_width",
    "expert_at",
    "expert_frequencies",
    "expert_maps",
    "expert_order",
    "frequency_drift",
    "frontier_chart",
    "layer_order",
    "no_bits",
    "order_agreement",
    "overlap_map",
    "paired_by_budget",
    "paired_forest",
    "ranking_dots",
    "reported_bars",
    "scores_by_budget",
    "signal_drift",
    "specialisation_order",
    "strip_of_scores",
    "sufficiency_curve",
    "together_dots",
    "token_overlays",
    "token_path",
    "token_strip",
    "truth_scatter",
    "use_by_task",
    "width_counts",
]
