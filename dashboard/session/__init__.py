"""The only place for session state, caches and the address bar.

Pages ask here for the open run and for everything that follows from it, and change what a person chose with
`choose`; every choice stands in the URL, so a link or a reload brings the same view back. Statistics, costs and
solvers are kept for the whole process; what a session holds is small: its choices, the place it looks at and the
ids of its jobs.

| module | what it answers |
|---|---|
| `places` | where runs, models and samples lie on this machine |
| `address` | what a person has set, and the address bar |
| `opened` | the open run, its statistics, the selected bank and expert |
| `pictures` | the samples that the run keeps, and their token scores |
| `derived` | frequencies, costs, allocations and sizes that follow from it |
| `planning` | pinned experts, what coarser units cost, what a card has room for |
| `comparisons` | measured evidence, and the same settings on another calibration |
| `process` | the loaded model, the queue of long work, what was measured |
"""

from dashboard.choices import Choices
from dashboard.session.address import (
    bind,
    bind_place,
    choices,
    choose,
    chosen,
    go,
    notes,
    place,
    put,
    reset,
    restore,
    wanted_run,
    watch,
    watched,
    write_url,
)
from dashboard.session.comparisons import allocation_of, available_methods, costs_at, evidence, per_expert
from dashboard.session.derived import (
    allocation,
    bits_asked,
    costs,
    fingerprint,
    frequencies,
    grid,
    megabytes,
    pinned,
    rivals,
    rounding,
    settings_now,
    size_range,
    sizes,
    solver,
    solver_of,
    split_costs,
    split_sizes,
    sweep,
    uniform_allocation,
    widths,
)
from dashboard.session.opened import (
    key_of,
    open_run,
    run,
    run_entry,
    run_key,
    run_named,
    select,
    selected,
    statistics,
    writable,
)
from dashboard.session.pictures import picture, sample_records, token_scores
from dashboard.session.places import (
    BUNDLED,
    BUNDLED_MODEL,
    BUNDLED_RUN,
    CALIBRATION,
    EVALUATION,
    ROOT,
    NoRunError,
    RunEntry,
    exports_folder,
    relative,
    runs,
    runs_folder,
)
from dashboard.session.planning import UNITS, Price, card_fit, prices, strange_pins, surroundings
from dashboard.session.process import jobs, keep_imports, measurements, run_busy, shelf
from mode_core.run import Run

__all__ = [
    "BUNDLED",
    "BUNDLED_MODEL",
    "BUNDLED_RUN",
    "CALIBRATION",
    "EVALUATION",
    "ROOT",
    "UNITS",
    "Choices",
    "NoRunError",
    "Price",
    "Run",
    "RunEntry",
    "allocation",
    "allocation_of",
    "available_methods",
    "bind",
    "bind_place",
    "bits_asked",
    "card_fit",
    "choices",
    "choose",
    "chosen",
    "costs",
    "costs_at",
    "evidence",
    "exports_folder",
    "fingerprint",
    "frequencies",
    "go",
    "grid",
    "jobs",
    "keep_imports",
    "key_of",
    "measurements",
    "megabytes",
    "notes",
    "open_run",
    "per_expert",
    "picture",
    "pinned",
    "place",
    "prices",
    "put",
    "relative",
    "reset",
    "restore",
    "rivals",
    "rounding",
    "run",
    "run_busy",
    "run_entry",
    "run_key",
    "run_named",
    "runs",
    "runs_folder",
    "sample_records",
    "select",
    "selected",
    "settings_now",
    "shelf",
    "size_range",
    "sizes",
    "solver",
    "solver_of",
    "split_costs",
    "split_sizes",
    "statistics",
    "strange_pins",
    "surroundings",
    "sweep",
    "token_scores",
    "uniform_allocation",
    "wanted_run",
    "watch",
    "watched",
    "widths",
    "writable",
    "write_url",
]
