"""What can go wrong in a calibration, in words."""


class CalibrationError(ValueError):
    """The model could not be measured; the text says where it stopped and what to do."""
