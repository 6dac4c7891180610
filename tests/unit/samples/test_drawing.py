"""Drawing N of many: even over tasks and pictures, the same from a stream as from a list, bad ones replaced."""

import json
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from mode_core.samples import SampleError, read_samples
from mode_core.samples.drawing import SPARE, Draw


def drawn(strata, limit, seed=0, bad=frozenset()):
    draw = Draw(limit, seed)
    for place, stratum in enumerate(strata):
        draw.offer(stratum, place)
    return [place for place, _ in draw.chosen(lambda place, item: None if place in bad else item)]


strata = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=60)


@given(strata, st.integers(1, 70), st.integers(0, 3))
def test_every_stratum_gives_the_same_number_or_all_it_has(strata, limit, seed):
    chosen = drawn(strata, limit, seed)
    assert len(chosen) == min(limit, len(strata)) and chosen == sorted(set(chosen))
    taken, there = Counter(strata[place] for place in chosen), Counter(strata)
    most = max(taken.values())
    assert all(taken[s] >= min(there[s], most - 1) for s in there)


@given(strata, st.integers(1, 20), st.sets(st.integers(0, 59)))
@example([("a", False)] * 4 + [("b", False), ("a", True), ("b", True)], 2, {4})
def test_what_is_bad_is_replaced_and_changes_nothing_else(strata, limit, bad):
    """Where bad items show only when they are made, the rest is drawn as if they had never been strata's items."""
    from_stream = drawn(strata, limit, bad=bad)
    draw = Draw(limit, 0)
    for place, stratum in enumerate(strata):
        draw.skip() if place in bad else draw.offer(stratum, place)
    assert from_stream == [place for place, _ in draw.chosen(lambda place, item: item)]


def test_a_draw_is_fair_repeatable_and_moved_by_the_seed():
    one = [("", True)] * 40
    assert drawn(one, 10) == drawn(one, 10) != drawn(one, 10, seed=1)
    counts = Counter(place for seed in range(400) for place in drawn(one, 10, seed))
    assert len(counts) == 40 and min(counts.values()) > 60 and max(counts.values()) < 140  # 100 on the average
    assert sum(map(len, Draw(3)._held.values())) == 0 and SPARE >= 1


def test_pictures_and_none_alternate_where_there_are_more_strata_than_places():
    strata = [(task, kind) for task in "abcdefgh" for kind in (True, False)]
    for limit in (2, 4, 6):
        assert Counter(strata[place][1] for place in drawn(strata, limit)) == {True: limit // 2, False: limit // 2}


def test_memory_is_that_of_what_can_be_drawn():
    draw = Draw(4)
    for place in range(5000):
        draw.offer(("", place % 2 == 0), place)
    assert {len(held) for held in draw._held.values()} == {4 + SPARE}


@pytest.fixture
def mixed(tmp_path):
    """20 entries with a picture (the 7th gone), 4 without, and a line that is no JSON."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    lines = [json.dumps({"id": n, "image": "a.png" if n != 7 else "gone.png", "question": "?"}) for n in range(20)]
    lines += ["{no", *(json.dumps({"id": n, "image": None, "question": "?", "task": "t"}) for n in range(20, 24))]
    (tmp_path / "s.jsonl").write_text("\n".join(lines))
    return tmp_path / "s.jsonl"


@pytest.mark.parametrize("limit", [1, 2, 6, 15, 22, 40])
def test_a_list_is_drawn_from_as_a_file_is(mixed, limit):
    whole = read_samples(mixed, on_error="collect")
    assert len(whole) == 23 and len(whole.errors) == 2
    found = read_samples(mixed, on_error="collect", limit=limit)
    assert [s.id for s in found] == [s.id for s in whole.draw(limit)] and len(found) == min(limit, 23)
    assert found.drawn == {"by": "task and picture", "seed": 0, "of": 25}


def test_the_mix_says_what_there_is(mixed):
    found = read_samples(mixed, on_error="collect", limit=6)
    assert found.mix() == {"with pictures": {"no task named": 3}, "without pictures": {"t": 3}}


def test_first_takes_the_first_and_reads_no_further(mixed):
    found = read_samples(mixed, limit=3, first=True)
    assert [s.id for s in found] == ["0", "1", "2"] and found.drawn == {"by": "the first"}
    with pytest.raises(SampleError, match=r"line 8: there is no picture 'gone.png'"):
        read_samples(mixed, limit=9, first=True)
    with pytest.raises(ValueError, match=r"--limit must be at least 1; got 0"):
        read_samples(mixed, limit=0)
