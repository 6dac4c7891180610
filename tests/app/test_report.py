"""The report is one file that needs nothing else, holds the figures, and escapes what came from outside."""

from __future__ import annotations

import re

import pandas as pd
import plotly.graph_objects as go

from dashboard.charts import theme
from dashboard.parts.export.report import Section, report


def test_it_is_self_contained_and_escaped():
    title = "</script><i>T"
    figure = theme.figure([go.Bar(x=[1, 2], y=[3, 4])], 'Bars of "x"', "They rise.", title=title)
    made = report("<run>", "about", [Section("A & B", ["1 < 2"], [figure], [pd.DataFrame({"a": ["<b>"]})], "x > y")])
    assert "<title>&lt;run&gt;</title>" in made and "A &amp; B" in made and "1 &lt; 2" in made and "x &gt; y" in made
    assert "<h1>&lt;run&gt;</h1>" in made and "<run>" not in made and title not in made and "<i>" not in made
    assert "<a href='#0'>A &amp; B</a>" in made and "<details>" not in made
    long = report("r", "", [Section("s", tables=[pd.DataFrame({"a": range(21)})])])
    assert "<summary>Table of 21 rows</summary>" in long and "<td>20</td>" in long  # folded, not cut
    assert "&lt;b&gt;" in made and 'aria-label="Bars of &quot;x&quot;"' in made and "They rise." in made
    outside = re.sub(r"<script.*?</script>", "", made, flags=re.S)
    assert "http:" not in outside and "https:" not in outside and "src=" not in outside and "Plotly.newPlot" in made


def test_a_download_made_later_is_of_the_session_that_asked(open_app):
    """Streamlit makes it in a thread of its own pool, as here; without the session it would be of the defaults."""
    from streamlit.testing.v1 import AppTest

    def script():
        from concurrent.futures import ThreadPoolExecutor

        import streamlit as st

        from dashboard.components import in_session
        from dashboard.state import address, solving

        address.restore()
        with ThreadPoolExecutor(1) as pool:
            st.session_state["made"] = (
                pool.submit(in_session(lambda: solving.stem("report").encode())).result().decode()
            )

    open_app("experts")  # sets the places up
    app = AppTest.from_function(script, default_timeout=120)
    app.query_params.update({"run": "tiny", "bits": "2.5"})
    app.run()
    assert not app.exception, app.exception
    assert app.session_state["made"].startswith("tiny-report") and "2.5-bits" in app.session_state["made"]


def test_what_it_says_is_what_the_session_holds(open_app):
    """Built inside a script of the app, where the session is; the test looks at what came out."""
    from streamlit.testing.v1 import AppTest

    def script():
        import streamlit as st

        from dashboard.parts.export import run_report
        from dashboard.state import address, solving

        address.restore()
        st.session_state["made"] = run_report.build("the command")
        st.session_state["objective"] = f"{solving.allocation().objective:.4g}"

    open_app("experts")  # sets the places up
    app = AppTest.from_function(script, default_timeout=120)
    app.query_params.update({"run": "tiny", "bits": "2.5", "unit": "projection"})
    app.run()
    assert not app.exception, app.exception
    made = app.session_state["made"]
    assert app.session_state["objective"] in made and "the command" in made
    assert made.count("<figure") >= 5 and "gate and up" in made and "Nothing has been measured" in made
    assert ">Two calibrations</h2>" in made and "of the experts get other bits from either half" in made
