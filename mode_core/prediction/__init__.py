"""What an allocation will do to the answers, how sure that is, and how far the estimates may be trusted on a model."""

from mode_core.errors import CheckError, PredictionError
from mode_core.prediction.anchor import Anchor
from mode_core.prediction.check import Check, Ranking, Trial
from mode_core.prediction.predicting import NATS, Estimate, Prediction, Predictor
from mode_core.prediction.stability import Stability, Sufficiency, allocation_stability, fold_solvers, sufficiency
