"""What is on the screen, whichever page is open: navigation, sidebar, the page, and what it says where it cannot be."""

from __future__ import annotations

import streamlit as st

from dashboard.components import name_files_by
from dashboard.shell import ahead, doors, sidebar
from dashboard.state import address, estimating, folders, process_wide, solving, visitor
from dashboard.words.plain import plain
from mode_core.errors import FileError, ImportanceError

_PAGES = (  # file, title, icon, address
    ("learn", "Learn", ":material/school:"),
    ("calibrate", "Calibrate", ":material/tune:"),
    ("experts", "Experts", ":material/grid_on:"),
    ("tokens", "Tokens", ":material/image_search:"),
    ("budget", "Budget", ":material/balance:"),
    ("quantize", "Quantize", ":material/compress:"),
    ("compare", "Compare", ":material/leaderboard:"),
    ("export", "Export", ":material/download:"),
)
_DEFAULT = "experts"
_PAGES_BY_NAME = {name: title for name, title, _ in _PAGES}


def navigation():
    """The pages in the order of the work; by absolute path, because they do not lie beside this file."""
    pages = [
        st.Page(folders.PAGES / f"{name}.py", title=title, icon=icon, url_path=name, default=name == _DEFAULT)
        for name, title, icon in _PAGES
    ]
    return st.navigation(pages, position="sidebar")


def show(page) -> None:
    """Run a page; where it has nothing to show, say why and name the next step."""
    try:
        page.run()
    except folders.NoRunError as missing:
        st.title(page.title)
        st.info(plain(missing), icon=":material/info:")
        if st.button("Go to Calibrate", type="primary", key="next_step"):
            address.go("calibrate")
    except ImportanceError as refused:
        st.title(page.title)
        st.error(f"These settings do not fit this run. {plain(refused)}", icon=":material/error:")
        if st.button("Back to the recommended settings", type="primary", key="reset"):
            address.reset()
            st.rerun()
    except FileError as damaged:
        st.title(page.title)
        st.error(f"This run cannot be read. {plain(damaged)}", icon=":material/error:")
        st.write("Open another run in the sidebar, or calibrate again.")


# What Streamlit has no setting for: the margins of a wide page, links that spare a long way where columns stack, the
# gap between a chart and its table, captions that can be read by everybody (WCAG AA), links in them that are told from
# words by more than colour, where in the navigation the keyboard is. On the dark page the primary colour is light, and
# Streamlit writes white on it; its small buttons are 1.5 rem, below 24 pixels here.
_STYLE = """
.stMainBlockContainer { padding-inline: clamp(1rem, 3.2vw, 3.5rem); }
@media (min-width: 768px) {
  .stApp:has([data-testid=stSidebar][data-collapsed="false"]) .stMainBlockContainer { padding-top: 1rem; }
  [data-testid=stHeader] { pointer-events: none; }
  [data-testid=stHeader] button, [data-testid=stHeader] a { pointer-events: auto; }
}
@media (min-width: 641px) { :has(> .st-key-jumps), .st-key-jumps { display: none; } }
[data-testid="stSidebarNavLink"]:focus-visible { outline: 2px solid currentColor; outline-offset: -2px; }
[class*="st-key-table-"] { margin-top: -0.8rem; }
[data-testid="stCaptionContainer"] { opacity: 0.8; }
[data-testid="stCaptionContainer"] a { color: inherit; text-decoration: underline; }
[class*="st-key-table-"] summary, [class*="st-key-table-"] summary p { color: inherit; opacity: 0.9; }
[data-testid=stMultiSelect] button[data-react-aria-pressable] { min-width: 24px; min-height: 24px; }
[data-testid^="stBaseButton-primary"]:enabled, [data-testid^="stBaseButton-primary"]:enabled p,
[data-tag], [data-tag] span { color: light-dark(#ffffff, #0e1116); }
"""


def draw() -> None:
    """One run of the script, for one visitor."""
    if not visitor.behind_the_door():
        st.error("This server was started without the check of who may ask it. Start it by `python -m dashboard`.")
        st.stop()
    st.html(f"<style>{_STYLE}</style>")
    name_files_by(solving.stem)
    address.restore()
    estimating.settle()
    page = navigation()
    slot = sidebar.draw()
    if page.title == _PAGES_BY_NAME[_DEFAULT]:
        doors.draw()
    else:
        doors.close()
        ahead.rest()
    show(page)
    sidebar.notes(slot)
    process_wide.keep_imports()
    ahead.go_on(estimating.prepared)
