"""The verb export: a coarser unit's price is told, and a folder is read piece by piece on request."""

import json

from safetensors import safe_open

from mode_core.cli import main
from tests.conftest import BUNDLED


def told(capsys, *arguments: str) -> dict:
    assert main([*arguments, "--json", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)


def test_price_and_streaming_from_the_command_line(bundled_run, tmp_path, capsys) -> None:
    run, kept = str(bundled_run.path), str(tmp_path / "three.json")
    told(capsys, "allocate", "--run", run, "--average-bits", "3", "--out", kept)
    common = ("export", "--run", run, "--allocation", kept)
    coarse = told(capsys, *common, "--target", "gguf_script", "--out", str(tmp_path / "gguf"))
    price = coarse["price_of_unit"]
    assert price["predicted_loss_as_written"] > price["predicted_loss_as_asked"] > 0
    assert (price["unit_asked"], price["unit_written"]) == ("expert", "projection")
    model = ("--model", str(BUNDLED / "model"), "--stream", "--shard-mb", "2")
    read = told(capsys, *common, "--target", "dequantized", "--out", str(tmp_path / "read"), *model)
    shards = sorted((tmp_path / "read").glob("*.safetensors"))
    assert len(shards) > 2 and read["bytes"] > sum(path.stat().st_size for path in shards)
    with safe_open(str(BUNDLED / "model" / "model.safetensors"), framework="pt") as opened:
        names = set(opened.keys())
    written = json.loads((tmp_path / "read" / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(written) == names


def test_a_wrong_target_lists_all(bundled_run, tmp_path, capsys) -> None:
    arguments = ["export", "--run", str(bundled_run.path), "--allocation", "mode 3", "--target", "x", "--out", "y"]
    assert main(arguments) == 1
    assert "auto_round: Packed checkpoint" in capsys.readouterr().err
