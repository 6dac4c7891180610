"""`from mode_core.run import Run`: the name that other tools call; the run itself is in `mode_core.runs`."""

from mode_core.runs import Run, RunError

__all__ = ["Run", "RunError"]
