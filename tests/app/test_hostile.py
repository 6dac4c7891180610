"""Text of strangers on every page: nothing that Markdown, HTML or a spreadsheet would read as more than text.

What a page sends is walked field by field: whatever is not known to be shown as it is must be marked by `plain`.
`tests/browser/test_trust.py` has what a browser makes of it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from dashboard.state import process_wide
from dashboard.state.folders import BUNDLED_RUN
from dashboard.state.measured import MODELS, Measurement
from mode_core.csv_files import FORMULA
from mode_core.evaluation import ScoredAnswer, Scores
from mode_core.run import Run
from tests.app.test_states import on_page
from tests.synthetic_evidence import synthetic_evidence

NAME = "=1+1 ![evil](http:evil) $x^2$ <img src=evil> :red[evil] www.evil.test **evil**"  # where no slash may be
HOSTILE = f"{NAME} [l](http://evil.test) http://evil.test/c <a href='http://evil.test'>d</a> :material/bug_report:"
MADE = re.compile(  # what `plain` would have marked
    r"(?<!\\)\[(?:evil|l)\]?|(?<!\\)\$x|(?<!\\)<(?:img|a )|:red|:material/bug|www\.evil|http://evil|(?<!\\)\*\*evil"
)
AS_IT_IS = (  # fields that are shown as text, or not at all
    "Code.code_text", "Text.body", "Selectbox.options", "Selectbox.raw_value", "MultiSelect.options",
    "TextInput.default", "Image.alt",
)  # fmt: skip
PAGES = [("experts", {}), ("tokens", {}), ("budget", {"panel": "kept"}), ("quantize", {}),
         ("calibrate", {}), ("export", {}), ("learn", {"step": "3"}), ("learn", {"step": "7"}),
         ("compare", {}), ("compare", {"section": "check"}),
         ("compare", {"section": "rankings"}), ("compare", {"section": "runs"})]  # fmt: skip


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    """A folder with a copy of the bundled run in which every text that somebody else may have written is hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    place = folder / "www.evil.test"
    shutil.copytree(BUNDLED_RUN, place)
    run = Run.open(place)
    info = json.loads((place / "run.json").read_text())
    info["model"] |= {"name": HOSTILE, "source": f"/nowhere/{HOSTILE}"}
    info |= {"refused": [{"sample": HOSTILE, "reason": HOSTILE}], "versions": {HOSTILE: HOSTILE}, "state": HOSTILE}
    statistics = replace(run.statistics, settings=dict(run.statistics.settings) | {"model": HOSTILE, "origin": HOSTILE})
    run.write_statistics(statistics, state="done")
    (place / "run.json").write_text(json.dumps(info))
    records = json.loads((place / "samples.json").read_text())
    told = dict.fromkeys(("text", "answer", "task"), HOSTILE)
    (place / "samples.json").write_text(json.dumps([one | told for one in records]))
    exemplars = run.exemplars()
    exemplars.snippets = dict.fromkeys(exemplars.snippets, (HOSTILE,) * 3)
    exemplars.save(place)
    check = (place / "check.json").read_text().replace('"mc"', json.dumps(HOSTILE))
    check = json.loads(check)
    check["choice"]["why"] = HOSTILE
    (place / "check.json").write_text(json.dumps(check))
    shutil.copy(place / "allocations" / "mode 3 bits.json", place / "allocations" / f"{NAME}.json")
    for name in ("cut", NAME):
        (place / "allocations" / f"{name} cut.json").write_text("{")
        (place / "evaluations").mkdir(exist_ok=True)
        (place / "evaluations" / f"{name} cut.json").write_text("{")
    for made in (1e9, 2e9):
        for kept in measurement(made).records().items():
            run.save_evaluation(*kept)
    shutil.rmtree(place / "evidence")
    found = synthetic_evidence(run.statistics)
    scores, told = found.scores.replace({"method": {"mc": HOSTILE}}), dict(found.info) | {"calibration_draws": HOSTILE}
    found = replace(found, scores=scores, info=told)
    for where in ("", NAME):
        found.save(place / "evidence" / where)
    return folder


def measurement(made: float) -> Measurement:
    answers = [ScoredAnswer(f"q{n}", "vision", HOSTILE, HOSTILE, "red", HOSTILE, True, 0.1, 0.5) for n in range(4)]
    other = [replace(one, answer=f"{HOSTILE} other") if hasattr(one, "answer") else one for one in answers]
    scores = dict(zip(MODELS, (Scores(tuple(answers)), Scores(tuple(other)), Scores(tuple(other))), strict=True))
    sizes = dict.fromkeys(MODELS, 100)
    settings = {"method": HOSTILE, "key_ratio": 0.2}
    return Measurement(scores, sizes, sizes, 3, f"seal-{made:g}", settings, made, (HOSTILE,))


def fails(progress: Any, cancel: Any) -> None:
    raise ValueError(HOSTILE)


def answers(progress: Any, cancel: Any) -> dict[str, SimpleNamespace]:
    said = SimpleNamespace(text=HOSTILE, tokens=(HOSTILE, "b"), probabilities=(0.5, 0.5))
    return dict.fromkeys(MODELS, said)


def texts(node: Any) -> Iterator[tuple[str, str]]:
    """(message.field, text) of every text that a page sent, of blocks too."""
    if (proto := getattr(node, "proto", None)) is not None:
        yield from fields(proto)
    for child in getattr(node, "children", {}).values():
        yield from texts(child)


def fields(message: Any) -> Iterator[tuple[str, str]]:
    for field, value in message.ListFields():
        for each in value if field.is_repeated else (value,):
            if isinstance(each, str):
                yield f"{message.DESCRIPTOR.name}.{field.name}", each
            elif hasattr(each, "ListFields"):
                yield from fields(each)


@pytest.mark.parametrize(("page", "held"), PAGES)
def test_text_of_strangers_is_marked_wherever_it_is_read(strange, places, monkeypatch, page, held):
    monkeypatch.setenv("MODE_RUNS", str(strange))
    app = on_page(page, run="www.evil.test", **held, colour=HOSTILE)
    owner = app.session_state["visitor"]
    failed = process_wide.jobs().submit(HOSTILE, "ask", fails, owner=owner)
    asked = process_wide.jobs().submit("x", "ask", answers, owner=owner)
    while asked.active or failed.active:
        pass
    app.session_state["ask:job"], app.session_state["ask:about"] = asked.id, (HOSTILE, "seal", HOSTILE)
    app.query_params["job"] = failed.id
    for key in ("quantize:history", "jobs-log", "why", "starved", "moved"):
        app.session_state[key] = True
    app.run()
    assert not app.exception
    sent = [(where, text) for where, text in texts(app._tree) if "evil" in text]
    assert sent, "nothing of it is shown"
    wrong = [
        (where, found[0], text[:80]) for where, text in sent if where not in AS_IT_IS and (found := MADE.search(text))
    ]
    assert not wrong
    for table in app.dataframe:
        cells = [*table.value.columns, *table.value.to_numpy().ravel().tolist()]
        assert not [cell for cell in cells if isinstance(cell, str) and cell.startswith(FORMULA)]
