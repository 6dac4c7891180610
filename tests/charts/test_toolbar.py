"""No chart, on any page or in a report, offers to send itself to somebody else's server."""

from __future__ import annotations

import re

from dashboard.charts import theme
from dashboard.components.chart import CONFIG, PLAIN_CONFIG
from dashboard.parts.export.report import Section, report
from tests.test_lint import ROOT

SENDING = {"sendDataToCloud", "sendChartToCloud", "editInChartStudio"}


def test_every_configuration_says_so():
    drawn = [theme.figure([], f"chart {number}") for number in (1, 2)]
    made = report("run", "about", [Section("one", figures=drawn[:1]), Section("two", figures=drawn[1:])])
    without_library = re.sub(r"<script>/\*.*?</script>", "", made, count=1, flags=re.S)
    assert without_library.count('"showSendToCloud": false') == without_library.count("Plotly.newPlot(") == 2
    for config in (theme.TOOLBAR, CONFIG, PLAIN_CONFIG):
        assert config["showSendToCloud"] is False and config["displaylogo"] is False
        assert config["plotlyServerURL"] == "" and not SENDING & set(config.get("modeBarButtonsToAdd", ()))


def test_charts_are_shown_in_these_places_only():
    """A figure drawn elsewhere would have Plotly's own toolbar."""
    calls = re.compile(r"plotly_chart\(|\.to_html\(|write_html|newPlot|Plotly\.react|\.show\(\)")
    files = [
        path for folder in ("dashboard", "pages") for end in ("py", "js") for path in (ROOT / folder).rglob(f"*.{end}")
    ]
    found = {path.name for path in files if calls.search(path.read_text(encoding="utf-8"))}
    assert found == {"chart.py", "figure.js", "report.py", "preload.py"}  # the last into an element of no page
