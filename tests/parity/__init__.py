"""Proofs that need software which does not install beside the pins: each in an environment of its own.

    MODE_PARITY=/some/folder python -m pytest tests/parity

makes the environments in that folder once (which needs a network) and runs the proofs; without it they are skipped.
"""
