"""Models as files that run without this project: ONNX, TorchScript, torch.export.

`export_model` writes, reads back and compares; `formats` has one file a format; `postprocess` is
what remains to be done with the outputs, in NumPy alone.
"""

from .export import Exported, export_model
from .formats import FORMATS

__all__ = ["Exported", "export_model", "FORMATS"]
