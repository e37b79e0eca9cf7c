"""Parameters and multiply-adds of a model that is never allocated: on PyTorch's meta device.

`srnet.analysis.costs` runs a model and counts with fvcore. That needs memory and seconds a model;
this needs neither, and so every row of the paper's tables can be counted. The convention is the
same: a multiply-add counts once, and norms and interpolations as in fvcore.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from detectron2.modeling import GeneralizedRCNN, PanopticFPN
from detectron2.modeling.roi_heads import CascadeROIHeads
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from srnet.model_zoo import get_cfg
from srnet.modeling import ImageClassifier, SRSemanticSegmentor, build_model

from .costs import BOXES, MASKS, within

ATEN = torch.ops.aten
# The counter counts a product and a sum as two; so the operations counted by values count double.
Values = Callable[..., int]


def _norm(x: Sequence[int], weight: Sequence[int] | None = None, *_: Any, **__: Any) -> int:
    """A batch norm at inference: two operations a value with its affine part, else one."""
    return 2 * _size(x) * (2 if weight is not None else 1)


def _five_a_value(x: Sequence[int], *_: Any, **__: Any) -> int:
    """A norm with statistics of its own and an affine part."""
    return 2 * 5 * _size(x)


def _of_input(x: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * _size(x)


def _of_output(scale: int) -> Values:
    return lambda *_, out_shape, **__: 2 * scale * _size(out_shape)


def _size(shape: Iterable[int]) -> int:
    return int(torch.Size(shape).numel())


# Beside products of matrices and convolutions, as fvcore counts them.
AS_FVCORE = {
    ATEN.native_batch_norm: _norm,
    ATEN._native_batch_norm_legit_no_training: _norm,
    ATEN.cudnn_batch_norm: _norm,
    ATEN.native_layer_norm: _five_a_value,
    ATEN.native_group_norm: _five_a_value,
    ATEN._adaptive_avg_pool2d: _of_input,
    ATEN.upsample_nearest2d: _of_output(1),
    ATEN.upsample_bilinear2d: _of_output(4),
}
# What Table IV counts for SE: a value that is averaged, a value that is scaled.
SCALING = {ATEN.mul: _of_output(1), ATEN.mean: _of_input}
# What Table X counts: a value of ReLU, a value that a pooling reads.
ONE_A_VALUE = {
    ATEN.relu_: _of_output(1),
    ATEN.relu: _of_output(1),
    ATEN.max_pool2d_with_indices: _of_input,
    ATEN.mean: _of_input,
    ATEN.amax: _of_input,
}
EXTRA: Mapping[str, Mapping[Any, Values]] = {"": {}, "gates": SCALING, "values": ONE_A_VALUE}


class Inference(nn.Module):
    """What a model computes for one image, on features and boxes of known number."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> None:
        """Run the parts of the model."""
        model = self.model
        if isinstance(model, ImageClassifier):
            model.logits(image)
        elif isinstance(model, SRSemanticSegmentor):
            model.sem_seg_head.predict(model.backbone(image))
        else:
            self._detect(cast(GeneralizedRCNN, model), image)

    def _detect(self, model: Any, image: torch.Tensor) -> None:
        features = model.backbone(image)
        rpn, heads = model.proposal_generator, model.roi_heads
        rpn.rpn_head([features[name] for name in rpn.in_features])
        channels = next(iter(features.values())).shape[1]
        boxes, masks = (
            image.new_zeros(number, channels, *pooler.output_size)
            for number, pooler in ((BOXES, heads.box_pooler), (MASKS, heads.mask_pooler))
        )
        cascade = isinstance(heads, CascadeROIHeads)
        stages = heads.box_head if cascade else [heads.box_head]
        predictors = heads.box_predictor if cascade else [heads.box_predictor]
        for head, predictor in zip(stages, predictors, strict=True):
            predictor(head(boxes))
        heads.mask_head.layers(masks)
        if isinstance(model, PanopticFPN):
            model.sem_seg_head.layers(features)


def build_on_meta(name: str, opts: Sequence = ()) -> nn.Module:
    """Build the model of a config for counting: no weights, and SR is not folded.

    Args:
        name: a path or a name of the model zoo.
        opts: alternating keys and values.
    """
    cfg = get_cfg(name, [*opts, "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
    cfg.MODEL.CONTEXT.FOLD = "never"
    for node in (
        cfg.MODEL.RESNETS,
        cfg.MODEL.DFNET,
        cfg.MODEL.WIDER_RESNET,
        cfg.MODEL.SEM_SEG_HEAD,
    ):
        if node.NORM == "SyncBN":
            node.NORM = "BN"  # the same parameters and counts; PyTorch's refuses this device
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg).eval()


def parts_of(model: nn.Module, part: str) -> list[str]:
    """The modules of a part.

    Args:
        model: the model.
        part: "" for all, or the ends of names: "context" for all context modules,
            "sem_seg_head.conv1 sem_seg_head.conv2" for two convolutions.
    """
    if not part:
        return [""]
    ends = tuple(f".{end}" for end in part.split())
    found = [name for name, _ in model.named_modules() if f".{name}".endswith(ends)]
    # What is inside another one is in its count.
    return [n for n in found if not any(n != other and within(n, other) for other in found)]


def count_parameters(model: nn.Module, part: str = "") -> int:
    """The number of parameters of a part, as :func:`parts_of` names it."""
    return sum(
        p.numel() for name in parts_of(model, part) for p in model.get_submodule(name).parameters()
    )


@torch.no_grad()
def count_multiply_adds(
    model: nn.Module, size: tuple[int, int], part: str = "", extra: str = ""
) -> int:
    """The multiply-adds of a part for one image.

    Args:
        model: of :func:`build_on_meta`.
        size: height and width of the image; those of a detector are padded to multiples of 32.
        part: as :func:`parts_of` names it.
        extra: what counts too, of `EXTRA`.
    """
    if isinstance(model, GeneralizedRCNN):
        size = (-(-size[0] // 32) * 32, -(-size[1] // 32) * 32)
    whole = Inference(model)
    counter = FlopCounterMode(display=False, custom_mapping={**AS_FVCORE, **EXTRA[extra]})
    with counter:
        whole(torch.zeros(1, 3, *size, device="meta"))
    root = type(whole).__name__
    names = [f"{root}.model.{name}".removesuffix(".model.") for name in parts_of(model, part)]
    counts = counter.get_flop_counts()
    return sum(sum(counts.get(name, {}).values()) for name in names) // 2
