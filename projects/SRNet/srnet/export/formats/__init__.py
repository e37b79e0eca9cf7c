"""The formats by name. A new one is a file here and a line in `FORMATS`."""

import importlib

from .base import Format

# The name that `--format` takes -> the module whose `FORMAT` it is; imported when it is used.
FORMATS = {
    "onnx": "onnx_graph",
    "pt2": "exported_program",
    "torchscript": "torchscript",
}


def find_format(name: str) -> Format:
    """The format of a name.

    Raises:
        ValueError: there is none.
        ModuleNotFoundError: what it needs is not installed.
    """
    if name not in FORMATS:
        known = ", ".join([*FORMATS, "safetensors"])
        raise ValueError(f"--format {name} is unknown: choose one of {known}")
    found: Format = importlib.import_module(f"{__name__}.{FORMATS[name]}").FORMAT
    found.check_installed()
    return found


__all__ = ["FORMATS", "Format", "find_format"]
