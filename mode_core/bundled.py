"""Where the bundled model, samples and run lie: beside the packages in a checkout, inside this one once installed."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
IN_CHECKOUT = (_PACKAGE.parent / "sample_data").is_dir()
PORTABLE = _PACKAGE.parent if IN_CHECKOUT else _PACKAGE  # what a portable path in run.json is relative to
HOME = _PACKAGE.parent if IN_CHECKOUT else Path.cwd()  # where runs and exports are kept unless said otherwise
MODEL, CALIBRATION, EVALUATION, RUN = (
    PORTABLE / "sample_data" / n for n in ("model", "calibration", "evaluation", "run")
)
