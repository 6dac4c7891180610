"""Statistics: the sums that calibration leaves behind, and what each expert was chosen for most strongly."""

from mode_core.statistics.bank_statistics import (
    BINS,
    EXTRA_ARRAYS,
    EXTRA_TOKEN_ARRAYS,
    EXTRAS,
    FOLDS,
    INPUT_ARRAYS,
    TEXT_ARRAYS,
    WEIGHT_ARRAYS,
    BankShape,
    BankStatistics,
    StatisticsError,
)
from mode_core.statistics.model_statistics import ExpertStatistics, fold_of
