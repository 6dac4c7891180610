"""What can go wrong when a model is quantized, in words."""


class QuantizationError(ValueError):
    """An allocation that does not fit the model, a quantizer that is not there, or one that cannot be used so."""


class QuantizerMissing(ValueError):
    """A quantizer whose optional package is not installed."""
