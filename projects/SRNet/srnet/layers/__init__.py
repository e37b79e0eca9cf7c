"""Squeeze Reasoning and what it is compared with: pure PyTorch, no Detectron2, no config."""

from .context import (
    CBAM,
    FLOP_HANDLES,
    AsymmetricPyramidNonLocal,
    CompactGeneralizedNonLocal,
    ContextEncoding,
    CrissCrossAttention,
    DoubleAttention,
    DualAttention,
    EMAttention,
    GlobalContext,
    GlobalReasoning,
    NonLocal,
    PyramidPooling,
    RecurrentCrissCrossAttention,
    SqueezeExcitation,
)
from .context_conv import ContextConv
from .losses import OhemCrossEntropy, PixelCrossEntropy
from .squeeze_reasoning import SqueezeReasoning, SqueezeReasoningGate

__all__ = [
    "CBAM",
    "FLOP_HANDLES",
    "AsymmetricPyramidNonLocal",
    "CompactGeneralizedNonLocal",
    "ContextConv",
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
]
