"""A figure as the JSON that the browser draws: whole, or as what differs from the one it already has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.utils import PlotlyJSONEncoder

Parts = Mapping[str, str]  # name of a property -> its JSON


@dataclass(frozen=True)
class Digest:
    """What remains of a figure that was sent: a hash of every property; kilobytes, however many cells it has."""

    traces: tuple[dict[str, int], ...]
    layout: dict[str, int]

    @property
    def mark(self) -> str:
        """Tells this figure from others, so that changes are never laid over another one."""
        return f"{hash((*(tuple(trace.items()) for trace in self.traces), *self.layout.items())):x}"


@dataclass(frozen=True)
class Spec:
    """A figure, property by property as JSON."""

    traces: tuple[Parts, ...]
    layout: Parts
    alt: str
    summary: str

    @classmethod
    def of(cls, figure: go.Figure) -> Spec:
        """Arrays become base64 of their own type, as Plotly's own JSON has them."""
        held, meta = figure.to_dict(), figure.layout.meta or {}
        layout = {name: value for name, value in held["layout"].items() if name != "template"}
        traces = tuple(_encoded(trace) for trace in held["data"])
        return cls(traces, _encoded(layout), meta.get("alt", ""), meta.get("summary", ""))

    def whole(self) -> str:
        """`{"data": […], "layout": {…}, "alt": …, "summary": …}`."""
        return f'{{"data":[{",".join(map(_object, self.traces))}],"layout":{_object(self.layout)},{self._told()}}}'

    def digest(self) -> Digest:
        """To tell later what has changed."""
        return Digest(tuple(map(_hashes, self.traces)), _hashes(self.layout))

    def changes(self, sent: Digest) -> str:
        """The same object with the properties alone that differ from `sent`, whose mark is `over`; what went is null.

        A trace without a counterpart of its own type is whole, and says so by `"new": true`.
        """
        data = []
        for place, trace in enumerate(self.traces):
            before = sent.traces[place] if place < len(sent.traces) else {}
            alike = before.get("type") == hash(trace.get("type"))
            data.append(_object(_changed(trace, before) if alike else {**trace, "new": "true"}))
        layout = _object(_changed(self.layout, sent.layout))
        return f'{{"over":"{sent.mark}","data":[{",".join(data)}],"layout":{layout},{self._told()}}}'

    def _told(self) -> str:
        return f'"alt":{json.dumps(self.alt)},"summary":{json.dumps(self.summary)}'


def _encoded(properties: Mapping[str, object]) -> Parts:
    return {name: json.dumps(value, cls=PlotlyJSONEncoder) for name, value in properties.items()}


def _object(parts: Parts) -> str:
    return "{" + ",".join(f'"{name}":{text}' for name, text in parts.items()) + "}"


def _hashes(parts: Parts) -> dict[str, int]:
    return {name: hash(text) for name, text in parts.items()}


def _changed(parts: Parts, before: Mapping[str, int]) -> Parts:
    gone = {name: "null" for name in before if name not in parts}
    return {name: text for name, text in parts.items() if before.get(name) != hash(text)} | gone
