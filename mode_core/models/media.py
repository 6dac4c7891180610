"""Pictures, videos and sounds on their way through a processor: what it is given, and where their tokens lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mode_core.samples import Sample, SampleError, VideoSource

Grids = tuple[tuple[tuple[int, int], ...] | None, ...]
Frames = tuple[tuple[tuple[int, int | None], ...] | None, ...]


def video_arguments(processor: Any, samples: Sequence[Sample]) -> dict[str, Any]:
    """What a processor's call needs beside text and pictures: all frames of all videos, none left out; or nothing.

    Raises:
        SampleError: a sample with a video where the processor takes none, or a video that cannot be read.
    """
    videos = [(sample, video) for sample in samples for video in sample.videos]
    if not videos:
        return {}
    if getattr(processor, "video_processor", None) is None:
        raise SampleError(
            f"Sample {videos[0][0].id} has a video, but {type(processor).__name__} takes none; "
            "give its frames as pictures."
        )
    from transformers.video_utils import VideoMetadata

    frames = [video.load() for _, video in videos]
    told = [VideoMetadata(**video.metadata(each)) for (_, video), each in zip(videos, frames, strict=True)]
    return {"videos": frames, "video_metadata": told, "do_sample_frames": False}


def audio_arguments(processor: Any, samples: Sequence[Sample]) -> dict[str, Any]:
    """What a processor's call needs of all sounds, one channel at the rate that it listens at; or nothing.

    Raises:
        SampleError: a sample with a sound where the processor takes none, or a sound that cannot be read.
    """
    sounds = [(sample, sound) for sample in samples for sound in sample.audio]
    if not sounds:
        return {}
    listener = getattr(processor, "feature_extractor", None)
    if listener is None:
        raise SampleError(f"Sample {sounds[0][0].id} has a sound, but {type(processor).__name__} takes none.")
    rate = int(listener.sampling_rate)
    return {"audio": [sound.load(rate) for _, sound in sounds], "audio_kwargs": {"sampling_rate": rate}}


def heard_sounds(sample: Sample, audio: Any) -> tuple[tuple[int, float], ...]:
    """(tokens, seconds) of each sound of a sample, `audio` `[L]` its audio positions; empty where the runs of these
    are not one for each sound."""
    if not sample.audio:
        return ()
    ends = [place for place, is_audio in enumerate((*audio.tolist(), False)) if not is_audio]
    runs = [length for before, after in zip((-1, *ends), ends, strict=False) if (length := after - before - 1)]
    if len(runs) != len(sample.audio):
        return ()
    return tuple((run, sound.seconds) for run, sound in zip(runs, sample.audio, strict=True))


def shown_pictures(processor: Any, inputs: Any, samples: Sequence[Sample]) -> tuple[Grids, Frames]:
    """`Encoded.grids` and `Encoded.frames`, where the processor tells them (Qwen and its relatives).

    A video's tokens come step by step in time, each step a grid of its own; a step is as many frames as the video
    processor joins, and is shown by its first.
    """
    pictures = _sizes(inputs.get("image_grid_thw"), getattr(processor, "image_processor", None))
    steps = _sizes(inputs.get("video_grid_thw"), getattr(processor, "video_processor", None))
    joined = getattr(getattr(processor, "video_processor", None), "temporal_patch_size", 1)
    grids, frames = [], []
    for sample in samples:
        if (sample.images and pictures is None) or (sample.videos and steps is None):
            grids.append(None)
            frames.append(None)
            continue
        shown: list[tuple[tuple[int, int], tuple[int, int | None]]] = []
        for number, medium in enumerate(sample.media):
            if isinstance(medium, VideoSource):
                count, size = next(steps)
                shown += [(size, (number, step * joined)) for step in range(count)]
            else:
                shown.append((next(pictures)[1], (number, None)))
        grids.append(tuple(size for size, _ in shown))
        frames.append(tuple(place for _, place in shown))
    return tuple(grids), tuple(frames)


def tokens_of_videos(processor: Any, sample: Sample, ids: Any, vision: Any, shown: tuple[Any, Any]) -> int | None:
    """How many of a sample's vision tokens show frames of a video; None where pictures and frames cannot be told apart.

    `ids` `[L]` its tokens, `vision` bool `[L]` which of them are vision tokens, `shown` its grids and frames (see
    `shown_pictures`).
    """
    if not (sample.videos and sample.images):
        return int(vision.sum()) if sample.videos else 0
    own = vision & (ids == getattr(processor, "video_token_id", -1))
    if own.any() and not own.equal(vision):
        return int(own.sum())
    grids, frames = shown
    if grids is None:
        return None
    return sum(rows * columns for (rows, columns), (_, frame) in zip(grids, frames, strict=True) if frame is not None)


def _sizes(grid: Any, processor: Any) -> Any:
    """(steps in time, (rows, columns) of tokens) one by one; None where the processor tells nothing."""
    merge = getattr(processor, "merge_size", None)
    if grid is None or merge is None:
        return None
    return iter((steps, (rows // merge, columns // merge)) for steps, rows, columns in grid.tolist())
