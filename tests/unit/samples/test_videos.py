"""Videos: what is read as one, limits in words, and their way through processor and calibration. Seed 7."""

import io
import json
import struct
import sys
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from PIL import Image

from mode_core.calibration import CalibrationError, CalibrationSettings, calibrate
from mode_core.comparison import PreparedItems
from mode_core.evaluation import evaluate
from mode_core.models import PADDING, TEXT, VISION
from mode_core.models.media import tokens_of_videos
from mode_core.run import Run
from mode_core.runs.records import tokens_in_words, told_of_videos
from mode_core.samples import ImageSource, Sample, SampleError, VideoSource, read_samples, samples_from_uploads, videos

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


def film(seconds=3, rate=10, size=(48, 32), codec="mpeg4", kind="mp4") -> bytes:
    """A film whose frame n is grey, 8 n bright, as PyAV itself writes it."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as opened:
        stream = opened.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(seconds * rate):
            grey = np.full((size[1], size[0], 3), 8 * number, np.uint8)
            opened.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        opened.mux(stream.encode(None))
    return buffer.getvalue()


def filmed(data: bytes, fps: float | None = None) -> VideoSource:
    return VideoSource("a.mp4", film=ImageSource("a.mp4", data=data), fps=fps)


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
    (tmp_path / "moving.mp4").write_bytes(film())
    (tmp_path / "0.wmv").write_bytes(b"0&\xb2u\x8ef\xcf\x11")
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


@pytest.mark.parametrize(("fps", "taken"), [(None, range(0, 30, 5)), (5, range(0, 30, 2)), (99, range(30))])
def test_frames_of_a_film_are_taken_evenly_in_time(fps, taken):
    """Ten frames a second: two of them are every fifth; more than it has are not taken."""
    made = filmed(film(), fps)
    found = made.load()
    assert [round(np.asarray(one, float).mean() / 8) for one in found] == list(taken)
    assert made.rate == min(fps or 2, 10) and made.metadata(found)["duration"] == len(taken) / made.rate
    made.check()
    assert made.frame(3).load().tobytes() == found[3].tobytes() and made.frame(3).name == "a.mp4, frame 4"


def test_a_film_that_a_phone_turned_is_shown_upright():
    """The matrix of the track's head says: a quarter to the right, as phones write it."""
    data = bytearray(film(seconds=1))
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 32 << 16, 0, 1 << 30)
    assert [one.size for one in filmed(bytes(data)).load()] == [(32, 48)] * 2


def test_damaged_films_a_missing_reader_and_limits_are_told(monkeypatch):
    whole = film()
    for data in (b"", b"no film", whole[:300], whole[:-400]):
        with pytest.raises(SampleError, match=r"a\.mp4.*(not a film that can be read|no frame that can be decoded)"):
            filmed(data).load()
    with pytest.raises(SampleError, match=r"a.mp4 is a Git-LFS pointer"):
        filmed(b"version https://git-lfs.github.com/spec/v1").check()
    monkeypatch.setattr(videos, "MAX_FRAMES", 5)
    for look in (VideoSource.check, VideoSource.load):
        with pytest.raises(SampleError, match=r"the video a.mp4 has 6 frames; at most 5 .* of a film by a lower 'fps'"):
            look(filmed(whole))
    filmed(whole, fps=1).check()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SampleError, match=r"a.mp4 is a film, which needs PyAV: pip install 'mode-dashboard\[video\]'"):
        filmed(whole).check()


def test_a_playlist_that_calls_itself_a_film_opens_no_other_file(folder, monkeypatch):
    monkeypatch.chdir(folder)
    playlist = b"ffconcat version 1.0\nfile moving.mp4\n"
    with av.open(io.BytesIO(playlist)) as opened:
        assert len([*opened.decode(video=0)]) == 30  # the reader itself would
    with pytest.raises(SampleError, match=r"a.mp4 is not a film that can be read"):
        filmed(playlist).load()


def test_films_of_a_table_of_an_upload_and_with_a_text_beside(folder):
    entries = ({"video": "moving.mp4", "text": ASK}, {"video": {"path": "moving.mp4", "fps": 1}, "text": ASK})
    read = read_samples(table(folder, *entries))
    assert [len(sample.videos[0].load()) for sample in read] == [6, 3] and len({sample.id for sample in read}) == 2
    [sent] = samples_from_uploads({"a.mp4": film()}, ASK)
    assert sent.videos[0].film.data == film() and read.mix() == {"with pictures": {"no task named": 2}}


def test_videos_without_a_mark_go_in_front_after_the_pictures():
    sample = Sample((ImageSource("a.png", data=png(frames(1)[0])),), turn(ASK), videos=(video(),))
    assert [p["type"] for p in sample.prompt()[0]["content"]] == ["image", "video", "text"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"video": "x.mp4"}, r"there is no film 'x.mp4' beside the table"),
        ({"video": "0.wmv"}, r"0.wmv is not a film that can be read \(.*\); use .mp4, .m4v, .mov, .mkv, .webm, .avi"),
        ({"video": {"path": "moving.mp4", "fps": "2"}}, r"video 1: 'fps' must be a number; got '2'"),
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
    assert encoded.frames[0] == ((0, 0), (0, 2), (0, 4), (1, None)) and encoded.videos == (3 * 8, 0)
    assert int((kind == VISION).sum()) == 3 * 8 + 16 and int((ids == 7).sum()) == 3 * 8
    assert (encoded.modality[1] == PADDING).any()
    words = tiny_model.processor.tokenizer.convert_ids_to_tokens(ids[(kind == TEXT) & ~encoded.template_mask[0]])
    assert words == ["is", "it", "?", *ASK.split(), "red"]  # the time stamps are no words of a person


def test_frames_are_told_from_pictures_by_ids_by_grids_or_not_at_all(mixed):
    """Tokens 9: of a picture and of frames alike; 7: of frames. Counts of a run add up, unless one is not known."""
    both, shown = mixed[0], (((1, 2), (1, 1)), ((0, 0), (1, None)))
    alike, apart = torch.tensor([1, 9, 9, 9]), torch.tensor([1, 7, 9, 9])
    processor = SimpleNamespace(video_token_id=7)
    assert tokens_of_videos(processor, both, apart, apart > 1, (None, None)) == 1
    assert tokens_of_videos(processor, both, alike, alike > 1, shown) == 2
    assert tokens_of_videos(processor, both, alike, alike > 1, (None, None)) is None
    assert told_of_videos([3, 0, 4]) == {"video_tokens": 7} and told_of_videos([0, 0]) == {}
    assert told_of_videos([3, None]) == {"video_tokens": None}
    assert "(pictures and video frames together)" in tokens_in_words({"tokens": {"vision": 5}, "video_tokens": None})


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
    assert run.info["video_tokens"] == 24 and tokens_in_words(run.info).endswith(
        "40 vision (24 of them of video frames)"
    )
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
