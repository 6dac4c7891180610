"""What can be wrong with a model, in words."""

from mode_core.errors import ModeError


class ModelError(ModeError):
    """A model that cannot be loaded or used; the text says what was looked for, what was found, what to do."""


class OwnCodeError(ModelError):
    """A model that comes with Python code of its own, which was not run because nobody gave leave."""
