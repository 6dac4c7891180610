"""`push`: what lies on the hub afterwards is the export, file by file; everything else is refused in words."""

import json

import pytest

from mode_core.cli import main
from mode_core.errors import ExportError
from mode_core.export import export
from mode_core.export.pushing import push
from tests.conftest import packable_allocation
from tests.hub import hub


@pytest.fixture
def served(monkeypatch):
    """A hub on this machine and the right token for it."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # large files go by the stand-in's own protocol
    with hub() as server:
        monkeypatch.setenv("HF_TOKEN", server.token)
        yield server


@pytest.fixture(scope="module")
def folder(packable_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("push") / "out"
    export("dequantized", packable_allocation(packable_model, (2, 3)), out, loaded=packable_model, group_size=32)
    return out


def test_every_file_arrives_in_a_private_repository(served, folder, capsys):
    arguments = ["push", str(folder), "--to", "owner/tiny-mode3", "--endpoint", served.address, "--json", "--quiet"]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    here = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert served.files == {"owner/tiny-mode3": here}
    assert served.private == {"owner/tiny-mode3": True}
    assert told["files"] == len(here) and told["bytes"] == sum(map(len, here.values()))
    assert served.messages == [json.loads(here["manifest.json"])["title"] + " (5.00 bits on average)"]


def test_a_public_one_needs_licence_and_original(served, folder):
    card = folder / "README.md"
    before = card.read_text()
    with pytest.raises(ExportError, match="names no base_model and no license, which a public model needs"):
        push(folder, "owner/open", public=True, endpoint=served.address)
    assert not served.files
    card.write_text(before.replace("---\n", "---\nbase_model: owner/tiny\nlicense: mit\n", 1))  # a person adds it
    try:
        push(folder, "owner/open", public=True, message="First", endpoint=served.address)
    finally:
        card.write_text(before)
    assert served.private == {"owner/open": False} and served.messages == ["First"]
    assert served.files["owner/open"]["README.md"].startswith(b"---\nbase_model: owner/tiny")


def test_what_the_hub_refuses_is_told(served, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ExportError, match=r"The hub refused owner/x: .*401.*'hf auth login', or set HF_TOKEN"):
        push(folder, "owner/x", endpoint=served.address)
    assert not served.files
    with hub() as gone:
        pass
    with pytest.raises(ExportError, match=r"The hub at http://127\.0\.0\.1:\d+ does not answer \(.*refused"):
        push(folder, "owner/x", endpoint=gone.address)


def test_only_whole_exports_go(served, folder, tmp_path):
    strange = folder / "notes.txt"
    strange.write_text("mine")
    try:
        with pytest.raises(ExportError, match=r"notes\.txt was put there after the export; take it away"):
            push(folder, "owner/x", endpoint=served.address)
    finally:
        strange.unlink()
    config = folder / "config.json"
    before = config.read_bytes()
    for content, words in ((before + b" ", "is not what was written"), (None, "is missing; export again")):
        config.unlink() if content is None else config.write_bytes(content)
        with pytest.raises(ExportError, match=rf"config\.json {words}"):
            push(folder, "owner/x", endpoint=served.address)
    config.write_bytes(before)
    with pytest.raises(ExportError, match=r"There is no file .*manifest\.json"):
        push(tmp_path, "owner/x", endpoint=served.address)
    with pytest.raises(ExportError, match="named 'owner/name'; got 'x'"):
        push(folder, "x", endpoint=served.address)
    assert not served.files
