"""Squeeze Reasoning and what it is compared with: pure PyTorch, no Detectron2, no config."""

from .asymmetric_non_local import AsymmetricPyramidNonLocal
from .attention import FLOP_HANDLES
from .cbam import CBAM
from .cgnl import CompactGeneralizedNonLocal
from .context_encoding import ContextEncoding
from .criss_cross import CrissCrossAttention, RecurrentCrissCrossAttention
from .double_attention import DoubleAttention
from .dual_attention import DualAttention
from .em_attention import EMAttention
from .folding import conv_after_context
from .global_context import GlobalContext
from .global_reasoning import GlobalReasoning
from .losses import OhemCrossEntropy, PixelCrossEntropy
from .non_local import NonLocal
from .pyramid_pooling import PyramidPooling
from .squeeze_excitation import SqueezeExcitation
from .squeeze_reasoning import SqueezeReasoning, SqueezeReasoningGate

__all__ = [
    "CBAM",
    "FLOP_HANDLES",
    "AsymmetricPyramidNonLocal",
    "CompactGeneralizedNonLocal",
    "ContextEncoding",
    "CrissCrossAttention",
    "DoubleAttention",
    "DualAttention",
    "EMAttention",
    "GlobalContext",
    "GlobalReasoning",
    "NonLocal",
    "OhemCrossEntropy",
    "PixelCrossEntropy",
    "PyramidPooling",
    "RecurrentCrissCrossAttention",
    "SqueezeExcitation",
    "SqueezeReasoning",
    "SqueezeReasoningGate",
    "conv_after_context",
]
