"""What is exported, read back with other eyes; and folders that are there whole or not at all."""

import dataclasses
import hashlib
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mode_core.allocation import UNITS
from mode_core.allocation.records import Allocation
from mode_core.export import GROUPS, TARGETS, ExportError, export, read_expert_bits
from mode_core.importance import cost_table, frequencies
from mode_core.jobs import Cancelled
from mode_core.quantization import Quantizer, expert_bytes
from tests.synthetic import synthetic_statistics

STATISTICS = synthetic_statistics(banks=3, experts=8, unsupported=1)


def allocation(by_projection: bool = False) -> Allocation:
    draw = np.random.default_rng(1)
    shape = (8, 2) if by_projection else 8
    bits = {bank: draw.choice([2, 3, 4], shape) for bank in STATISTICS.banks}
    unit = "expert_projection" if by_projection else "expert"
    return Allocation(bits, (2, 3, 4), 1.5, 1.5, True, 0.01, 3.0, unit=unit, method="mode")


def test_expert_bits_read_back_equal_the_allocation(tmp_path: Path) -> None:
    chosen = allocation()
    result = export("expert_bits", chosen, tmp_path / "out", statistics=STATISTICS)
    read = read_expert_bits(tmp_path / "out" / "expert_bits.json")
    assert list(read) == [0, 1, 2]
    for bits, bank in zip(read.values(), STATISTICS, strict=True):
        assert bits.tolist() == chosen.bits[bank.name].tolist()
    plain = json.loads((tmp_path / "out" / "expert_bits.json").read_text())
    assert plain.keys() == {"metadata", "expert_bits"}
    assert plain["expert_bits"]["2"]["7"] == chosen.bits[list(chosen.bits)[2]][7]
    assert [path.name for path in result.files] == ["expert_bits.json", "manifest.json"]


def test_table_read_back_with_pandas(tmp_path: Path) -> None:
    chosen, costs = allocation(), cost_table(STATISTICS, "mode", key_ratio=0.3)
    export("table", chosen, tmp_path / "out", statistics=STATISTICS, costs=costs, group_size=16)
    table = pd.read_csv(tmp_path / "out" / "experts.csv")
    pd.testing.assert_frame_equal(table, pd.read_parquet(tmp_path / "out" / "experts.parquet"), check_dtype=False)
    assert len(table) == 3 * 8
    shares = frequencies(STATISTICS, 0.3)
    for layer, bank in enumerate(STATISTICS):
        rows = table[table.bank == bank.name]
        assert rows.layer.eq(layer).all()
        assert rows.expert.tolist() == list(range(8))
        assert rows.bits.tolist() == chosen.bits[bank.name].tolist()
        np.testing.assert_allclose(rows.frequency_key, shares[bank.name].key)
        np.testing.assert_allclose(rows["cost_3bit"], costs[bank.name][:, 1])
        np.testing.assert_allclose(
            rows.cost, np.take_along_axis(costs[bank.name], chosen.bits[bank.name][:, None] - 2, 1)[:, 0]
        )
        support = bank.text("support")
        expected = bank.text("error")[:7, 0] / support[:7] / bank.shape.hidden
        np.testing.assert_allclose(rows["sensitivity_text_2bit"][:7], expected)
        assert rows["sensitivity_text_2bit"].isna().tolist() == [False] * 7 + [True]  # never routed: empty, not 0
        assert rows.unsupported.tolist() == [False] * 7 + [True]
        sizes = dict(zip((2, 3, 4), expert_bytes(bank.shape, (2, 3, 4), 16), strict=True))
        assert rows.packed_bytes.tolist() == [sizes[width] for width in rows.bits]


def test_table_without_statistics_and_by_projection(tmp_path: Path) -> None:
    chosen = allocation(by_projection=True)
    export("table", chosen, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "experts.csv")
    assert table.columns.tolist() == ["bank", "layer", "expert", "bits_gate_up", "bits_down"]
    assert table[["bits_gate_up", "bits_down"]].to_numpy().tolist() == np.concatenate([*chosen.bits.values()]).tolist()


def test_manifest_states_origin_bytes_and_checksums(tmp_path: Path) -> None:
    chosen = allocation()
    result = export("table", chosen, tmp_path / "out", statistics=STATISTICS, group_size=16)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest == json.loads(json.dumps(result.manifest, default=str))
    assert manifest["run"]["digest"] == STATISTICS.digest()
    assert manifest["model"] == {"model": "synthetic, for tests"}
    assert Quantizer.from_dict(manifest["quantizer"]) == Quantizer(group_size=16, symmetric=True)
    table = pd.read_csv(tmp_path / "out" / "experts.csv")
    assert manifest["predicted_expert_bytes"] == table.packed_bytes.sum()
    for name, entry in manifest["files"].items():
        content = (tmp_path / "out" / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_failed_or_cancelled_writing_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    def breaks(request, folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError("No space left on device")

    monkeypatch.setitem(TARGETS, "table", dataclasses.replace(TARGETS["table"], write=breaks))
    with pytest.raises(OSError, match="No space"):
        export("table", allocation(), tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        export("expert_bits", allocation(), tmp_path / "new", statistics=STATISTICS, cancel=stop)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_export_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch) -> None:
    export("expert_bits", allocation(), tmp_path / "out", statistics=STATISTICS)
    earlier = (tmp_path / "out" / "expert_bits.json").read_text()

    def breaks(request, folder: Path) -> None:
        (folder / "expert_bits.json").write_text("{")
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setitem(TARGETS, "expert_bits", dataclasses.replace(TARGETS["expert_bits"], write=breaks))
        with pytest.raises(OSError, match="No space"):
            export("expert_bits", allocation(), tmp_path / "out", statistics=STATISTICS)
    assert (tmp_path / "out" / "expert_bits.json").read_text() == earlier
    other = dataclasses.replace(allocation(), bits={bank: np.full(8, 4) for bank in STATISTICS.banks})
    export("expert_bits", other, tmp_path / "out", statistics=STATISTICS)
    assert set(read_expert_bits(tmp_path / "out" / "expert_bits.json")[0]) == {4}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ExportError, match="holds something other than an earlier 'table' export"):
        export("table", allocation(), tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    with pytest.raises(ExportError, match="no export target 'gguff'; choose one of: auto_round, dequantized"):
        export("gguff", allocation(), tmp_path / "out")
    with pytest.raises(ExportError, match=r"holds one width for one expert.*too fine.*solve with unit 'expert'"):
        export("expert_bits", allocation(by_projection=True), tmp_path / "out")
    with pytest.raises(ExportError, match="needs it loaded"):
        export("dequantized", allocation(), tmp_path / "out")
    seven = dataclasses.replace(allocation(), bits={"a.layers.0.b": np.array([7])})
    with pytest.raises(ExportError, match="no 7-bit experts"):
        export("table", seven, tmp_path / "out")
    other = dataclasses.replace(allocation(), bits={"a.layers.0.b": np.array([3])})
    with pytest.raises(ExportError, match=r"different models: banks only in the allocation \['a.layers.0.b'\]"):
        export("table", other, tmp_path / "out", statistics=STATISTICS)
    twins = dataclasses.replace(allocation(), bits={"a.layers.0.x": np.array([3]), "a.layers.0.y": np.array([3])})
    with pytest.raises(ExportError, match="more than one expert bank"):
        export("expert_bits", twins, tmp_path / "out")
    (tmp_path / "gap.json").write_text('{"expert_bits": {"0": {"0": 2, "2": 3}}}')
    with pytest.raises(ExportError, match="layer 0: experts must be 0 … 1 without a gap"):
        read_expert_bits(tmp_path / "gap.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gap.json", "mine"]


KILLED = """
import os, signal, sys
import numpy as np
from mode_core.allocation.records import Allocation
from mode_core.export import TARGETS, export
import dataclasses
def half(request, folder):
    (folder / "half.bin").write_bytes(b"x" * 1000)
    os.kill(os.getpid(), signal.SIGKILL)
TARGETS["table"] = dataclasses.replace(TARGETS["table"], write=half)
export("table", Allocation({"layers.0.x": np.array([3])}, (3,), 0.0, 0.0, False, 0.0, 3.0), sys.argv[1])
"""


def test_a_kill_leaves_nothing_half_and_the_next_export_sweeps_up(tmp_path: Path) -> None:
    export("table", allocation(), tmp_path / "out")
    before = (tmp_path / "out" / "experts.csv").read_bytes()
    command = [sys.executable, "-c", KILLED, str(tmp_path / "out")]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], timeout=120)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.glob(".out.*.part")
    assert (left / "half.bin").is_file()
    assert (tmp_path / "out" / "experts.csv").read_bytes() == before
    export("table", allocation(), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    def fills(request, folder: Path) -> None:
        (folder / "experts.csv").write_text("bank,layer\n")
        with Path("/dev/full").open("wb", buffering=0) as disk:
            disk.write(b"x" * 10_000)

    monkeypatch.setitem(TARGETS, "table", dataclasses.replace(TARGETS["table"], write=fills))
    with pytest.raises(OSError, match="No space left on device"):
        export("table", allocation(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_target_whose_package_is_missing_says_which_to_install(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(TARGETS, "table", dataclasses.replace(TARGETS["table"], needs="not_on_this_machine"))
    with pytest.raises(ExportError, match="written with the package not_on_this_machine; install it: pip install not"):
        export("table", allocation(), tmp_path / "out")


def test_every_target_says_what_a_person_must_know() -> None:
    for name, target in TARGETS.items():
        assert target.name == name
        assert target.finest_unit in UNITS
        assert target.widths == tuple(sorted(target.widths))
        assert target.group in GROUPS and target.for_whom.endswith(".")
        assert target.title and target.engines.endswith(".") and target.proof.endswith(".")


def test_the_catalogue_goes_group_by_group_and_begins_with_the_one_to_start_with() -> None:
    listed = [target.group for target in TARGETS.values()]
    assert list(dict.fromkeys(listed)) == list(GROUPS)
    assert listed == sorted(listed, key=list(GROUPS).index)
    assert [name for name, target in TARGETS.items() if target.recommended] == [next(iter(TARGETS))] == ["auto_round"]
