"""From a checkpoint to a file that others can use: half the size, no code in it, hashes."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from detectron2.config import CfgNode

from srnet.checkpoint import load_for_evaluation
from srnet.checkpoint.files import write_safetensors
from srnet.checkpoint.safetensors_file import sha256_of_file
from srnet.data.classes import class_counts, known_classes
from srnet.modeling import build_model


def publish(cfg: CfgNode, target: str | os.PathLike, *, name: str) -> str:
    """Write the weights of a model as safetensors in fp16.

    Convolutions and matrices become halves; norms, biases and other vectors stay float32, as their
    statistics may leave the range of a half. Loading makes everything float32. Counters of batch
    norms are left out. The file says which config it is of and which classes it knows.

    Args:
        cfg: the config; `MODEL.WEIGHTS` is read and must be the whole model's.
        target: the file to write, ``NAME.safetensors``.
        name: that of the config, as ``CamVid-SemanticSegmentation/lite0_SR.yaml``.

    Returns:
        The SHA-256 of the file.

    Raises:
        RuntimeError: as :func:`.load_for_evaluation`.
        ValueError: the target has another ending, or a weight is too large for a half.
        OSError: the target cannot be written.
    """
    target = Path(target)
    if target.suffix != ".safetensors":
        raise ValueError(f"{target}: the name must end in .safetensors")
    model = build_model(cfg)
    load_for_evaluation(cfg, model)
    metadata = {"config": name, "classes": json.dumps(classes_of(cfg))}
    write_safetensors(halved(model.state_dict()), target, **metadata)
    return sha256_of_file(target)


def halved(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights to publish: matrices and convolutions as halves, no counters.

    Raises:
        ValueError: one is too large for a half.
    """
    weights = {}
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        narrow = value.half() if value.is_floating_point() and value.dim() > 1 else value
        if not torch.isfinite(narrow).all():
            raise ValueError(f"{name} has values beyond those of a half (65504)")
        weights[name] = narrow
    return weights


def classes_of(cfg: CfgNode) -> list[str]:
    """The names of the classes: of Panoptic FPN those of stuff; none where they are not known."""
    known = known_classes(cfg)
    return list(known.get([*class_counts(cfg)][-1])) if known else []
