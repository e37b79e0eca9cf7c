"""Meta-architectures, registered in Detectron2's META_ARCH_REGISTRY."""

from .image_classifier import ImageClassifier
from .semantic_segmentor import SRSemanticSegmentor

__all__ = ["ImageClassifier", "SRSemanticSegmentor"]
