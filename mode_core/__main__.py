"""`python -m mode_core …`."""

from mode_core.cli import main

raise SystemExit(main())
