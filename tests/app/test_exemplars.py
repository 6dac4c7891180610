"""What an expert likes, on the Experts page: words escaped and in context, patches outlined where they are."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from dashboard.parts.experts import exemplars
from mode_core.run import Run
from mode_core.runs.expert_search import by_word
from mode_core.statistics.exemplars import PatchExemplar, TextExemplar
from tests.app.conftest import NAME, words


def test_the_page_shows_them(open_app, tiny_runs):
    found = Run.open(tiny_runs / NAME).exemplars()
    app = open_app("experts")
    assert not app.exception
    assert "chosen for most strongly" in words(app)
    bank = next(iter(found.tables))
    patches = found.patches(bank, 0)
    shown = exemplars.strip(patches)
    assert (shown is not None) == any(patch.picture for patch in patches)


def test_text_from_samples_is_escaped():
    token = TextExemplar("a'b", 0.5, 3, "<b>x\n", "<script>", "&", False)
    line = exemplars.text_lines((token,))
    assert "<script>" not in line and "&lt;script&gt;" in line and "&#x27;" in line and "⏎" in line and "0.50" in line


def test_the_outline_is_around_the_patch(tmp_path):
    """A 4 × 4 grid with one red cell: the crop's outlined part is red inside, its surroundings are not."""
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[10:20, 20:30] = (255, 0, 0)
    Image.fromarray(picture).save(tmp_path / "p.png")
    patch = PatchExemplar("s", 1.0, 0, 6, 0, (1, 2), (4, 4), tmp_path / "p.png")
    crop = np.asarray(Image.open(io.BytesIO(exemplars.strip((patch,)))).convert("RGB"))
    red = (crop[..., 0] > 200) & (crop[..., 1] < 60)
    rows, columns = np.nonzero(red)
    assert rows.min() > 0.2 * exemplars.SIDE and columns.min() > 0.45 * exemplars.SIDE
    side = exemplars.SIDE / 4
    assert abs(np.ptp(rows) - side) < 6 and abs(np.ptp(columns) - side) < 6


def test_a_run_without_them_says_so(open_app, tiny_runs, monkeypatch):
    monkeypatch.setattr(Run, "exemplars", lambda self: None)
    assert "made without exemplars" in words(open_app("experts"))


def test_a_word_leads_to_experts_and_an_expert_can_be_linked(open_app, tiny_runs):
    run = Run.open(tiny_runs / NAME)
    expected = by_word("circle", run.exemplars(), run.token_routes().values())
    app = open_app("experts", find="circle", bank="1", expert="3")
    assert not app.exception
    [table] = [frame.value for frame in app.dataframe if "sum of routing weights" in frame.value]
    ticks = dict(zip(run.statistics.banks, ("0", "2"), strict=True))
    assert len(expected.hits) > 3 and expected.hits[0].exemplars > 0
    assert list(zip(table["layer"], table["expert"], table["exemplars"], table["kept tokens"], strict=True)) == [
        (ticks[hit.bank], hit.expert, hit.exemplars, hit.kept) for hit in expected.hits
    ]
    assert f"kept tokens that match: {expected.tokens}" in words(app)
    assert any("bank=1" in code.value and "expert=3" in code.value and "find=circle" in code.value for code in app.code)
    app.text_input(key="search-text").set_value("patch 99999").run()
    assert (
        not app.exception
        and "and no patch 99999" in words(app)
        and app.query_params["find"] in ("patch 99999", ["patch 99999"])
    )
    app.text_input(key="search-text").set_value("zebra *bold*").run()
    assert "No exemplar and no kept token holds “zebra *bold*”" in words(app)
