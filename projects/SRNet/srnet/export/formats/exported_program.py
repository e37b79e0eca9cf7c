"""The program of torch.export (.pt2): for PyTorch, torch.compile and AOTInductor."""

import warnings
from pathlib import Path

import torch
from torch.export import Dim

from ..graph import ExportError, Graph
from .base import Format, Runner, first_line


class ExportedProgram(Format):
    """A program of torch.export."""

    suffix = ".pt2"
    about = "torch.export"

    def multiple_of(self, graph: Graph) -> int:
        """8 for a dynamic size.

        PyTorch (2.11) fixes the parity of what a max pooling takes, and that of four sizes in a
        row holds for multiples of 8.
        """
        if graph.finds_objects:
            raise ExportError(
                "--format pt2 cannot hold a detector: torch.export does not record padding and "
                "numbers of detections that depend on the image; take --format onnx or torchscript"
            )
        return 8 if graph.dynamic else 1

    def write(self, graph: Graph, path: Path) -> None:
        """Record the graph and write it; raises ExportError where that fails."""
        step = self.multiple_of(graph)
        dims = {
            axis: Dim.AUTO if name == "batch" else step * Dim(f"{name}_by_{step}")
            for axis, name in graph.input_axes.items()
        }
        try:
            with torch.no_grad():
                program = torch.export.export(
                    graph.module,
                    (graph.example,),
                    dynamic_shapes=(dims,) if dims else None,
                    strict=False,
                )
        except Exception as error:  # torch.export raises what its tracing meets, of many kinds
            other = "give --size HxW, or take --format onnx"
            raise ExportError(
                f"torch.export cannot hold this model: {first_line(error)}; "
                f"{other if graph.dynamic else 'take --format onnx'}"
            ) from error
        torch.export.save(program, path)

    def load(self, path: Path) -> Runner:
        """Run the file in PyTorch."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of buffers that cannot be written: nobody does
            module = torch.export.load(path).module()

        def run(image: torch.Tensor) -> list:
            with torch.no_grad():
                return [output.numpy() for output in module(image)]

        return run


FORMAT = ExportedProgram()
