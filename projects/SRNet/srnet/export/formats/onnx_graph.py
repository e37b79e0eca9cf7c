"""ONNX, written by PyTorch and run by onnxruntime.

PyTorch's exporter for TorchScript is used (`dynamo=False`). The newer one goes through
torch.export, which cannot record a number of detections that depends on the image.
"""

import warnings
from pathlib import Path

import torch

from srnet.extras import require_extra

from ..graph import ExportError, Graph
from .base import Format, Runner, first_line

OPSET = 17
"""The oldest with all that is needed: Detectron2's own 11 has no `aten::unflatten`."""


class Onnx(Format):
    """A graph of ONNX."""

    suffix = ".onnx"
    about = f"ONNX, opset {OPSET}"

    def check_installed(self) -> None:
        """Check that onnx, with which PyTorch writes, and onnxruntime are there."""
        for module in ("onnx", "onnxruntime"):
            require_extra(module, "--format onnx")

    def write(self, graph: Graph, path: Path) -> None:
        """Record the graph and write it; raises ExportError where it has no form in ONNX."""
        axes = {"image": graph.input_axes, **graph.output_axes}
        try:
            with warnings.catch_warnings():
                # Of the exporter's age, and of each Python number: comparing the file tells more.
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    graph.module,
                    (graph.example,),
                    str(path),
                    dynamo=False,
                    opset_version=OPSET,
                    input_names=["image"],
                    output_names=list(graph.outputs),
                    dynamic_axes={name: of for name, of in axes.items() if of},
                )
        except (RuntimeError, ValueError, TypeError) as error:
            other = "give --size HxW, or take --format torchscript"
            if not graph.dynamic:
                other = "take --format torchscript"
            raise ExportError(
                f"ONNX (opset {OPSET}) cannot hold this model: {first_line(error)}; {other}"
            ) from error

    def load(self, path: Path) -> Runner:
        """Run the file with onnxruntime on a CPU."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        return lambda image: session.run(None, {"image": image.numpy()})


FORMAT = Onnx()
