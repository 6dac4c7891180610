"""What a lesson stands on, and what it shows: the bank it is told with; its picture, question, control and way on."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import charts
from dashboard.charts.measures import starved
from dashboard.parts.learn.lesson_claims import Facts, Finding
from dashboard.state import address, current_run, solving
from dashboard.state.remembered import remembered
from mode_core.importance.bias import BUSIEST


@dataclass(frozen=True)
class Scene:
    """One lesson on the open run. With a `note` there is nothing to draw or ask: it says why and what to do, `command`
    how.

    `picture(shown)` draws the question or the answer; `control(follow)` is drawn below it once the answer is shown,
    with what a dragged slider changes at once;
    `prepare()` sets what the next page should open with; `table()` are the rows behind the picture; `findings()` is
    what this run says of the lesson's claims.
    """

    picture: Callable[[bool], go.Figure] | None
    question: str = ""
    options: tuple[str, ...] = ()
    right: int = 0
    answer: str = ""
    control: Callable[[Callable[[], str]], None] | None = None
    prepare: Callable[[], None] = lambda: None
    table: Callable[[], pd.DataFrame] | None = None
    note: str = ""
    command: str = ""
    findings: Callable[[], list[Finding]] | None = None


@dataclass(frozen=True)
class Ground:
    """The bank that the lessons are told with: the one in the address, else where counting misleads most."""

    grid: charts.FrequencyGrid
    row: int

    @classmethod
    def of_session(cls) -> Ground:
        now = address.choices().request
        grid = charts.FrequencyGrid.of(current_run.statistics(), solving.frequencies(), now.key_ratio, now.signal)
        if (row := address.chosen("bank", range(len(grid.axes.names)), None)) is not None:
            return cls(grid, row)
        low, looked = starved(grid)
        return cls(grid, int(np.argmax(low / np.maximum(looked, 1))))

    @property
    def bank(self) -> str:
        return self.grid.axes.names[self.row]

    @property
    def experts(self) -> int:
        return self.grid.axes.experts[self.row]

    @property
    def top(self) -> int:
        """How many experts are called the busiest."""
        return max(1, min(BUSIEST, self.experts // 2))

    def shares(self, kind: str) -> np.ndarray:
        """`[E]`; NaN where no such token came here."""
        return self.grid.shares[kind][self.row, : self.experts].astype(float)

    def findings(self, check: Callable[..., list[Finding]], *asked: Hashable) -> list[Finding]:
        """What the run says of claims, by one function of `lesson_claims`; kept."""
        now, calibrated = address.choices().request, current_run.profile() is None
        facts = Facts(current_run.statistics(), now.key_ratio, now.signal, calibrated)
        return _found((*current_run.run_key(), now.key_ratio, now.signal), facts, check, *asked)


@remembered(64)
def _found(key: tuple, facts: Facts, check: Callable[..., list[Finding]], *asked: Hashable) -> list[Finding]:
    return check(facts, *asked)


def lecturing() -> bool:
    """Does the address ask for letters that can be read in a lecture hall?"""
    return address.chosen("lecture", ("on",), None) is not None


def empty(why: str, command: str = "") -> Scene:
    """A lesson that this run cannot show, why, and the command that would change that."""
    return Scene(None, note=why, command=command)
