"""A sample with sound goes the whole road on a tiny Qwen3-Omni thinker: read, encoded, calibrated, allocated for,
quantized, evaluated, exported; and what does not hear refuses it in words."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mode_core.calibration import balance, calibrate
from mode_core.calibration.gallery import Gallery
from mode_core.calibration.logit_kl import measure_logit_kl
from mode_core.calibration.settings import CalibrationSettings
from mode_core.errors import CalibrationError
from mode_core.evaluation import evaluate, record_reference
from mode_core.export import export
from mode_core.importance import frequencies
from mode_core.models import AUDIO, TEXT, VISION, load_model
from mode_core.models.encoding import audio_token_ids
from mode_core.quantization import quantize_experts
from mode_core.request import AllocationRequest
from mode_core.run import Run
from mode_core.samples import (
    AudioSource,
    ImageSource,
    Sample,
    SampleError,
    SampleList,
    read_samples,
    samples_from_uploads,
)
from mode_core.samples.spectrograms import spectrogram
from mode_core.statistics.imatrix import InputEnergies
from tests.conftest import drawn_picture
from tests.families.making import save_family
from tests.sounds import RATE, sound


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four samples: a sound; a sound and a picture in a chat; text alone; two sounds."""
    place = tmp_path_factory.mktemp("sounds")
    (place / "a.wav").write_bytes(sound(1.0, 440))
    (place / "b.wav").write_bytes(sound(0.5, 880, channels=2))
    drawn_picture(32, 32, np.random.default_rng(1)).save(place / "p.png")
    parts = [
        {"type": "audio", "audio": "b.wav"},
        {"type": "image", "image": "p.png"},
        {"type": "text", "text": "red ?"},
    ]
    rows = [
        {"id": "one", "audio": "a.wav", "question": "what is the circle ?", "answer": "red"},
        {"id": "both", "messages": [{"role": "user", "content": parts}], "answer": "blue"},
        {"id": "none", "images": [], "question": "how many are there ?", "answer": "yes"},
        {"id": "two", "audios": ["a.wav", "b.wav"], "question": "is it red ? <audio> or <audio>", "answer": "no"},
    ]
    (place / "samples.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return place


@pytest.fixture(scope="module")
def samples(folder):
    return read_samples(folder / "samples.jsonl")


@pytest.fixture(scope="module")
def hearing(tmp_path_factory):
    return load_model(save_family("qwen3_omni_moe_thinker", tmp_path_factory.mktemp("omni") / "omni"), device="cpu")


def test_sounds_are_read_from_files_and_uploads(folder, samples):
    assert [sample.modality for sample in samples] == ["audio", "audio", "text", "audio"] and not samples.errors
    assert [part["type"] for part in samples[3].prompt()[0]["content"]] == ["text", "audio", "text", "audio"]
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    sent = samples_from_uploads(files)
    assert [s.audio[0].file.data for s in (sent[0], sent[1])] == [files["a.wav"], files["b.wav"]]
    unnamed = [Sample((), ({"role": "user", "content": "?"},), audio=(one.audio[0],)) for one in (sent[0], sent[1])]
    assert unnamed[0].id != unnamed[1].id
    b = samples[1].audio[0]
    assert b.seconds == 0.5 and len(b.load(16_000)) == 8000 and len(b.load(RATE)) == 4000
    tone = 9000 / 2**15 * np.sin(2 * np.pi * 880 * np.arange(8000) / 16_000)
    np.testing.assert_allclose(b.load(16_000)[200:-200], tone[200:-200], atol=2e-3)  # resampled as drawn at that rate


def test_a_sound_with_a_text_beside_it_is_a_sample_and_counts_as_one_with_a_medium(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.wav").write_bytes(sound(0.5, 100 * number + 100))
        (tmp_path / f"{number}.txt").write_text("what is it ?")
    (tmp_path / "bare.flac").write_bytes(b"")
    found = read_samples(tmp_path, on_error="collect")
    assert [len(sample.audio) for sample in found] == [1] * 4 and "no text for this sound" in found.errors[0]
    assert found.mix() == {"with sounds": {"no task named": 4}}
    lines = [
        {"audio": f"{n % 4}.wav", "question": "?"} if n < 9 else {"images": [], "question": "??"} for n in range(11)
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps({"id": str(n)} | line) for n, line in enumerate(lines)))
    drawn = read_samples(tmp_path / "t.jsonl", limit=4)
    assert sum(bool(sample.audio) for sample in drawn) == 2
    assert [s.id for s in drawn] == [s.id for s in read_samples(tmp_path / "t.jsonl").draw(4)]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"RIFF no sound", r"x.wav is not a sound that can be read .*; use .wav, .flac"),
        (b"version https://git-lfs.github.com/spec/v1", "x.wav is a Git-LFS pointer"),
        (sound(0, 1), "x.wav: the sound is empty"),
        (sound(601, 1)[:100] + bytes(2 * RATE * 601), r"x.wav has 601 seconds; between 0 and 600 are read"),
    ],
)
def test_what_is_no_sound_is_refused(data, text):
    with pytest.raises(SampleError, match=text):
        AudioSource(ImageSource("x.wav", data=data)).load(16_000)


def test_a_missing_reader_a_missing_file_and_a_deaf_model_are_told(folder, samples, tiny_model, monkeypatch):
    (folder / "bad.jsonl").write_text(json.dumps({"audio": "gone.wav", "question": "x"}))
    with pytest.raises(SampleError, match=r"there is no sound 'gone.wav' beside the table"):
        read_samples(folder / "bad.jsonl")
    with pytest.raises(SampleError, match=r"Sample one has a sound \(a.wav\), which this model does not hear"):
        tiny_model.encode(samples[:1])
    assert audio_token_ids(SimpleNamespace(audio_config=None, audio_token_id=5)) == ()  # Gemma 4 without its ears
    assert audio_token_ids(SimpleNamespace(audio_config={}, audio_token_id=5)) == (5,)
    with pytest.raises(SampleError, match="the text holds 1 × <audio>, but there are 2 sounds"):
        Sample((), ({"role": "user", "content": "<audio>?"},), audio=samples[3].audio)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(SampleError, match=r"a.wav is a sound, which needs soundfile: pip install 'mode-dash"):
        samples[0].audio[0].check()


def test_a_spectrogram_is_bright_where_and_when_a_tone_is():
    """1 kHz is bin 32 of 256 (31.25 Hz each), in the 8th of 64 rows of four; the second half is silent."""
    tone = sound(1.0, 1000)
    drawn = np.asarray(spectrogram(AudioSource(ImageSource("a.wav", data=tone[:8044] + bytes(8000)))), float)
    assert drawn.shape == (64, 50) and drawn[:, :22].mean(axis=1).argmax() == 63 - 7
    assert drawn[56, :22].min() > 250 and drawn[:, 28:].max() == 0
    silent = spectrogram(AudioSource(ImageSource("s.wav", data=tone[:44] + bytes(16000))))
    assert np.asarray(silent).max() == 0


def test_positions_are_audio_where_the_processor_put_placeholders(hearing, samples):
    encoded = hearing.encode(samples, answers=True)
    ids = encoded.inputs["input_ids"]
    for kind, numbers in ((AUDIO, hearing.audio_ids), (VISION, hearing.vision_ids)):
        assert ((encoded.modality == kind) == sum(ids == number for number in numbers).bool()).all()
    # 1 s is 100 frames of 10 ms: one window of 13 tokens; 0.5 s is 50 frames: ⌈⌈⌈50/2⌉/2⌉/2⌉ = 7
    assert (encoded.modality == AUDIO).sum(dim=1).tolist() == [13, 7, 0, 20]
    assert not (encoded.template_mask & (encoded.modality != TEXT)).any()


def test_samples_are_balanced_by_what_their_sounds_reach_too(hearing, samples):
    counts = balance.routing_counts(hearing, samples, batch_size=3)
    visits = 2 * len(hearing.banks)  # of every token
    assert balance.counted(hearing) == ["text", "vision", "audio"]
    assert counts[:, 2].sum(axis=1).tolist() == [visits * tokens for tokens in (13, 7, 0, 20)]
    assert counts[:, 1].any(axis=1).tolist() == [False, True, False, False]
    _, told = balance.balanced(hearing, samples, 3)
    assert "experts_with_32_audio_tokens" in told
    _, told = balance.balanced(hearing, SampleList([samples[2], replace(samples[2], id="again")]), 1)
    assert "experts_with_32_text_tokens" in told and "experts_with_32_audio_tokens" not in told


def test_the_whole_road(hearing, samples, tmp_path):
    run = Run.create(tmp_path / "run")
    settings = CalibrationSettings(bits=(2, 4), signals=("text_attention", "duplication"), imatrix=True, batch_size=2)
    statistics = calibrate(hearing, samples, settings, run=run)
    assert run.info["tokens"]["audio"] == 40 and run.info["tokens"]["vision"] == 16
    again = Run.open(run.path).statistics
    assert again.digest() == statistics.digest() and again.modalities == ("text", "vision", "audio")
    for bank in statistics:
        counts = bank.tokens_by_fold("audio").sum()
        for signal in statistics.signals:  # 20 % of 13, 7 and 20 tokens, rounded down: 2 + 1 + 4 are key
            assert bank.total(f"audio_tokens/{signal}")[:20].sum() == 7 and counts == 40
        assert bank.total("input_tokens") == sum(run.info["tokens"].values())
    for shares in frequencies(statistics).values():
        assert shares.key_audio.sum() == pytest.approx(1)
    for name, bank in hearing.banks.items():
        found = [one for expert in range(bank.experts) for one in run.exemplars().sounds(name, expert)]
        assert {one.sample for one in found} <= {"one", "both", "two"} and found
        for one in found:  # 13 tokens for the second, 7 for the half
            length, tokens = (0.5, 7) if one.sound == 1 or one.sample == "both" else (1.0, 13)
            place = one.place - 13 * (one.sound or 0)
            assert one.span == pytest.approx((length * place / tokens, length * (place + 1) / tokens))
            assert one.seconds == length and Image.open(one.picture).size == (50 * length, 64)
    kept = run.token_scores()
    told = {"one": ((13, 1.0),), "both": ((7, 0.5),), "two": ((13, 1.0), (7, 0.5))}
    assert {name: one.sounds for name, one in kept.items()} == told
    for name, tokens in (("one", 13), ("both", 7), ("two", 20)):
        assert {kept[name].audio[signal].shape for signal in settings.signals} == {(3, tokens)}
    drawn = [[Image.open(file).size for file in record.get("sounds", [])] for record in run.sample_records()]
    assert drawn == [[(50, 64)], [(25, 64)], [], [(50, 64), (25, 64)]]
    gallery, other = Gallery(3, hearing), Run.create(tmp_path / "other")  # as a run that goes on, or joins parts
    gallery.take(run, statistics.samples)
    gallery.save(other)
    assert [record["sounds"] for record in other.sample_records() if "sounds" in record] == [
        [str(other.path / "thumbnails" / Path(file).name) for file in record["sounds"]]
        for record in run.sample_records()
        if "sounds" in record
    ]
    for name, one in other.token_scores().items():
        assert one.sounds == told[name] and all((one.audio[s] == kept[name].audio[s]).all() for s in settings.signals)
    loud, deaf = (AllocationRequest(widths=(2, 4), audio_weight=weight).solve(statistics) for weight in (1.0, 0.0))
    assert loud.objective > deaf.objective
    with pytest.raises(CalibrationError, match=r"text and key vision tokens; one has a sound. Leave it out"):
        measure_logit_kl(hearing, samples)
    reference = record_reference(hearing, samples, max_new_tokens=2)
    with quantize_experts(hearing, loud, "rtn", 16):
        scores = evaluate(hearing, samples, reference, max_new_tokens=2)
    assert set(scores.kl_by_modality) == {"text", "audio"} and scores.kl_by_modality["audio"] > 0
    energies = InputEnergies.load(run.path, statistics.samples)
    up = energies.counts[f"{next(iter(hearing.banks))}/up"]
    assert up.shape == (5, 8) and up[:, :].sum(axis=1).tolist()[3:] == [14, 66]  # top 2 of 7 key and 33 redundant
    export("table", loud, tmp_path / "out", statistics=statistics)
    header = (tmp_path / "out" / "experts.csv").read_text().splitlines()[0]
    assert "frequency_key_audio" in header and "sensitivity_key_audio_2bit" in header
