"""What other training code puts around weights: entries of a dict, and prefixes of names."""

import os
from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch

from .file_kinds import CheckpointError

# Detectron2 and torchvision, Lightning and timm, pycls, and common habits.
WRAPPERS = ("model", "state_dict", "model_state", "model_state_dict", "network", "net", "weights")
# DistributedDataParallel and AveragedModel, torch.compile, Lightning.
PREFIXES = ("module.", "_orig_mod.", "model.")


def unwrap(data: Any, path: str | os.PathLike) -> dict[str, Any]:
    """Find the weights in what a checkpoint holds.

    Args:
        data: what was saved.
        path: of the file, for messages.

    Returns:
        Detectron2's form: a dict with the weights by name as "model", and the other entries.

    Raises:
        CheckpointError: there are no weights by name; the message says what there is.
    """
    if not isinstance(data, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(data).__name__}, not weights by name: save a state_dict()"
        )
    if _has_weights_only(data):
        return {"model": data}
    rest, weights = dict(data), data
    while not _has_weights_only(weights):
        key = next((k for k in WRAPPERS if isinstance(weights.get(k), Mapping)), None)
        if key is None:
            raise CheckpointError(f"{path} holds no weights by name: {_entries(weights)}")
        if weights is data:
            del rest[key]
        weights = weights[key]
    return {**rest, "model": weights}


def _has_weights_only(data: Mapping) -> bool:
    return bool(data) and all(
        isinstance(key, str) and isinstance(value, torch.Tensor | np.ndarray)
        for key, value in data.items()
    )


def _entries(data: Mapping) -> str:
    if not data:
        return "it is an empty dict"
    if any(isinstance(value, torch.Tensor | np.ndarray) for value in data.values()):
        key, value = next(item for item in data.items() if not _has_weights_only(dict([item])))
        return f"its entry {key!r} is a {type(value).__name__}; save a state_dict() alone"
    entries = [f"{key!r} ({type(value).__name__})" for key, value in data.items()]
    more = ", ..." if len(entries) > 4 else ""
    return f"its entries are {', '.join(entries[:4])}{more}; save a state_dict() of the model"


def strip_prefixes(weights: dict, names: Collection[str] = ()) -> dict:
    """Remove the prefixes that wrappers of a model leave on the names of its weights.

    A prefix goes where all names have it, or where without it they are names of the model. It stays
    where names of the model begin with it.

    Args:
        weights: tensors by name.
        names: those of the model's weights, as far as they are known.

    Returns:
        The weights with their metadata; the same dict where nothing changes.
    """
    names = set(names)
    again = True
    while again:
        again = False
        for prefix in PREFIXES:
            inside = [k for k in weights if k.startswith(prefix) and len(k) > len(prefix)]
            if not inside or any(name.startswith(prefix) for name in names):
                continue
            if len(inside) == len(weights) or names & {k[len(prefix) :] for k in inside}:
                weights, again = _strip(weights, prefix), True
    return weights


def _strip(weights: dict, prefix: str) -> dict:
    stripped: Any = OrderedDict((k.removeprefix(prefix), v) for k, v in weights.items())
    metadata = getattr(weights, "_metadata", None)
    if metadata is not None:  # versions of modules, which load_state_dict reads
        # That of the wrapper is "", and that of the model is its prefix without the dot.
        stripped._metadata = {
            "" if f"{k}." == prefix else k.removeprefix(prefix): v for k, v in metadata.items() if k
        }
    return stripped
