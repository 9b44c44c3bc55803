"""vitask from Python: train, evaluate and compose as on the command line; finished runs that answer about images."""

from vitask.api.answerer import Answerer
from vitask.api.calls import compose, evaluate, train
from vitask.api.classifier import Classifier, Prediction

__all__ = ["Answerer", "Classifier", "Prediction", "compose", "evaluate", "train"]
