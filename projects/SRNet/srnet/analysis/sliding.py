"""Sliding windows of `srnet.modeling.SemanticInference` against the loop of published code.

What runs is in `tools/benchmark.py sliding`.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F


def plain_loop(
    logits: Callable[[torch.Tensor], torch.Tensor],
    image: torch.Tensor,
    window: tuple[int, int],
    stride: tuple[int, int],
) -> torch.Tensor:
    """Average the logits of windows as mmsegmentation does.

    One window at a time; its logits are padded to the size of the image and added to a sum of that
    size, and where windows overlap is counted alike.

    Args:
        logits: maps (1, 3, h, w) to (1, classes, h, w).
        image: (3, H, W), at least the size of the window.
        window: (height, width) in pixels.
        stride: (vertical, horizontal) step in pixels.

    Returns:
        (classes, H, W).
    """
    size = image.shape[1:]
    steps = [-(-max(s - w, 0) // d) + 1 for s, w, d in zip(size, window, stride, strict=True)]
    total = count = None
    for row in range(steps[0]):
        for column in range(steps[1]):
            top = min(row * stride[0], size[0] - window[0])
            left = min(column * stride[1], size[1] - window[1])
            cut = image[None, :, top : top + window[0], left : left + window[1]]
            found = logits(cut)
            right, bottom = size[1] - left - window[1], size[0] - top - window[0]
            padded = F.pad(found, (left, right, top, bottom))
            ones = F.pad(torch.ones_like(found[:, :1]), (left, right, top, bottom))
            total = padded if total is None else total + padded
            count = ones if count is None else count + ones
    return (total / count)[0]
