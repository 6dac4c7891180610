"""Files far larger than what is used of them: memory is that of what is used, and nothing is refused for its number."""

import json
import tracemalloc
from itertools import islice

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mode_core.samples import images, read_samples
from mode_core.samples.files import FolderFiles
from mode_core.samples.tables import entries

PUBLISHED = 102_025  # entries of ShareGPT4V's cap100k


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    at = tmp_path_factory.mktemp("large")
    Image.new("RGB", (8, 8)).save(at / "a.png")
    answer = "word " * 60
    with (at / "large.json").open("w") as out:
        out.write("[")
        for n in range(PUBLISHED):
            talk = [{"from": "human", "value": f"<image>\nquestion {n}"}, {"from": "gpt", "value": answer}]
            out.write(("," if n else "") + json.dumps({"id": f"{n:06d}", "image": "a.png", "conversations": talk}))
        out.write("]")
    return at


def test_as_many_entries_as_are_published_are_drawn_from_in_little_memory(folder):
    found = read_samples(folder / "large.json", limit=16)
    assert len(found) == 16 and found.drawn["of"] == PUBLISHED
    assert np.ptp(np.array([int(sample.id) for sample in found])) > PUBLISHED // 2
    tracemalloc.start()  # which makes all of it slow: a quarter
    places = sum(1 for _ in islice(entries("large.json", FolderFiles(folder)), PUBLISHED // 4))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert places == PUBLISHED // 4 and (folder / "large.json").stat().st_size > 44e6 and peak < 24e6


def test_the_first_entries_are_read_without_the_others(folder):
    first = list(islice(entries("large.json", FolderFiles(folder)), 3))
    assert [where for where, _ in first] == [f"large.json, entry {n}" for n in (1, 2, 3)]
    with (folder / "cut.json").open("wb") as cut:
        cut.write((folder / "large.json").read_bytes()[: 1 << 20])
    assert len(read_samples(folder / "cut.json", limit=5, first=True)) == 5  # never came to where it is cut off


def test_an_entry_larger_than_a_block_is_read(tmp_path):
    long = "x" * (9 << 20)
    rows = [{"image": None, "question": "a", "more": long}, {"image": None, "question": "b"}]
    for name, text in (("s.json", json.dumps(rows)), ("s.jsonl", "\n".join(map(json.dumps, rows)))):
        (tmp_path / name).write_text(text)
        assert [s.text for s in read_samples(tmp_path / name)] == ["a", "b"]


def test_pictures_of_a_table_stay_in_the_file(tmp_path):
    held = {"bytes": (tmp_path / "x.png"), "path": "x.png"}
    Image.effect_noise((256, 256), 60).save(held["bytes"])
    content = held["bytes"].read_bytes()
    rows = [{"id": n, "image": {"bytes": content, "path": "x.png"}, "question": "?"} for n in range(400)]
    pd.DataFrame(rows).to_parquet(tmp_path / "s.parquet", row_group_size=20)
    tracemalloc.start()
    found = read_samples(tmp_path / "s.parquet", limit=8)
    held_now = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(content) * 400 > 20e6 and held_now < 3e6
    assert all(sample.images[0].read() == content for sample in found) and len(content) < images.MAX_IMAGE_BYTES
