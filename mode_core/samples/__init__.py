"""Samples: pictures, videos and sounds with text, from a folder, a table in any published form, a zip, or uploads."""

from mode_core.samples.reading import SampleList, read_samples
from mode_core.samples.records import (
    AUDIO_MARK,
    IMAGE_MARK,
    MEDIA,
    VIDEO_MARK,
    AudioSource,
    ImageSource,
    Sample,
    SampleError,
    VideoSource,
    samples_digest,
)
from mode_core.samples.uploads import samples_from_uploads
