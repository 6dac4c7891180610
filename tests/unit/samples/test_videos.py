"""Videos: what is read as one, limits in words, and their way through processor and calibration. Seed 7."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from mode_core.calibration import CalibrationError, CalibrationSettings, calibrate
from mode_core.comparison import PreparedItems
from mode_core.evaluation import evaluate
from mode_core.models import PADDING, TEXT, VISION
from mode_core.run import Run
from mode_core.samples import ImageSource, Sample, SampleError, VideoSource, read_samples, videos

ASK = "what colour is it ?"


def frames(count, size=(48, 32)):
    draw = np.random.default_rng(7)
    return [Image.fromarray(draw.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)) for _ in range(count)]


def png(picture) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def gif(count, duration=250, size=(48, 32)) -> bytes:
    first, *rest = frames(count, size)
    buffer = io.BytesIO()
    first.save(buffer, format="GIF", save_all=True, append_images=rest, duration=duration)
    return buffer.getvalue()


def video(count=5, size=(48, 32), fps=2.0) -> VideoSource:
    sources = tuple(ImageSource(f"{n}.png", data=png(f)) for n, f in enumerate(frames(count, size)))
    return VideoSource("drawn", sources, fps=fps)


def turn(text):
    return ({"role": "user", "content": text},)


@pytest.fixture
def folder(tmp_path):
    for number, frame in enumerate(frames(3)):
        frame.save(tmp_path / f"{number}.png")
    (tmp_path / "moving.gif").write_bytes(gif(4))
    return tmp_path


def table(folder, *entries):
    (folder / "samples.jsonl").write_text("\n".join(map(json.dumps, entries)), encoding="utf-8")
    return folder


def test_videos_of_a_table(folder):
    names = ["0.png", "1.png", "2.png"]
    read = read_samples(
        table(
            folder,
            {"video": "moving.gif", "text": ASK},
            {"videos": [names, {"frames": names[:2], "fps": 8}], "text": f"<video>first <video>{ASK}"},
            {"images": ["0.png"], "video": names, "text": f"<video><image>{ASK}"},
        )
    )
    one, two, both = read
    assert [len(v.load()) for s in read for v in s.videos] == [4, 3, 2, 3]
    assert [v.rate for s in read for v in s.videos] == [4.0, 2.0, 8.0, 2.0]
    assert [p["type"] for p in two.prompt()[0]["content"]] == ["video", "text", "video", "text"]
    assert both.media == (both.videos[0], both.images[0])
    assert one.videos[0].frame(2).load().tobytes() == one.videos[0].load()[2].tobytes()
    assert [p.name for p in both.pictures([(0, 2), (1, None)])] == ["2.png", "0.png"]
    assert [p.name for p in one.pictures()] == ["moving.gif, frame 1"]
    assert len({s.id for s in read}) == 3


def test_videos_without_a_mark_go_in_front_after_the_pictures():
    sample = Sample((ImageSource("a.png", data=png(frames(1)[0])),), turn(ASK), videos=(video(),))
    assert [p["type"] for p in sample.prompt()[0]["content"]] == ["image", "video", "text"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"video": "x.mp4"}, r"'x.mp4' is a film, which is not read. Give its frames"),
        ({"videos": [[]]}, r"'videos', video 1: expected a path, a list of pictures"),
        ({"videos": [{"frames": ["0.png"], "fps": "2"}]}, r"video 1: 'fps' must be a number; got '2'"),
        ({"videos": [{"frames": ["0.png"], "fps": 0}]}, r"'fps' must be above 0"),
        ({"video": "lost.gif"}, r"there is no picture 'lost.gif'"),
        ({"video": "moving.gif", "text": "<video><video>x"}, r"the text holds 2 × <video>, but there are 1 videos"),
        ({"videos": ["moving.gif"] * 9}, r"9 videos in one sample; at most 8"),
    ],
)
def test_refusals_say_what_to_do(folder, entry, words):
    with pytest.raises(SampleError, match=words):
        read_samples(table(folder, {"text": ASK, **entry}))


def test_limits(monkeypatch):
    uneven = (*video(1).frames, *video(1, (32, 32)).frames)
    with pytest.raises(SampleError, match="frame 2 has 32 × 32 pixels, the first one 48 × 32; make all alike"):
        VideoSource("uneven", uneven).load()
    with pytest.raises(SampleError, match="the video none has no frames"):
        VideoSource("none")
    monkeypatch.setattr(videos, "MAX_VIDEO_PIXELS", 5000)
    for made in (video(4), VideoSource("moving", animation=ImageSource("moving.gif", data=gif(4)))):
        with pytest.raises(SampleError, match="million pixels together"):
            made.load()
    monkeypatch.setattr(videos, "MAX_FRAMES", 3)
    with pytest.raises(SampleError, match="has 4 frames; at most 3"):
        video(4)
    with pytest.raises(SampleError, match="has 4 frames; at most 3"):
        VideoSource("moving", animation=ImageSource("moving.gif", data=gif(4))).check()
    cut = VideoSource("cut", animation=ImageSource("cut.gif", data=gif(3)[:-2000]))
    with pytest.raises(SampleError, match="the video cut"):
        cut.load()


@pytest.fixture(scope="module")
def mixed(tiny_samples):
    """A video of five frames, then a picture; and a text beside it so that there is padding."""
    both = Sample(tiny_samples[0].images, turn(f"<video>is <image> it ?{ASK}"), "red", id="both", videos=(video(),))
    return [both, tiny_samples[7]]


def test_video_tokens_are_vision_tokens_step_by_step_in_time(tiny_model, mixed):
    encoded = tiny_model.encode(mixed, answers=True)
    ids = encoded.inputs["input_ids"][0]
    kind = encoded.modality[0]
    assert set(tiny_model.vision_ids) == {6, 7}
    assert (kind[(ids == 6) | (ids == 7)] == VISION).all() and (kind[ids == 5] != VISION).all()
    assert encoded.grids[0] == ((2, 4), (2, 4), (2, 4), (4, 4)) and encoded.grids[1] == ()
    assert encoded.frames[0] == ((0, 0), (0, 2), (0, 4), (1, None))
    assert int((kind == VISION).sum()) == 3 * 8 + 16 and int((ids == 7).sum()) == 3 * 8
    assert (encoded.modality[1] == PADDING).any()
    words = tiny_model.processor.tokenizer.convert_ids_to_tokens(ids[(kind == TEXT) & ~encoded.template_mask[0]])
    assert words == ["is", "it", "?", *ASK.split(), "red"]  # the time stamps are no words of a person


def test_a_sample_with_a_video_alone_is_of_vision_in_a_comparison_and_an_evaluation(tiny_model):
    samples = [
        Sample((), turn(f"<video>{ASK}"), "red", id="video", videos=(video(),)),
        Sample((), turn(ASK), "red", id="text"),
    ]
    kinds = ["vision", "text"]
    assert [sample.modality for sample in samples] == kinds
    assert PreparedItems(tiny_model, samples).modalities.tolist() == kinds
    assert [answer.modality for answer in evaluate(tiny_model, samples).answers] == kinds


def test_the_bundled_processor_takes_videos(bundled_model):
    sample = Sample((), turn(f"<video>{ASK}"), id="v", videos=(video(4, (64, 64)),))
    encoded = bundled_model.encode([sample])
    (first, second), size = encoded.grids[0], int((encoded.modality == VISION).sum())
    assert first == second and first[0] * first[1] * 2 == size
    assert encoded.frames == (((0, 0), (0, 2)),)


def test_a_processor_without_videos_refuses_in_words(tiny_model, mixed, monkeypatch):
    monkeypatch.delattr(tiny_model.processor, "video_processor")
    with pytest.raises(SampleError, match="Sample both has a video, but Qwen3VLProcessor takes none; give its frames"):
        tiny_model.encode(mixed[:1])
    with pytest.raises(CalibrationError, match="All 1 samples were refused"):
        calibrate(tiny_model, mixed[:1], CalibrationSettings(bits=(2,), group_size=16, sensitivity=False))


def test_a_calibration_counts_and_shows_them(tiny_model, mixed, tmp_path):
    run = Run.create(tmp_path / "run")
    settings = CalibrationSettings(
        bits=(2,), group_size=16, sensitivity=False, signals=("text_attention", "diversity"), exemplars=64
    )
    statistics = calibrate(tiny_model, mixed, settings, run=run)
    for bank in statistics:
        for signal in settings.signals:
            assert bank.vision("tokens", signal).sum() == 40
    record = run.sample_records()[0]
    assert record["images"] == ["0.png", "2.png", "4.png", mixed[0].images[0].name]
    assert [Image.open(path).size for path in record["thumbnails"]] == [(48, 32)] * 3 + [(32, 32)]
    assert run.token_scores()["both"].grids == ((2, 4), (2, 4), (2, 4), (4, 4))
    banks = [(bank.name, expert) for bank in statistics for expert in range(8)]
    patches = [p for place in banks for p in run.exemplars().patches(*place)]
    assert len({(p.image, p.cell) for p in patches}) == 40
    drawn = frames(5)
    for patch in patches:
        if patch.image < 3:
            whole = drawn[2 * patch.image]
            crop = patch.crop()
            assert crop.size == (12, 16)
            expected = np.asarray(whole.crop(patch.pixels(whole.size)), float).mean()
            assert np.asarray(crop, float).mean() == pytest.approx(expected, abs=12)  # stored as JPEG
