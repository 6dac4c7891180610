"""Tables, zips and pictures, damaged: samples are read, left out in the project's words, or refused; nothing else."""

import csv
import io
import json
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mode_core.errors import ModeError
from mode_core.samples import read_samples, samples_from_uploads
from tests.damage import QUICK, damaged_bytes, damaged_value, foreign

TURNS = [{"from": "human", "value": "<image>\nwhat ?"}, {"from": "gpt", "value": "red"}]
PARTS = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what ?"}]}]
ENTRIES = [
    {"id": "a", "image": "a.png", "text": "what ?", "answer": "red", "task": "t"},
    {"id": 2, "images": ["a.png"], "messages": PARTS},
    {"image": "a.png", "conversations": TURNS},
    {"question": "what ?", "A": "red", "B": "blue", "answer": "A", "image": None},
]


def picture() -> bytes:
    held = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(held, "PNG")
    return held.getvalue()


def sheet(delimiter: str) -> bytes:
    held = io.StringIO()
    rows = csv.DictWriter(held, ["index", "image", "question", "answer"], delimiter=delimiter, lineterminator="\n")
    rows.writeheader()
    rows.writerows({"index": n, "image": "a.png", "question": "what ?", "answer": "red"} for n in range(3))
    return held.getvalue().encode()


def parquet() -> bytes:
    held = io.BytesIO()
    pd.DataFrame({"image": [{"bytes": picture(), "path": "a.png"}], "question": ["what ?"]}).to_parquet(held)
    return held.getvalue()


def zipped() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("s.jsonl", json.dumps(ENTRIES[0]))
        archive.writestr("a.png", picture())
    return held.getvalue()


FILES = {"s.csv": sheet(","), "s.tsv": sheet("\t"), "s.parquet": parquet(), "s.zip": zipped(), "a.png": picture()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


def every_way(folder, name: str, content: bytes) -> None:
    """As an upload and from the disk; whatever pictures are found are opened."""
    files = {"a.png": FILES["a.png"], "s.jsonl": json.dumps(ENTRIES[0]).encode()} if name == "a.png" else {}
    files = {"a.png": FILES["a.png"]} | files | {name: content}
    for each in folder.iterdir():
        each.unlink()
    for each, data in files.items():
        (folder / each).write_bytes(data)
    for read in (
        lambda: samples_from_uploads(files),
        lambda: read_samples(folder if name == "a.png" else folder / name, on_error="collect"),
    ):

        def used(read=read) -> None:
            for sample in read():
                for source in sample.images:
                    foreign(source.load, (ModeError,))

        foreign(used, (ModeError,))


@pytest.mark.parametrize("name", ["s.json", "s.jsonl"])
@QUICK
@given(data=st.data())
def test_json(folder, name, data):
    if name == "s.json":
        content = data.draw(damaged_value(ENTRIES))
    else:
        lines = [
            data.draw(damaged_value(ENTRIES[n])) if n == 1 else json.dumps(e).encode() for n, e in enumerate(ENTRIES)
        ]
        content = b"\n".join(lines)
    every_way(folder, name, content if data.draw(st.booleans()) else data.draw(damaged_bytes(content)))


@pytest.mark.parametrize("name", FILES)
@QUICK
@given(data=st.data())
def test_bytes(folder, name, data):
    every_way(folder, name, data.draw(damaged_bytes(FILES[name])))
