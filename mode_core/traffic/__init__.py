"""What a serving engine really routed, in the place of a calibration set's frequencies."""

from mode_core.traffic.applying import distances, follows_frequencies, kinds_told, never_calibrated, with_traffic
from mode_core.traffic.profile import OtherModelError, TrafficError, TrafficProfile
from mode_core.traffic.reading import read_traffic, token_ids

__all__ = [
    "OtherModelError",
    "TrafficError",
    "TrafficProfile",
    "distances",
    "follows_frequencies",
    "kinds_told",
    "never_calibrated",
    "read_traffic",
    "token_ids",
    "with_traffic",
]
