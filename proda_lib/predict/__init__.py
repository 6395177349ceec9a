"""A trained ProDA and a video of yours: ask, and read the answer as a report."""

from proda_lib.predict.answer import Prediction
from proda_lib.predict.predictor import Predictor

__all__ = ["Prediction", "Predictor"]
