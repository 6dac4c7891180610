"""Exemplars against a plain sort of all choices, taken apart and merged, written and read back. Seed 11."""

import numpy as np
import pytest
from PIL import Image

from mode_core.calibration import CalibrationSettings, calibrate
from mode_core.calibration import exemplars as collecting
from mode_core.calibration.exemplars import PICTURE_MARK, ExemplarSums, snippet
from mode_core.models import PADDING, TEXT, VISION, load_model
from mode_core.probing.probe import Probe
from mode_core.run import Run
from mode_core.statistics.exemplars import (
    AFTER,
    BEFORE,
    NO_TOKEN,
    Exemplars,
    ExemplarsError,
    PatchExemplar,
    cell_of,
    sample_key,
)

SETTINGS = CalibrationSettings(bits=(2,), group_size=16, batch_size=3, sensitivity=False, exemplars=3)
BANKS = ("model.language_model.layers.0.mlp.experts", "model.language_model.layers.2.mlp.experts")


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    """In float64, so that weights are alike whatever shares a batch."""
    loaded = load_model(tiny_model_folder, device="cpu")
    loaded.model.double()
    loaded.model.set_experts_implementation("eager")
    return loaded


@pytest.fixture(scope="module")
def run(model, tiny_samples, tmp_path_factory):
    made = Run.create(tmp_path_factory.mktemp("exemplars") / "run")
    calibrate(model, tiny_samples, SETTINGS, run=made)
    return Run.open(made.path)


def everything(model, samples):
    """Every choice of every token, one sample at a time: (bank, kind, expert) → sorted list, the best first."""
    found = {}
    tokenizer = model.processor.tokenizer
    for sample in samples:
        rows, encoded = [], model.encode([sample])
        with Probe(model, ("duplication",), rows.append) as probe:
            probe.run(encoded)
        ids, modality = encoded.inputs["input_ids"][0].tolist(), encoded.modality[0].tolist()
        for seen in rows:
            for position, kind in enumerate(modality):
                before = tuple(ids[max(0, position - BEFORE) : position + 1])
                place = sum(m == VISION for m in modality[:position])
                group = before if kind == TEXT else (sample.id, place)
                said = tokenizer.decode(ids[position : position + 1])
                for expert, weight in zip(
                    seen.experts[position].tolist(), seen.weights[position].tolist(), strict=True
                ):
                    template = bool(encoded.template_mask[0, position])
                    rank = (template, -np.float32(weight), sample_key(sample.id), position)
                    entry = (rank, group, sample.id, position, said, place)
                    found.setdefault((seen.bank.name, kind, expert), []).append(entry)
    return {key: sorted(entries) for key, entries in found.items()}


def best(entries, count):
    kept, groups = [], set()
    for entry in entries:
        if entry[1] not in groups and len(kept) < count:
            groups.add(entry[1])
            kept.append(entry)
    return kept


def test_the_best_of_each_expert_are_those_of_a_plain_sort(model, tiny_samples, run):
    found, expected = run.exemplars(), everything(model, tiny_samples)
    for bank in BANKS:
        for expert in range(8):
            words, patches = found.text(bank, expert), found.patches(bank, expert)
            for kind, got in ((TEXT, words), (VISION, patches)):
                wanted = best(expected.get((bank, kind, expert), []), 3)
                assert [(g.sample, g.position) for g in got] == [(w[2], w[3]) for w in wanted]
                np.testing.assert_allclose([g.weight for g in got], [-w[0][1] for w in wanted], rtol=1e-6)
            heard = best(expected.get((bank, TEXT, expert), []), 3)
            assert [g.token.strip() for g in words] == [w[4].strip() for w in heard]
            assert [g.place for g in patches] == [w[5] for w in best(expected.get((bank, VISION, expert), []), 3)]
            assert [g.template for g in words] == sorted(g.template for g in words)


def test_a_snippet_reads_as_the_sample_does(model, tiny_samples, run):
    texts = {sample.id: "".join(sample.text.split()) for sample in tiny_samples}
    written = [t for bank in BANKS for expert in range(8) for t in run.exemplars().text(bank, expert) if not t.template]
    assert written
    for found in written:
        assert found.token.strip() and found.token.strip() in texts[found.sample]
        around = found.before + found.token + found.after
        assert PICTURE_MARK + PICTURE_MARK not in around and "<|image_pad|>" not in around


def test_patches_lie_where_their_token_does(tiny_samples, run):
    sizes = {sample.id: sample.images[0].load().size for sample in tiny_samples if sample.images}
    patches = [p for bank in BANKS for expert in range(8) for p in run.exemplars().patches(bank, expert)]
    assert patches
    for patch in patches:
        (row, column), (rows, columns) = patch.cell, patch.grid
        assert patch.place == row * columns + column and patch.image == 0
        left, top, right, bottom = patch.box
        assert (left, top) == (column / columns, row / rows)
        assert right - left == pytest.approx(1 / columns) and bottom - top == pytest.approx(1 / rows)
        width, height = sizes[patch.sample]
        assert patch.crop().size == pytest.approx((width / columns, height / rows), abs=1)
        assert patch.crop(context=100).size == (width, height)


def test_boxes_by_hand():
    patch = PatchExemplar("a", 0.5, 9, 5, 0, (1, 2), (2, 3), None)
    assert patch.box == (2 / 3, 1 / 2, 1, 1)
    assert patch.pixels((300, 100)) == (200, 50, 300, 100)
    assert patch.pixels((300, 100), context=1) == (100, 0, 300, 100)
    assert patch.crop() is None
    assert cell_of(7, [[2, 3], [1, 4]]) == (1, (0, 1), (1, 4))
    assert cell_of(7, None) == cell_of(10, [[2, 3], [1, 4]]) == (None, None, None)
    assert PatchExemplar("a", 0.5, 9, 5, None, None, None, None).box is None


def collected(model, samples, batch_size=2, start=None):
    sums = ExemplarSums(model, 3, start)
    with Probe(model, ("duplication",), sums.observe) as probe:
        for first in range(0, len(samples), batch_size):
            probe.run(model.encode(samples[first : first + batch_size]))
    return sums.result()


def same(one: Exemplars, other: Exemplars) -> bool:
    names = ("template", "sample", "position", "place")
    tables = all((one.tables[b][n] == other.tables[b][n]).all() for b in BANKS for n in names)
    return tables and one.samples == other.samples and one.snippets == other.snippets


def test_parts_merge_to_the_whole_in_any_order_and_batch_size(model, tiny_samples, tmp_path):
    whole = collected(model, tiny_samples)
    parts = [collected(model, part, 1) for part in (tiny_samples[:3], tiny_samples[3:5], tiny_samples[5:])]
    assert same(whole, parts[0] + parts[1] + parts[2]) and same(whole, parts[2] + (parts[1] + parts[0]))
    assert same(whole, collected(model, tiny_samples[::-1], 8))
    parts[0].save(tmp_path)
    assert same(whole, collected(model, tiny_samples[3:], start=Exemplars.load(tmp_path)))
    with pytest.raises(ExemplarsError, match="cannot be merged"):
        whole + Exemplars.empty(dict.fromkeys(BANKS, 8), 5)


def test_pictures_are_bounded_and_those_most_referred_to(model, tiny_samples, run, monkeypatch, tmp_path):
    monkeypatch.setattr(collecting, "PICTURES", 2)
    found, folder = run.exemplars(), tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (4, 4)).save(folder / "stale-0.jpg")
    collecting.save_pictures(found, folder, {sample_key(s.id): s for s in tiny_samples})
    counts = found.media_counts()
    assert sum(counts.values()) == sum(len(found.patches(b, e)) for b in BANKS for e in range(8))
    kept = {int(path.name[:16], 16) for path in folder.iterdir()}
    ranked = sorted(counts, key=lambda place: (-counts[place], place))
    assert kept == {key for key, *_ in ranked[:2]}


def test_nothing_is_collected_where_none_are_asked_for(model, tiny_samples, tmp_path):
    made = Run.create(tmp_path / "run")
    settings = CalibrationSettings(bits=(2,), group_size=16, sensitivity=False, exemplars=0)
    calibrate(model, tiny_samples[:1], settings, run=made)
    assert made.exemplars() is None


def test_a_damaged_file_is_told(run, tmp_path):
    (tmp_path / "exemplars.safetensors").write_bytes(b"no")
    with pytest.raises(ExemplarsError, match=r"exemplars\.safetensors is not a readable"):
        Exemplars.load(tmp_path)
    with pytest.raises(ExemplarsError, match=r"no bank 'x'; they hold: model\.language_model"):
        run.exemplars().text("x", 0)


def test_snippets_mark_pictures_once(model):
    tokenizer, vision = model.processor.tokenizer, model.vision_ids
    ids = np.full(BEFORE + 1 + AFTER, NO_TOKEN, np.int32)
    red, yes, picture = (tokenizer.convert_tokens_to_ids(word) for word in ("red", "yes", "<|image_pad|>"))
    ids[BEFORE - 4 : BEFORE + 3] = [yes, picture, picture, yes, red, picture, yes]
    before, token, after = snippet(tokenizer, vision, ids)
    assert (before, token.strip(), after) == (f"yes{PICTURE_MARK}yes", "red", f"{PICTURE_MARK}yes")


def test_padding_is_never_an_exemplar(model, tiny_samples):
    seen = model.encode(tiny_samples, padding_side="left")
    sums = ExemplarSums(model, 64)
    with Probe(model, ("duplication",), sums.observe) as probe:
        probe.run(seen)
    lengths = dict(zip(seen.ids, seen.lengths, strict=True))
    found = sums.result()
    total = dict.fromkeys(lengths, 0)
    for bank in BANKS:
        for expert in range(8):
            for entry in (*found.text(bank, expert), *found.patches(bank, expert)):
                assert entry.position < lengths[entry.sample]
                total[entry.sample] += 1
    assert (seen.modality == PADDING).any() and all(total.values())
