"""Controls that Streamlit does not have: a slider that is answered while dragged, charts and readouts that follow it
in place, steps by key, downloads that know whose they are.
"""

from dashboard.components.chart import CONFIG, chart, name_files_by
from dashboard.components.chips import chips
from dashboard.components.follow import changes
from dashboard.components.gesture import before_change
from dashboard.components.in_session import in_session
from dashboard.components.live_slider import DRAGGING, live_slider, plain_controls
from dashboard.components.readout import Figure, Readout, readout
from dashboard.components.show_table import show_table
from dashboard.components.steps import steps

__all__ = [
    "CONFIG",
    "DRAGGING",
    "Figure",
    "Readout",
    "before_change",
    "changes",
    "chart",
    "chips",
    "in_session",
    "live_slider",
    "name_files_by",
    "plain_controls",
    "readout",
    "show_table",
    "steps",
]
