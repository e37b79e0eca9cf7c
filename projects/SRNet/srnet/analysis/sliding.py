"""Sliding windows of `srnet.modeling.SemanticInference` against the loop of published code."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode

from srnet.modeling import SemanticInference

from .latency import measure, prepare


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
    total, count = torch.zeros(()), torch.zeros(())
    for row in range(steps[0]):
        for column in range(steps[1]):
            top = min(row * stride[0], size[0] - window[0])
            left = min(column * stride[1], size[1] - window[1])
            cut = image[None, :, top : top + window[0], left : left + window[1]]
            found = logits(cut)
            right, bottom = size[1] - left - window[1], size[0] - top - window[0]
            padded = F.pad(found, (left, right, top, bottom))
            ones = F.pad(torch.ones_like(found[:, :1]), (left, right, top, bottom))
            total, count = total + padded, count + ones
    return (total / count)[0]


def time_sliding(
    cfg: CfgNode,
    *,
    size: tuple[int, int],
    window: tuple[int, int],
    stride: tuple[int, int],
    device: str = "cpu",
    warmup: int = 1,
    repeats: int = 5,
) -> dict[str, list[float]]:
    """Time both ways to predict an image with sliding windows, in turns.

    Args:
        cfg: the config of a semantic model.
        size: (height, width) of the image in pixels.
        window: (height, width) of the windows in pixels.
        stride: (vertical, horizontal) step of the windows in pixels.
        device: "cpu" or "cuda".
        warmup: runs of each before.
        repeats: timed runs of each.

    Returns:
        Times in seconds: "plain loop" and "SemanticInference".

    Raises:
        ValueError: the window is larger than the image, or the model has no logits.
        AssertionError: the two results differ.
    """
    if any(w > s for w, s in zip(window, size, strict=True)):
        sides = ("{}x{}".format(*lengths) for lengths in (window, size))
        raise ValueError("the window {} is larger than the image {}".format(*sides))
    logits: Any = getattr(prepare(cfg, size=window, device=device).model, "logits", None)
    if logits is None:
        raise ValueError(f"{cfg.MODEL.META_ARCHITECTURE} is no semantic model: it has no windows")
    predict = SemanticInference(
        logits,
        window=window,
        stride=stride,
        max_batch_pixels=cfg.TEST.SEM_SEG.MAX_BATCH_PIXELS,
    )
    image = torch.rand(3, *size, device=device)
    runs = {
        "plain loop": lambda: plain_loop(logits, image, window, stride),
        "SemanticInference": lambda: predict(image),
    }
    with torch.inference_mode():
        first, second = (run() for run in runs.values())
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-3)
        times = measure(list(runs.values()), device=device, warmup=warmup, repeats=repeats)
    return dict(zip(runs, times, strict=True))
