"""The entry: `streamlit run dashboard/app.py` from the repo's folder. Navigation, sidebar, and what every page shares.

This is the only file that touches `sys.path`: `streamlit run` puts `dashboard/` there, not the folder above it.
"""

from __future__ import annotations

import sys
from pathlib import Path

if (root := str(Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.insert(0, root)

import streamlit as st

from dashboard.shell import preload

st.set_page_config(page_title="MODE dashboard", page_icon=Path(__file__).with_name("icon.png"), layout="wide")
preload.plotly()

from dashboard.components import load_plotly  # noqa: E402
from dashboard.shell import sidebar  # noqa: E402
from dashboard.state import address, folders, process_wide  # noqa: E402
from mode_core.importance import ImportanceError  # noqa: E402
from mode_core.runs.run import RunError  # noqa: E402
from mode_core.statistics import StatisticsError  # noqa: E402

PAGES = (  # file, title, icon, address
    ("learn", "Learn", ":material/school:"),
    ("calibrate", "Calibrate", ":material/tune:"),
    ("experts", "Experts", ":material/grid_on:"),
    ("tokens", "Tokens", ":material/image_search:"),
    ("budget", "Budget", ":material/balance:"),
    ("quantize", "Quantize", ":material/compress:"),
    ("compare", "Compare", ":material/leaderboard:"),
    ("export", "Export", ":material/download:"),
)
DEFAULT = "experts"


def navigation():
    """The pages in the order of the work; by absolute path, because they do not lie beside this file."""
    pages = [
        st.Page(folders.PAGES / f"{name}.py", title=title, icon=icon, url_path=name, default=name == DEFAULT)
        for name, title, icon in PAGES
    ]
    return st.navigation(pages, position="sidebar")


def show(page) -> None:
    """Run a page; where it has nothing to show, say why and name the next step."""
    try:
        page.run()
    except folders.NoRunError as missing:
        st.title(page.title)
        st.info(str(missing), icon=":material/info:")
        if st.button("Go to Calibrate", type="primary", key="next_step"):
            address.go("calibrate")
    except ImportanceError as refused:
        st.title(page.title)
        st.error(f"These settings do not fit this run. {refused}", icon=":material/error:")
        if st.button("Back to the paper's settings", type="primary", key="reset"):
            address.reset()
            st.rerun()
    except (RunError, StatisticsError) as damaged:
        st.title(page.title)
        st.error(f"This run cannot be read. {damaged}", icon=":material/error:")
        st.write("Open another run in the sidebar, or calibrate again.")


# What Streamlit has no setting for: the side margins of a wide page, the gap between a chart and its table, captions
# that can be read by everybody (WCAG AA), links in them that are told from words by more than colour.
STYLE = """
.stMainBlockContainer { padding-inline: clamp(1rem, 3.2vw, 3.5rem); }
[class*="st-key-table-"] { margin-top: -0.8rem; }
[data-testid="stCaptionContainer"] { opacity: 0.8; }
[data-testid="stCaptionContainer"] a { color: inherit; text-decoration: underline; }
[class*="st-key-table-"] summary, [class*="st-key-table-"] summary p { color: inherit; opacity: 0.9; }
"""
# On the dark page the primary colour is light, and Streamlit writes white on it.
ON_PRIMARY = """
[data-testid^="stBaseButton-primary"]:enabled, [data-testid^="stBaseButton-primary"]:enabled p,
[data-tag], [data-tag] span { color: #0e1116; }
"""

st.html(f"<style>{STYLE}{ON_PRIMARY if st.context.theme.type == 'dark' else ''}</style>")
load_plotly()
address.restore()
page = navigation()
sidebar.draw()
show(page)
process_wide.keep_imports()
