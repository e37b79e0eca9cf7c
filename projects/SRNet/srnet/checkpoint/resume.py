"""Which checkpoint of a folder to resume from."""

import logging
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch

from .file_kinds import CheckpointError, check_is_file, check_kind
from .files import read_file

LAST = "last_checkpoint"


@dataclass(frozen=True)
class Found:
    """A `.pth` file in the folder of a training.

    Attributes:
        path: the file.
        iteration: that of its content, or of its name where it cannot be read, or -1.
        entries: what it holds; None where it cannot be read.
    """

    path: str
    iteration: int
    entries: frozenset[str] | None

    def check(self, needed: Collection[str]) -> None:
        """Refuse a checkpoint without the state of what is to go on.

        Args:
            needed: entries.

        Raises:
            CheckpointError: one is missing.
        """
        missing = [] if self.entries is None else [k for k in needed if k not in self.entries]
        if missing:
            raise CheckpointError(f"{self.path} has no state of the {missing[0]} to go on with")


def find_checkpoints(folder: str) -> list[Found]:
    """The checkpoints of a training, in the order in which to try them.

    First the one that `last_checkpoint` names, then those of the highest iteration. The times of
    the files do not count: copies and object stores change them. Files that hold no iteration are
    weights, and no training goes on from them; what cannot be read is tried, to be reported.

    Raises:
        CheckpointError: `last_checkpoint` names a missing file, and there is no other.
    """
    logger = logging.getLogger(__name__)
    found = []
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    for name in names:
        path = os.path.join(folder, name)
        if name.endswith(".pth") and not name.startswith(".") and os.path.isfile(path):
            checkpoint = _look_into(path)
            if checkpoint is None:
                logger.info("%s has no iteration: it is not resumed from", path)
            else:
                found.append(checkpoint)
    found.sort(key=lambda f: (f.iteration, f.path), reverse=True)
    last = last_checkpoint(folder)
    if last and (last != os.path.basename(last) or last not in names):
        problem = f"{os.path.join(folder, LAST)} names {last!r}, which is missing there"
        if not found:
            raise CheckpointError(
                f"{problem}, and there is no other checkpoint: put it back, or remove "
                f"{LAST} to start anew"
            )
        logger.warning("%s; resuming from the highest iteration instead", problem)
    return sorted(found, key=lambda f: os.path.basename(f.path) != last)


def last_checkpoint(folder: str) -> str:
    """The name in the file `last_checkpoint`; "" where there is none."""
    path = os.path.join(folder, LAST)
    if not os.path.isfile(path):  # missing, or a pipe
        return ""
    try:
        with open(path, errors="replace") as f:
            return f.read().strip().strip("\0")
    except OSError:
        return ""


def _look_into(path: str) -> Found | None:
    """Read what a file holds but for its tensors; None for weights without an iteration."""
    try:
        check_is_file(path)
        check_kind(path)
        data = _read_entries(path)
    except Exception:  # of a damaged file; loading it says what is wrong
        match = re.search(r"_(\d+)\.pth$", path)
        return Found(path, int(match[1]) if match else -1, None)
    iteration = data.get("iteration") if isinstance(data, dict) else None
    if type(iteration) is not int or iteration < 0:
        return None
    return Found(path, iteration, frozenset(data))


def _read_entries(path: str) -> Any:
    try:
        return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except RuntimeError:  # the form before PyTorch 1.6 cannot be mapped into memory
        return read_file(path)
