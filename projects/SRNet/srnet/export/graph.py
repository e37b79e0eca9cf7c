"""What every format writes: a module from an image to tensors, and the names of its axes."""

from dataclasses import dataclass, field

import torch
from torch import nn

BATCHED, SINGLE = "NCHW", "CHW"


class ExportError(ValueError):
    """A model that a format cannot hold, or whose file does not predict as the model does."""


@dataclass
class Graph:
    """A network as tensors in, tensors out.

    Attributes:
        module: maps one image tensor to a tuple of tensors, in eval mode.
        example: an image of the layout `layout`, for what is recorded by running it.
        layout: "NCHW", or "CHW" where one image is predicted at a time.
        outputs: the name of each output, and what it holds.
        output_axes: for each output, the axes whose length varies, and their names.
        dynamic: any height, width and batch; otherwise those of `example` alone.
    """

    module: nn.Module
    example: torch.Tensor
    layout: str
    outputs: dict[str, str]
    output_axes: dict[str, dict[int, str]]
    dynamic: bool
    input_axes: dict[int, str] = field(init=False)

    def __post_init__(self) -> None:
        """Name the axes of the input."""
        axes = {"batch": -4, "height": -2, "width": -1}
        count = len(self.layout)
        named = {count + axis: name for name, axis in axes.items() if count + axis >= 0}
        self.input_axes = named if self.dynamic else {}

    @property
    def finds_objects(self) -> bool:
        """Whether the outputs are detections, whose number depends on the image."""
        return "boxes" in self.outputs

    @torch.no_grad()
    def predict(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """The outputs by name for an image of the graph's layout."""
        return dict(zip(self.outputs, self.module(image), strict=True))
