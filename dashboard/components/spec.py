"""A figure as the JSON that the browser draws: whole, or as what differs from the one it already has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from _plotly_utils.utils import convert_to_base64
from plotly.utils import PlotlyJSONEncoder

Properties = Mapping[str, object]  # by name


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
    """A figure, property by property; what does not differ from what was sent is never written as JSON."""

    traces: tuple[Properties, ...]
    layout: Properties
    alt: str
    summary: str

    @classmethod
    def of(cls, figure: go.Figure) -> Spec:
        """As it is now."""
        layout, meta = figure.layout.to_plotly_json(), figure.layout.meta or {}
        layout.pop("template", None)
        traces = tuple(trace.to_plotly_json() for trace in figure.data)
        return cls(traces, layout, meta.get("alt", ""), meta.get("summary", ""))

    def whole(self) -> str:
        """`{"data": […], "layout": {…}, "alt": …, "summary": …}`; arrays become base64 of their own type, as Plotly's
        own JSON has them."""
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
            alike = before.get("type") == _hash(trace.get("type"))
            data.append(_object(_changed(trace, before) if alike else {**trace, "new": True}))
        layout = _object(_changed(self.layout, sent.layout))
        return f'{{"over":"{sent.mark}","data":[{",".join(data)}],"layout":{layout},{self._told()}}}'

    def _told(self) -> str:
        return f'"alt":{json.dumps(self.alt)},"summary":{json.dumps(self.summary)}'


def _object(properties: Properties) -> str:
    return "{" + ",".join(f'"{name}":{_text(value)}' for name, value in properties.items()) + "}"


def _text(value: object) -> str:
    held = {"value": value}
    convert_to_base64(held)
    return json.dumps(held["value"], cls=PlotlyJSONEncoder)


def _hash(value: object) -> int:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return hash((value.dtype.str, value.shape, value.tobytes()))
    return hash(_text(value))


def _hashes(properties: Properties) -> dict[str, int]:
    return {name: _hash(value) for name, value in properties.items()}


def _changed(properties: Properties, before: Mapping[str, int]) -> Properties:
    gone = {name: None for name in before if name not in properties}
    return {name: value for name, value in properties.items() if before.get(name) != _hash(value)} | gone
