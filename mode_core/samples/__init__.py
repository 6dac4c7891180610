"""Samples: pictures with text, from a folder, JSONL, CSV, ShareGPT4V JSON, a zip, or uploaded bytes."""

from mode_core.samples.reading import SampleList, read_samples
from mode_core.samples.records import IMAGE_MARK, ImageSource, Sample, SampleError, samples_digest
from mode_core.samples.uploads import samples_from_uploads

__all__ = [
    "IMAGE_MARK",
    "ImageSource",
    "Sample",
    "SampleError",
    "SampleList",
    "read_samples",
    "samples_digest",
    "samples_from_uploads",
]
