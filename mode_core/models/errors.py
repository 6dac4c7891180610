"""What can be wrong with a model, in words."""


class ModelError(ValueError):
    """A model that cannot be loaded or used; the text says what was looked for, what was found, what to do."""
