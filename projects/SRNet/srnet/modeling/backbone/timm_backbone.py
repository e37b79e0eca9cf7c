"""Any convolutional network of timm as a backbone (Wightman, PyTorch Image Models).

timm is an optional dependency: ``pip install srnet[timm]``.
"""

import difflib
import logging
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import nn

from srnet.extras import require_extra

from ..build import fit_to_device
from ..context import context_builder, context_channels
from .fpn import GlobalBatchFPN, fpn_arguments

if TYPE_CHECKING:
    from timm.models import FeatureInfo

# A map is named by its stride, as Detectron2's ResNets name theirs.
STRIDES = {"stem": 2, "res2": 4, "res3": 8, "res4": 16, "res5": 32}


class TimmBackbone(Backbone):
    """The feature maps of a timm network, and context modules after chosen stages.

    The network is timm's own with ``features_only``; its parameters are named ``body.`` and timm's
    names. A context module is the last part of its stage, with ``context`` in its name.

    Args:
        body: a timm network made with ``features_only=True`` whose stages run one after another.
        out_features: which of "stem", "res2" to "res5" (strides 2, 4 to 32) to return.
        context: makes a context module from its channels; None for none.
        context_stages: the stages with a context module.
        freeze_at: freezes as many stages, the stem first, as Detectron2's `FREEZE_AT`; their batch
            norms keep their statistics.

    Raises:
        ValueError: an unknown or doubled stride, a stage that the network does not have, or a
            context module that changes the number of channels.
    """

    def __init__(
        self,
        body: nn.Module,
        *,
        out_features: Sequence[str],
        context: Callable[[int], nn.Module] | None = None,
        context_stages: Sequence[str] = (),
        freeze_at: int = 0,
    ):
        super().__init__()
        self._frozen_norms: list[nn.Module] = []
        self.body = body
        info = cast("FeatureInfo", body.feature_info)
        strides = dict(zip(info.reduction(), info.channels(), strict=True))
        if len(strides) != len(info.reduction()):
            raise ValueError(
                f"MODEL.TIMM.NAME: the network's maps have the strides {info.reduction()}, and a "
                "backbone needs a stride of its own for each; choose a network with stages"
            )
        self._names = [name for name, stride in STRIDES.items() if stride in strides]
        shapes = {
            n: ShapeSpec(channels=strides[STRIDES[n]], stride=STRIDES[n]) for n in self._names
        }
        for key, chosen in (
            ("MODEL.TIMM.OUT_FEATURES", out_features),
            ("MODEL.CONTEXT.STAGES", context_stages),
        ):
            unknown = [name for name in chosen if name not in shapes]
            if unknown:
                raise ValueError(f"{key}={list(chosen)}: choose from {', '.join(shapes)}")
        self._shapes = {name: shapes[name] for name in self._names if name in out_features}
        places = dict(zip(info.reduction(), info.module_name(), strict=True))
        modules = {name for name, _ in body.named_modules()}
        self._places = {}
        for name, shape in shapes.items():
            place = places[shape.stride]
            # timm flattens sequences of some networks: stages.0 becomes stages_0.
            self._places[name] = place if place in modules else place.replace(".", "_")
        if context is not None:
            with torch.random.fork_rng(devices=[]):
                for stage in context_stages:
                    self._append(stage, context(shapes[stage].channels), shapes[stage].channels)
        self._frozen_norms = self._freeze(freeze_at)
        self.train(self.training)

    def _append(self, stage: str, module: nn.Module, channels: int) -> None:
        """Let a stage end with a context module."""
        if context_channels(module, channels) != channels:
            raise ValueError(
                f"MODEL.CONTEXT: {type(module).__name__} changes the number of channels, so it "
                "cannot stand in a backbone"
            )
        sequence = self.body.get_submodule(self._places[stage])
        if not isinstance(sequence, nn.Sequential):
            raise ValueError(
                f"MODEL.CONTEXT.STAGES: the stage {stage} of this network is a "
                f"{type(sequence).__name__}, and only a torch.nn.Sequential can take a module; "
                "leave STAGES empty and put the context into the head"
            )
        sequence.add_module("context", module)

    def _freeze(self, freeze_at: int) -> list[nn.Module]:
        """Freeze the first stages; return their batch norms."""
        names = list(STRIDES)
        if not 0 <= freeze_at <= len(names):
            raise ValueError(f"MODEL.BACKBONE.FREEZE_AT={freeze_at} must be 0 to {len(names)}")
        if freeze_at == 0:
            return []
        if names[freeze_at - 1] not in self._places:
            known = [str(i) for i, name in enumerate(names, 1) if name in self._places]
            raise ValueError(
                f"MODEL.BACKBONE.FREEZE_AT={freeze_at}: this network has no {names[freeze_at - 1]}"
                f" to freeze up to; choose from 0, {', '.join(known)}"
            )
        place = self._places[names[freeze_at - 1]]
        modules = list(dict(self.body.named_modules()))
        end = max(i for i, name in enumerate(modules) if f"{name}.".startswith(f"{place}."))
        norms: list[nn.Module] = []
        for name in modules[: end + 1]:
            if ".context" in name:
                continue  # it is new, and there is nothing in it to keep
            module = self.body.get_submodule(name)
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad = False
            if isinstance(module, nn.BatchNorm2d):
                norms.append(module)
        return norms

    def train(self, mode: bool = True) -> "TimmBackbone":
        """Set the mode; frozen batch norms keep their statistics."""
        super().train(mode)
        for norm in self._frozen_norms:
            norm.eval()
        return self

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map an image (N, 3, H, W) to a dict of the features asked for."""
        maps = dict(zip(self._names, self.body(x), strict=True))
        return {name: maps[name] for name in self._shapes}

    def before_context(self, place: str, images: torch.Tensor) -> torch.Tensor:
        """Map images (N, 3, H, W) to what the context module at the end of a stage gets.

        Args:
            place: the name of the stage's sequence here, as "body.blocks.4".
            images: normalised images.

        Raises:
            ValueError: the network does not run its parts in the order in which it has them.
        """
        x, module = images, self.body
        for step in [*place.split(".")[1:], "context"]:
            for name, part in module.named_children():
                if name == step:
                    module = part
                    break
                x = part(x)
        maps = dict(zip(self._names, self.body(images), strict=True))
        stage = next(n for n, known in self._places.items() if f"body.{known}" == place)
        after = module(x)
        if after.shape != maps[stage].shape or not torch.allclose(after, maps[stage], 1e-3, 1e-3):
            raise ValueError(
                f"the map before {place}.context cannot be read: this timm network does not run "
                "its parts one after another"
            )
        return x

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each feature that is returned."""
        return self._shapes


def create_timm_model(
    name: str, *, pretrained: bool = False, weights: str = "", **arguments: Any
) -> nn.Module:
    """Create a network of timm with its feature maps.

    Args:
        name: its name in timm.
        pretrained: load the weights that timm downloads.
        weights: a file with weights in timm's names, instead of a download; "" for none. timm reads
            it, as data only.
        **arguments: of ``timm.create_model``.

    Raises:
        ModuleNotFoundError: timm is not installed.
        FileNotFoundError: the file is missing.
        RuntimeError: the weights cannot be fetched, or the file is damaged or of another network.
        ValueError: timm has no network of that name; the message lists the nearest.
    """
    require_extra("timm", "MODEL.TIMM")
    import timm

    if not timm.is_model(name):
        nearest = difflib.get_close_matches(name, timm.list_models(), n=5, cutoff=0.4)
        raise ValueError(
            f"MODEL.TIMM.NAME={name!r} is no network of timm {timm.__version__}; the nearest "
            f"names are {', '.join(nearest) or 'none'}"
        )
    if weights:
        file = os.path.expanduser(weights)
        if not os.path.isfile(file):
            raise FileNotFoundError(f"MODEL.TIMM.WEIGHTS={weights}: there is no such file")
        arguments["pretrained_cfg_overlay"] = {"file": file}
    try:
        return timm.create_model(
            name, pretrained=pretrained or bool(weights), features_only=True, **arguments
        )
    except Exception as error:  # of the network, of the hub, of damaged files
        if weights:
            raise RuntimeError(
                f"MODEL.TIMM.WEIGHTS={weights} is damaged, holds more than tensors, or is not of "
                f"{name} ({_first_line(error)})"
            ) from error
        if pretrained:
            raise RuntimeError(
                f"MODEL.TIMM.PRETRAINED: the weights of {name} cannot be fetched "
                f"({_first_line(error)}). Where there is no network, download them elsewhere and "
                "set MODEL.TIMM.WEIGHTS to the file, or set PRETRAINED to False"
            ) from error
        raise


def _first_line(error: Exception) -> str:
    """What is wrong, in one line; PyTorch's long text on this advises to turn weights_only off."""
    if "weights_only" in str(error):
        return "its pickle is damaged or refers to Python objects"
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Build the network of `MODEL.TIMM` with the modules of `MODEL.CONTEXT`."""
    node, context = cfg.MODEL.TIMM, cfg.MODEL.CONTEXT
    start = not cfg.MODEL.WEIGHTS  # these weights are loaded over all others
    if not start and (node.PRETRAINED or node.WEIGHTS):
        logging.getLogger(__name__).info(
            "MODEL.WEIGHTS is set: MODEL.TIMM.PRETRAINED and MODEL.TIMM.WEIGHTS are not read"
        )
    body = create_timm_model(
        node.NAME,
        pretrained=start and node.PRETRAINED,
        weights=node.WEIGHTS if start else "",
        in_chans=input_shape.channels,
    )
    return fit_to_device(
        cfg,
        TimmBackbone(
            body,
            out_features=node.OUT_FEATURES,
            context=context_builder(context) if context.STAGES else None,
            context_stages=context.STAGES,
            freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        ),
    )


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> GlobalBatchFPN:
    """Build Detectron2's FPN on :func:`build_timm_backbone`."""
    fpn = GlobalBatchFPN(bottom_up=build_timm_backbone(cfg, input_shape), **fpn_arguments(cfg))
    return fit_to_device(cfg, fpn)
