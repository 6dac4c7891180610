"""MODE: modality-decomposed expert statistics and exact per-expert bit allocation (arXiv 2606.17118).

    samples → calibrate → ExpertStatistics → importance → CostTable → allocate → Allocation
            → quantize → evaluate / export

This package never imports a user interface. The dashboard is one of its callers, the command line another.
"""

__version__ = "0.1.0"
