"""The official evaluators, chosen by the dataset."""

from .build import EVALUATORS, build_evaluator
from .classification import ClassificationEvaluator
from .semantic import CityscapesEvaluator, SemanticEvaluator

__all__ = [
    "EVALUATORS",
    "CityscapesEvaluator",
    "ClassificationEvaluator",
    "SemanticEvaluator",
    "build_evaluator",
]
