"""Statistics add up, survive the disk, and refuse what does not belong together."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from mode_core.files import atomic_write, tensor_bytes
from mode_core.statistics import BINS, FOLDS, ExpertStatistics, StatisticsError, fold_of
from tests.synthetic import synthetic_statistics


def drawn(seed: int, **more) -> ExpertStatistics:
    made = synthetic_statistics(banks=2, experts=5, seed=seed, **more)
    return replace(made, settings={"model": "x"}, samples=(f"s{seed}",))


def equal(a: ExpertStatistics, b: ExpertStatistics) -> bool:
    return a.digest() == b.digest()


@settings(max_examples=10, deadline=None)
@given(some.lists(some.integers(0, 99), min_size=3, max_size=3, unique=True))
def test_counts_add_in_any_order(seeds):
    a, b, c = map(drawn, seeds)
    one, other = (a + b) + c, (c + a) + b
    for name, bank in one.banks.items():
        for key in ("text_selections", "vision_selections/text_attention", "text_tokens"):
            np.testing.assert_array_equal(bank.arrays[key], other.banks[name].arrays[key])
        np.testing.assert_allclose(bank.arrays["text_error"], other.banks[name].arrays["text_error"], rtol=1e-12)


def test_a_sum_is_elementwise_and_weights_stay():
    a, b = drawn(1), drawn(2)
    b = replace(b, banks={n: replace(k, arrays=k.arrays | {"weight_norm": a.banks[n].arrays["weight_norm"]})
                          for n, k in b.banks.items()})  # fmt: skip
    for name, bank in (a + b).banks.items():
        np.testing.assert_array_equal(
            bank.arrays["text_weight"], a.banks[name].arrays["text_weight"] + b.banks[name].arrays["text_weight"]
        )
        np.testing.assert_array_equal(bank.arrays["weight_norm"], a.banks[name].arrays["weight_norm"])


@pytest.mark.parametrize("tokens", [3, 20_000])
def test_the_disk_keeps_every_number(tmp_path, tokens):
    """Mostly empty and mostly full arrays are stored in two ways; both come back bit for bit."""
    made = drawn(3, tokens=tokens)
    made.save(tmp_path / "s.safetensors")
    loaded = ExpertStatistics.load(tmp_path / "s.safetensors")
    assert equal(made, loaded) and loaded.samples == made.samples and loaded.settings == made.settings


def test_selections_by_task_add_survive_the_disk_and_are_not_known_of_a_part(tmp_path):
    a, b = (replace(drawn(seed, tasks=2), by_task=drawn(seed, tasks=seed).by_task) for seed in (2, 3))
    both = a + b
    assert list(both.by_task) == ["task 0", "task 1", "task 2"]
    np.testing.assert_array_equal(both.by_task["task 1"], a.by_task["task 1"] + b.by_task["task 1"])
    np.testing.assert_array_equal(both.by_task["task 2"], b.by_task["task 2"])
    both.save(tmp_path / "s.safetensors")
    loaded = ExpertStatistics.load(tmp_path / "s.safetensors")
    assert equal(both, loaded) and list(loaded.by_task) == list(both.by_task)
    assert all(np.array_equal(counts, loaded.by_task[name]) for name, counts in both.by_task.items())
    assert not both.without_fold(0).by_task and not (a + drawn(4)).by_task
    empty = replace(a, samples=(), by_task={})
    assert (a + empty).by_task.keys() == (empty + a).by_task.keys() == a.by_task.keys()
    assert equal(a, replace(a, by_task={}))  # no cost is made of them


def test_shorthand_reads_the_totals():
    bank = next(iter(drawn(4)))
    assert bank.text_selections.shape == (5,) and bank.text("error").shape == (5, 3)
    assert bank.vision_selections["text_attention"].shape == (5, BINS)
    np.testing.assert_array_equal(bank.text_selections, bank.arrays["text_selections"].sum(axis=0))
    with pytest.raises(StatisticsError, match="were calibrated with: text_attention"):
        bank.vision("selections", "diversity")
    with pytest.raises(AttributeError):
        _ = bank.nothing


def test_leaving_a_fold_out_takes_its_part_away():
    made = drawn(5)
    for fold in (0, FOLDS - 1):
        less = made.without_fold(fold)
        assert less.folds == FOLDS - 1
        for name, bank in made.banks.items():
            np.testing.assert_allclose(
                less.banks[name].text_selections, bank.text_selections - bank.arrays["text_selections"][fold]
            )


def test_folds_are_even_and_steady():
    # the first 16 hexadecimal digits of sha256sum, modulo 8; another rule would part what old runs hold
    assert [fold_of(name) for name in ("sample-1", "sample-2", "coco/000000000139.jpg", "ä")] == [3, 3, 7, 4]
    counts = np.bincount([fold_of(f"sample-{n}") for n in range(8000)], minlength=FOLDS)
    assert counts.min() > 900 and counts.max() < 1100  # 1000 ± 3.4 standard deviations


def test_what_does_not_belong_together():
    made = drawn(6)
    with pytest.raises(StatisticsError, match="1 samples are in both"):
        made + made
    with pytest.raises(StatisticsError, match="same model and the same settings"):
        made + replace(drawn(7), settings={"model": "y"})
    with pytest.raises(StatisticsError, match="differs between the two"):
        made + drawn(8, hidden=32)


def test_damaged_files(tmp_path):
    with pytest.raises(StatisticsError, match="There is no file"):
        ExpertStatistics.load(tmp_path / "none")
    made = drawn(9)
    made.save(tmp_path / "s.safetensors")
    content = (tmp_path / "s.safetensors").read_bytes()
    atomic_write(tmp_path / "cut", content[: len(content) // 2])
    with pytest.raises(StatisticsError, match=r"not a readable safetensors file .* may be cut off"):
        ExpertStatistics.load(tmp_path / "cut")
    empty = '{"format": 1, "bits": [2], "signals": ["s"], "settings": {}, "samples": [], "banks": [{"name": "x"}]}'
    for header, words in (
        ("{", "is not readable as JSON"),
        ("{}", "is damaged: format: field required"),
        ('{"format": 99}', "has the format 99; this version reads 2. Update this software"),
        (empty, "is damaged: banks.0.layer: field required"),
    ):
        atomic_write(tmp_path / "odd", tensor_bytes({"a": np.zeros(2)}, {"statistics": header}))
        with pytest.raises(StatisticsError, match=words):
            ExpertStatistics.load(tmp_path / "odd")
    atomic_write(tmp_path / "other", tensor_bytes({"a": np.zeros(2)}))
    with pytest.raises(StatisticsError, match="holds no expert statistics"):
        ExpertStatistics.load(tmp_path / "other")
