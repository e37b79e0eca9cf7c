"""TorchScript, recorded by torch.jit.trace: it runs in PyTorch and libtorch."""

import warnings
from pathlib import Path

import torch

from ..graph import ExportError, Graph
from .base import Format, Runner, first_line


class TorchScript(Format):
    """A traced module. A detector's needs torchvision (in C++ its library), for its operators."""

    suffix = ".torchscript"
    about = "TorchScript"

    def write(self, graph: Graph, path: Path) -> None:
        """Trace the graph and write it; raises ExportError where that fails."""
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")  # comparing the file tells more
                traced = torch.jit.trace(graph.module, (graph.example,), check_trace=False)
        except (RuntimeError, ValueError, TypeError) as error:
            raise ExportError(
                f"TorchScript cannot hold this model: {first_line(error)}; take --format pt2"
            ) from error
        traced.save(str(path))

    def load(self, path: Path) -> Runner:
        """Run the file in PyTorch."""
        module = torch.jit.load(str(path), map_location="cpu")

        def run(image: torch.Tensor) -> list:
            with torch.no_grad():
                return [output.numpy() for output in module(image)]

        return run


FORMAT = TorchScript()
