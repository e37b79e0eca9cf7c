"""The most salient channel of each node of a Squeeze Reasoning module: Fig. 6."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

from srnet.layers import SqueezeReasoning
from srnet.modeling.context_maps import covered_size

RED, BLUE = np.array([215, 25, 28]), np.array([30, 80, 220])


class SalientChannels(NamedTuple):
    """Of each node the channel that stands out most.

    Attributes:
        channels: (K,), its number among the P channels of the reasoned map.
        saliences: (K,), its root mean square over the positions of the image; 0 for a node that
            the reasoning switched off.
        maps: (K, h, w), the channel itself.
        scales: (K,), its scale g.
    """

    channels: np.ndarray
    saliences: np.ndarray
    maps: np.ndarray
    scales: np.ndarray


@torch.no_grad()
def salient_channels(
    module: SqueezeReasoning, before: torch.Tensor, covered: tuple[float, float] = (1, 1)
) -> SalientChannels:
    """Find the most salient channel of each node in the reasoned map ``b * g`` of Eq. 7.

    Node k has the channels k d to (k + 1) d - 1. The paper does not say what "salient" means; here
    it is the largest root mean square over the positions.

    Args:
        module: the module.
        before: (C, h, w), the map that goes into it.
        covered: the shares of the map's height and width that the image has: padding does not
            count.
    """
    scales = module.scales(before[None])[0]
    reasoned = module.conv_b(before[None])[0] * scales[:, None, None]
    height, width = covered_size(before.shape[1:], covered)
    strength = reasoned[:, :height, :width].float().square().mean(dim=(1, 2)).sqrt()
    size = len(scales) // module.num_nodes
    best = strength.view(module.num_nodes, size).argmax(dim=1)
    chosen = best + size * torch.arange(module.num_nodes, device=best.device)
    return SalientChannels(
        *(
            x.float().cpu().numpy() if x.is_floating_point() else x.cpu().numpy()
            for x in (chosen, strength[chosen], reasoned[chosen], scales[chosen])
        )
    )


def overlay(image: np.ndarray, activation: np.ndarray) -> np.ndarray:
    """Colour an image by an activation, red above 0 and blue below; (H, W, 3) of uint8.

    Args:
        image: (H, W, 3) uint8.
        activation: (H, W); the colour is full where its size is the largest. Where it is 0 the
            image is seen, in grey.
    """
    share = activation / (np.abs(activation).max() or 1)
    grey = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    colors = np.where(share[..., None] > 0, RED, BLUE)
    alpha = 0.85 * np.abs(share)[..., None]
    return ((1 - alpha) * grey + alpha * colors).clip(0, 255).astype(np.uint8)


def draw_saliency(
    images: Sequence[np.ndarray],
    activations: Sequence[np.ndarray],
    found: Sequence[SalientChannels],
) -> Figure:
    """Draw each image with the most salient channel of each node over it.

    Red and blue are the two signs: the convolution after the map tells them apart.

    Args:
        images: (H, W, 3) uint8 each.
        activations: (K, H, W) each, the channels at the size of the image.
        found: what :func:`salient_channels` returned for each.
    """
    nodes = len(found[0].channels)
    ratio = max(image.shape[0] / image.shape[1] for image in images)
    per_line = math.ceil(math.sqrt(2 * (nodes + 1)))
    lines = -(-(nodes + 1) // per_line)
    width = 1.9
    figure = Figure(
        figsize=(width * per_line, (width * ratio + 0.25) * lines * len(images)),
        dpi=150,
        layout="constrained",
    )
    grid = figure.subplots(lines * len(images), per_line, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for number, (image, maps, channels) in enumerate(zip(images, activations, found, strict=True)):
        cells = grid[number * lines : (number + 1) * lines].flat
        axes = next(cells)
        axes.imshow(image)
        axes.set_title("image", fontsize=7, pad=2)
        for node, activation in enumerate(maps):
            axes = next(cells)
            axes.imshow(overlay(image, activation))
            text = f"node {node}, channel {channels.channels[node]}"
            off = "" if channels.saliences[node] > 0 else " (off)"
            axes.set_title(text + off, fontsize=7, pad=2)
    return figure
