"""Controls that Streamlit does not have: a slider that reports while dragged, charts redrawn in place, steps by key."""

from dashboard.components.chart import CONFIG, chart, load_plotly
from dashboard.components.gesture import before_change
from dashboard.components.live_slider import held, let_go, live_slider, plain_controls
from dashboard.components.steps import steps

__all__ = [
    "CONFIG",
    "before_change",
    "chart",
    "held",
    "let_go",
    "live_slider",
    "load_plotly",
    "plain_controls",
    "steps",
]
