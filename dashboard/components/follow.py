"""What a slider changes at every step of a drag, as it is sent to the browser."""

from __future__ import annotations

import json
from collections.abc import Mapping

import plotly.graph_objects as go

from dashboard.components.chart import sent
from dashboard.components.readout import Readout
from dashboard.components.spec import Spec


def changes(charts: Mapping[str, go.Figure] = {}, readouts: Mapping[str, Readout] = {}) -> str:
    """JSON of what differs from the charts as the page last drew them (drawn with `follows`), and readouts whole.

    Charts that the page did not draw are left out.
    """
    moved = {key: Spec.of(figure).changes(before) for key, figure in charts.items() if (before := sent(key))}
    said = {key: readout.to_json() for key, readout in readouts.items()}
    return f'{{"chart":{_object(moved)},"readout":{_object(said)}}}'


def _object(parts: Mapping[str, str]) -> str:
    return "{" + ",".join(f"{json.dumps(key)}:{text}" for key, text in parts.items()) + "}"
