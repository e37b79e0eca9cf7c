"""What a format can do."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..graph import Graph

Runner = Callable[[torch.Tensor], list[np.ndarray]]


class Format(ABC):
    """A kind of file."""

    suffix: str
    """Of its files, with the dot."""
    about: str
    """A few words for the report."""

    def check_installed(self) -> None:  # noqa: B027  most need nothing more
        """Check that the packages are there, or raise ModuleNotFoundError."""

    def multiple_of(self, graph: Graph) -> int:
        """What height and width must be multiples of.

        Raises:
            ExportError: the format cannot hold the graph; the message names another that can.
        """
        return 1

    @abstractmethod
    def write(self, graph: Graph, path: Path) -> None:
        """Write a graph to a file.

        Raises:
            ExportError: it cannot; the message says why and what can.
        """

    @abstractmethod
    def load(self, path: Path) -> Runner:
        """Read a file back: a function from an image to the outputs, in their order."""


def first_line(error: Exception) -> str:
    """The first line of an error's message, for a message of one line."""
    text = next((line for line in str(error).splitlines() if line.strip()), repr(error))
    return text.strip()[:200].rstrip(".")
