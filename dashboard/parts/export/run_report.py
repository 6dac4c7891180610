"""What the report of the open run says: gathered from the session, written by `dashboard.parts.export.report`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from dashboard import charts
from dashboard.charts.measures import divergences
from dashboard.parts import served
from dashboard.parts.budget import bits_map, damage
from dashboard.parts.budget.budget_words import headline, metrics
from dashboard.parts.export import compare_report
from dashboard.parts.export.report import Section, report
from dashboard.state import address, current_run, estimating, measured, process_wide, solving
from dashboard.state.choices import describe
from dashboard.words import names
from dashboard.words.sizes import size_text
from mode_core.importance import coverage_sentences
from mode_core.run import Run
from mode_core.runs.records import tokens_in_words
from mode_core.statistics import ExpertStatistics

PAPER = "Method: MODE, arXiv 2606.17118. Damage that is predicted is an estimate; measured values are called measured."


def build(command: str) -> str:
    """The report of the open run and of what is chosen now, as HTML; `command` makes the same bits again."""
    return report(f"MODE report: {current_run.run_entry().label}", PAPER, sections(command))


def sections(command: str) -> list[Section]:
    """What the report says, in its order; the paper kit takes its figures and tables."""
    results = (*_measured(), *compare_report.sections())
    return [_about(), *_traffic(), _experts(), _allocation(), *results, _again(command)]


def _about() -> Section:
    run, statistics = current_run.run(), current_run.statistics()
    return Section("The run", facts=facts(run) | {"Settings of this report": describe(solving.settings_now())},
                   sentences=_caveats(statistics.settings) + _covered(current_run.calibrated()))  # fmt: skip


def facts(run: Run) -> dict[str, Any]:
    """What was measured on what, by run.json."""
    info, statistics = run.info, run.statistics
    model = info.get("model", {})
    return {
        "Model": f"{model.get('name') or statistics.settings.get('model', 'unknown')}, revision "
        f"{model.get('revision') or 'unknown'}",
        "Expert banks": f"{len(statistics.banks)} of "
        + ", ".join(sorted({str(bank.shape.experts) for bank in statistics}))
        + " experts",
        "Calibration samples": f"{len(statistics.samples)} (digest {info.get('samples', {}).get('digest', 'unknown')})",
        "Tokens": tokens_in_words(info) or "unknown",
        "State": run.state,
        "Versions": ", ".join(f"{name} {version}" for name, version in info.get("versions", {}).items()) or "unknown",
    }


def _traffic() -> list[Section]:
    """Whose frequencies they are, where they are not the calibration's."""
    if (found := current_run.profile()) is None:
        return []
    return [Section("Traffic", [served.told(found), served.unseen(found)], [served.figure(found)])]


def _caveats(settings: Mapping[str, Any]) -> list[str]:
    return [f"Imported: {settings['origin']}."] if "origin" in settings else []


def _covered(statistics: ExpertStatistics) -> list[str]:
    return [f"{told[0].upper()}{told[1:]}." for told in coverage_sentences(statistics).values()]


def _grid() -> charts.FrequencyGrid:
    now = address.choices().request
    return charts.FrequencyGrid.of(current_run.statistics(), solving.frequencies(), now.key_ratio, now.signal)


def _experts() -> Section:
    now, grid = address.choices().request, _grid()
    errors = charts.SensitivityGrid.of(current_run.statistics(), now.key_ratio, now.signal)
    bits = 3 if 3 in errors.bits else errors.bits[len(errors.bits) // 2]
    told = f"Key vision tokens: the best {100 * now.key_ratio:.0f} % by {names.signal(now.signal)}."
    apart = charts.divergence_by_layer(grid.axes.ticks, divergences(grid))
    title = "Who uses which expert, and what rounding would break"
    return Section(title, [told], [charts.expert_maps(grid, errors, bits), apart])


def _allocation() -> Section:
    found = solving.allocation()
    rival = solving.uniform_like(found)
    proof = "Proven optimal" if found.proven_optimal else f"Not proven; lower bound {found.lower_bound:.4g}"
    axes, bits = bits_map.laid_out(found.bits)
    figures = [charts.bit_map(axes, bits, found.widths), damage.curve(found, in_memory=False),
               damage.by_layer(found, rival)]  # fmt: skip
    told, figures_told = headline(found, rival), metrics(found, rival).figures
    sentences = [
        f"{names.method(found.method)}: {found.average_bits:.3f} bits on average, "
        f"{estimating.effective_bits(found):.2f} with scales, {size_text(found.bytes)}; "
        f"{estimating.uniform_name(rival)}: {size_text(rival.bytes)}. {proof} at a summed cost of "
        f"{found.objective:.4g}, in its own unit.",
        f"{told.strong} {told.plain}",
        " ".join(f"{one.label}: {one.value} ({one.beside})." for one in figures_told),
    ]
    return Section("Bits of every expert", sentences, figures)


def _measured() -> list[Section]:
    """Every measurement of this run; those of other settings say theirs."""
    sections = []
    for found in process_wide.measurements():
        now = "of these settings" if found.fingerprint == solving.fingerprint() else "of other settings"
        frames = [measured.divergence_frame(found), measured.size_frame(found)]
        accuracy = measured.accuracy_frame(found)
        figures = [] if accuracy.empty else [charts.accuracy_by_task(accuracy)]
        told = [f"{describe(found.settings)}.", *found.notes]
        sections.append(Section(f"Measured, {now}", told, figures, [_plain(frame) for frame in frames]))
    return sections or [Section("Measured", ["Nothing has been measured with this run yet."])]


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.round(5)


def _again(command: str) -> Section:
    return Section("The same on the command line", code=command)
