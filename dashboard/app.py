"""The entry: `streamlit run dashboard/app.py` from the repo's folder. The server imports this file once, for
what stands before every route; Streamlit runs it anew at every change in a browser, for what is on the screen.

This is the only file that touches `sys.path`: `streamlit run` puts `dashboard/` there, not the folder above it.
"""

from __future__ import annotations

import sys
from pathlib import Path

if (root := str(Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.insert(0, root)

import streamlit as st

if __name__ == "__main__":
    from dashboard.shell import ahead, preload

    st.set_page_config(page_title="MODE dashboard", page_icon=Path(__file__).with_name("icon.png"), layout="wide")
    preload.scripts()
    ahead.wait()

    from dashboard.shell import screen

    screen.draw()
else:
    from dashboard.shell import door, paper

    app = st.App(__file__, routes=paper.ROUTES, middleware=door.middleware(), lifespan=door.lifespan)
