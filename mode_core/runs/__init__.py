"""Runs: one calibration on disk, merging several, and the released code's own files."""

from mode_core.runs.run import Run, RunError
