"""`python -m dashboard [Streamlit's options]`, or `mode-dashboard`: the dashboard, wherever it is installed."""

import sys
from pathlib import Path

from streamlit.web.cli import main as streamlit


def main() -> None:
    """Hand over to Streamlit with this folder's entry and settings."""
    sys.argv = ["streamlit", "run", str(Path(__file__).with_name("app.py")), *sys.argv[1:]]
    streamlit()


if __name__ == "__main__":
    main()
