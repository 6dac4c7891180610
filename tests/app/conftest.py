"""A small real run in a folder of its own, and the dashboard opened on it without a browser."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard.jobs import shelf
from dashboard.state import process_wide
from mode_core.jobs import JobQueue

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "dashboard" / "app.py"
NAME = "tiny"


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory, tiny_model_folder, tiny_samples) -> Path:
    """A folder of runs with one real run of the tiny random model on eight samples."""
    from mode_core.calibration import CalibrationSettings, calibrate
    from mode_core.models import load_model
    from mode_core.run import Run

    folder = tmp_path_factory.mktemp("runs")
    settings = CalibrationSettings(bits=(1, 2, 3, 4), group_size=32, symmetric=True)
    calibrate(load_model(tiny_model_folder, device="cpu"), tiny_samples, settings, run=Run.create(folder / NAME))
    return folder


@pytest.fixture
def places(monkeypatch, tmp_path: Path) -> Path:
    """Empty folders for runs and exports; `places / "runs"` may be filled by the test."""
    monkeypatch.setenv("MODE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MODE_EXPORTS", str(tmp_path / "exports"))
    (tmp_path / "runs").mkdir()
    st.cache_resource.clear()
    monkeypatch.setattr(process_wide, "_JOBS", JobQueue())
    monkeypatch.setattr(shelf, "SHELF", shelf.ModelShelf())
    return tmp_path


@pytest.fixture
def open_app(tiny_runs: Path, places: Path):
    """`open_app("budget", ratio="30")`: the app on the tiny run, on that page, with that address."""
    shutil.copytree(tiny_runs / NAME, places / "runs" / NAME)  # a copy: what one test measures no other one finds

    def opened(page: str = "experts", **address: str) -> AppTest:
        app = AppTest.from_file(APP, default_timeout=120)
        app.query_params.update({"run": NAME} | address)
        app.run()
        return app.switch_page(str(ROOT / "pages" / f"{page}.py")).run() if page != "experts" else app

    return opened


def finish(app: AppTest, seconds: float = 180) -> AppTest:
    """Wait for the job in the address to end, and draw the page again."""
    job = process_wide.jobs().get(app.query_params["job"])
    end = time.monotonic() + seconds
    while job.active and time.monotonic() < end:
        time.sleep(0.05)
    assert not job.active, f"{job.title} still runs after {seconds} s"
    return app.run()


def payloads(app: AppTest) -> list[dict]:
    """What the page sent to components of its own: charts, readouts, sliders, steps."""
    held = [element.proto for element in app.get("bidi_component")]
    return [json.loads(proto.bytes or proto.json) for proto in held]


def figures(app: AppTest) -> dict[str, str]:
    """Label → value of every figure in the page's readouts."""
    return {one["label"]: one["value"] for sent in payloads(app) for one in sent.get("readout", {}).get("figures", ())}


def words(app: AppTest) -> str:
    """Everything written on the page, for looking up what it says."""
    kinds = (app.title, app.subheader, app.markdown, app.caption, app.info, app.warning, app.error, app.success)
    written = [str(element.value) for kind in kinds for element in kind]
    for sent in payloads(app):
        if said := sent.get("readout"):
            written.append(f"**{said['strong']}** {said['plain']}")
        if sent.get("caption"):
            written.append(sent["figure"]["summary"])
    return as_shown("\n".join(written))


def as_shown(text: str) -> str:
    """Markdown in which `plain` marked what others wrote, as a reader sees those parts."""
    return re.sub(r"\\([\\`*_\[\]<$~&+#>=|.)-])", r"\1", text).replace("\u2060", "")
