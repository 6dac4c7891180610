"""The command line: `python -m mode_core VERB`."""

from mode_core.cli.main import main
