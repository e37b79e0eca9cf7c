"""What a training sample of a semantic model costs: time to augment it, and bytes that travel.

Beside this project's augmentation runs the same one of Detectron2's pieces alone, which resizes the
whole image and then crops it, and sends float32 images and int64 labels. Both take the same drawn
image and the same random numbers, in turns. Counted are seconds of the processor.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from PIL import Image

from srnet.data.mappers.semantic import build_semantic_augmentation, to_sample
from srnet.data.resized_crop import ResizedCrop
from srnet.data.transfer import NarrowLabels

Sample = dict[str, torch.Tensor]


def draw(size: tuple[int, int], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """An image (H, W, 3), BGR as a view of RGB as it is read, and a label (H, W), both uint8."""
    random = np.random.default_rng(0)
    coarse = (size[0] // 8, size[1] // 8)
    blocks = Image.fromarray(random.integers(0, 256, (*coarse, 3), np.uint8))
    labels = Image.fromarray(random.integers(0, classes, coarse, np.uint8))
    image = np.asarray(blocks.resize(size[::-1], Image.Resampling.BILINEAR))
    label = np.asarray(labels.resize(size[::-1], Image.Resampling.NEAREST))
    return image[:, :, ::-1], label


def readers(cfg: CfgNode, size: tuple[int, int]) -> dict[str, Callable[[], Sample]]:
    """Both ways from an image to what a worker sends."""
    image, label = draw(size, min(256, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES))
    ours = build_semantic_augmentation(cfg, is_train=True)
    plain = [a for x in ours for a in ((x.resize, x.crop) if isinstance(x, ResizedCrop) else (x,))]

    def augmented(augmentations: list[T.Augmentation]) -> Sample:
        found = T.AugInput(image, sem_seg=label)
        T.AugmentationList(augmentations)(found)
        return to_sample(found)

    def resized_whole() -> Sample:
        sample = augmented(plain)
        return {**sample, "image": sample["image"].float()}

    narrow = NarrowLabels(lambda record: augmented(ours))
    return {"Detectron2": resized_whole, "this project": lambda: narrow({}) or {}}


def sample_costs(
    cfg: CfgNode, size: tuple[int, int], *, images: int = 20, rounds: int = 5
) -> dict[str, list[tuple[float, float]]]:
    """Measure both ways in turns.

    Args:
        cfg: the config of a semantic model.
        size: (height, width) of the image in pixels.
        images: samples a round.
        rounds: rounds of each.

    Returns:
        "Detectron2" and "this project": milliseconds and megabytes a sample, of each round.
    """
    torch.set_num_threads(1)
    costs: dict[str, list[tuple[float, float]]] = {"Detectron2": [], "this project": []}
    for number in range(rounds):
        for name, read in readers(cfg, size).items():
            np.random.seed(number)
            started, count = time.process_time(), 0
            for _ in range(images):
                count += sum(x.numel() * x.element_size() for x in read().values())
            seconds = time.process_time() - started
            costs[name].append((1e3 * seconds / images, count / images / 1e6))
    return costs


def to_text(costs: dict[str, list[tuple[float, float]]]) -> str:
    """Format costs: a line a way, and the ratios of a round."""
    lines = []
    for name, values in costs.items():
        times, sizes = zip(*values, strict=True)
        lines.append(
            f"{name}: {statistics.median(times):.1f} ms ({min(times):.1f} to {max(times):.1f}), "
            f"{statistics.mean(sizes):.2f} MB a sample"
        )
    pairs = list(zip(costs["this project"], costs["Detectron2"], strict=True))
    for place, what in enumerate(("time", "bytes")):
        ratios = [ours[place] / theirs[place] for ours, theirs in pairs]
        lines.append(
            f"{what}, this project / Detectron2: {statistics.median(ratios):.3f} "
            f"({min(ratios):.3f} to {max(ratios):.3f})"
        )
    return "\n".join(lines) + "\n"
