"""Files of weights: read without running code from them, written whole or not at all."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch


def read_file(path: str | os.PathLike) -> Any:
    """Read what a `.pth` file holds: tensors, numbers and text in dicts and lists.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds more than that and could run code.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"the checkpoint {path} is missing")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        first = str(error).splitlines()[0] if str(error) else repr(error)
        raise ValueError(f"{path} is damaged, or holds more than weights: {first}") from error


def write_weights(path: Path, state: dict[str, torch.Tensor], **more: Any) -> None:
    """Write the weights of a backbone as Detectron2's checkpointer reads them.

    Whatever model has the backbone, its parameters are found by the ends of their names.

    Args:
        path: the file; an interrupted run leaves none.
        state: tensors by name.
        more: what else the file says.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        torch.save({"model": state, "matching_heuristics": True, **more}, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
