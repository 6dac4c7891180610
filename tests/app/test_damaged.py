"""One damaged run, evaluation or picture takes no page down: it is named with its reason, and the rest is shown."""

import json

import pytest

from dashboard.state import address
from mode_core.run import Run
from tests.app.conftest import NAME, words
from tests.synthetic_evidence import synthetic_evidence


@pytest.fixture
def damaged(places):
    """A run that cannot be read, beside the good one."""
    (places / "runs" / "hurt").mkdir()
    (places / "runs" / "hurt" / "run.json").write_text('{"format": "mode-run/1", "state": "done", "created": -1e308}')


def test_a_damaged_run_is_named_in_the_table_and_the_page_stays(open_app, damaged):
    app = open_app("calibrate")
    assert not app.exception
    states = app.dataframe[0].value.set_index("run")["state"]
    assert states["hurt"].startswith("damaged: ") and "created" in states["hurt"] and states[NAME] == "done"


@pytest.mark.parametrize("page", ["experts", "budget", "quantize", "export"])
def test_a_damaged_run_that_is_open_is_told_on_every_page(open_app, damaged, page):
    app = open_app(page, run="hurt")
    assert not app.exception
    assert "This run cannot be read" in words(app) and "created: input should be" in words(app)


def test_a_damaged_evaluation_is_told_and_the_page_stays(open_app, places):
    folder = places / "runs" / NAME / "evaluations"
    folder.mkdir()
    for name in ("cut", "![x](http:evil)"):
        (folder / f"{name}.json").write_text('{"format": "mode-scores/1", ')
    record = {"format": "mode-scores/1", "seconds": 1.0, "kl_exact": True, "answers": []}
    (folder / "odd.json").write_text(json.dumps(record | {"settings": {"measurement": "x", "model": [1]}}))
    app = open_app("quantize")
    assert not app.exception
    assert "cut: damaged: " in words(app) and "odd: damaged: " in words(app)
    assert "![x](http:evil): damaged: " in words(app)
    assert not any("![x](" in warning.value for warning in app.warning), "a name is text"
    assert "model: input should be 'original'" in words(app)
    assert "Talk to all three" in [header.value for header in app.subheader], "what stands below is still there"


def test_a_damaged_check_and_allocation_are_left_out_and_told(open_app, places):
    app = open_app("budget", panel="kept")
    assert not app.exception and "damaged" not in words(app)
    for name in ("check.json", "anchor.json", "allocations/![x](http:evil).json"):
        (places / "runs" / NAME / name).parent.mkdir(exist_ok=True)
        (places / "runs" / NAME / name).write_text('{"format": "mode-check/1", "info": NaN}')
    app.run()
    assert not app.exception, [error.value for error in app.exception]
    told = words(app)
    assert "Left out: damaged: " in told and "check.json is not readable as JSON" in told
    assert "anchor.json is not readable as JSON" in told and "![x](http:evil): damaged: " in told
    raw = [warning.value for warning in app.warning]
    assert not any("![x](" in each for each in raw), "a name is text"
    assert app.slider or app.get("bidi_component"), "the budget can still be moved"


def test_a_damaged_picture_is_told_and_the_page_stays(open_app, places):
    app = open_app("tokens")
    for path in (places / "runs" / NAME / "thumbnails").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    app.run()
    assert not app.exception and "damaged: " in words(app)


def test_a_place_in_the_address_that_is_not_there_is_told_and_left_out(open_app):
    app = open_app(bank="²", expert="9" * 5000)
    assert not app.exception and "The address says bank='²', and here are 0 to" in words(app)
    assert "The address says expert='99" in words(app)


READ = (  # page, what must hold for it to read them, and everything else of the address that is asked for there
    ("experts", {}, ("bank", "expert", "view", "order", "layers", "width", "tokens", "task_tokens")),
    ("learn", {}, ("step", "lecture")),
    ("learn", {"step": "5"}, ("kind",)),
    ("tokens", {}, ("look", "sample", "shown")),
    ("tokens", {"look": "routes"}, ("sample", "token")),
    ("compare", {}, ("section", "evidence", "metric", "modality")),
    ("compare", {"section": "runs"}, ("other",)),
    ("budget", {}, ("panel", "form", "job")),
    ("export", {"form": "gguf"}, ("types", "rest", "imatrix")),
    ("export", {"form": "imatrix"}, ("weighting",)),
    ("calibrate", {}, ("run", "colour")),
)


@pytest.mark.parametrize(("page", "held", "names"), READ, ids=lambda case: case if isinstance(case, str) else None)
def test_a_place_that_no_page_knows_is_told_and_left_out(open_app, places, page, held, names):
    run = Run.open(places / "runs" / NAME)
    synthetic_evidence(run.statistics).save(run.path / "evidence")
    app = open_app(page, **held, **dict.fromkeys(names, "zzz"))
    assert not app.exception
    told = words(app)
    for name in names:
        sign = {"job": "names the job 'zzz'", "colour": "says 'colour'", "run": "no run called 'zzz'"}
        assert sign.get(name, f"The address says {name}='zzz', and here ") in told, name
    assert ("zzz" in dict(app.query_params).values()) == bool({*names} - {"job", "colour"})


def test_every_place_of_the_address_is_tried():
    assert {name for _, _, names in READ for name in names} == {*address.PLACE, "colour"} - {
        "find"
    }  # any text can be looked for


HOSTILE = (
    "",
    "²",
    "0.5",
    "-1",
    "1e308",
    "nan",
    "inf",
    "1",
    "9" * 5000,
    "\0",
    "../../x",
    "1.2.3_x",
    "<img src=x>",
    "999.0.3",
)


def test_no_value_in_an_address_brings_out_a_foreign_error():
    from dashboard.state.choices import PARAMETERS, Choices, from_address, to_address

    for parameter in PARAMETERS:
        for value in HOSTILE:
            read, problems = from_address({parameter: value})
            assert problems or from_address(to_address(read))[0] == read, f"{parameter}={value}"
            if problems:
                assert read == Choices() and len(problems[0]) < 500


@pytest.mark.parametrize("page", ["budget", "quantize"])
@pytest.mark.parametrize(
    "asked",
    [{"alpha": "1e308"}, {"widths": "1"}, {"group": "0.5"}, {"pins": "999.0.3"}, {"mb": "1e-300", "budget": "MB"}],
    ids=str,
)
def test_an_impossible_address_is_told_and_no_page_breaks(open_app, page, asked):
    app = open_app(page, **asked)
    assert not app.exception
    told = words(app)
    assert any(
        sign in told for sign in ("no value for it", "left out", "do not fit", "Choose", "cannot", "lowest", "bits")
    )
