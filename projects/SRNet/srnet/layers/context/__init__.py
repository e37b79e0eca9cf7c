"""The modules that Squeeze Reasoning is compared with, each after its own paper."""

from .asymmetric_non_local import AsymmetricPyramidNonLocal
from .attention import FLOP_HANDLES
from .cbam import CBAM
from .cgnl import CompactGeneralizedNonLocal
from .context_encoding import ContextEncoding
from .criss_cross import CrissCrossAttention, RecurrentCrissCrossAttention
from .double_attention import DoubleAttention
from .dual_attention import DualAttention
from .em_attention import EMAttention
from .global_context import GlobalContext
from .global_reasoning import GlobalReasoning
from .non_local import NonLocal
from .pyramid_pooling import PyramidPooling
from .squeeze_excitation import SqueezeExcitation

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
    "PyramidPooling",
    "RecurrentCrissCrossAttention",
    "SqueezeExcitation",
]
