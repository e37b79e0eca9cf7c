"""The figures that look into a trained model: Figs. 1(a), 6 and 8, each with its numbers as CSV."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata

from srnet.data.datasets.semantic_folders import pair_with_labels
from srnet.data.paths import check_inside_image_root
from srnet.data.read import check_label_size, read_label, read_rgb
from srnet.modeling.context_maps import ContextMaps, choose_module, context_maps
from srnet.modeling.semantic import resize_map
from srnet.visualization.channels import (
    ChannelCounts,
    choose_classes,
    draw_channels,
    pixels_by_position,
)
from srnet.visualization.components import (
    TITLES,
    Components,
    Consistency,
    draw_components,
    principal_components,
)
from srnet.visualization.numbers import save_figure, write_rows
from srnet.visualization.saliency import SalientChannels, draw_saliency, salient_channels
from srnet.visualization.scene import metadata_with_colors

from .inputs import list_inputs
from .predictor import Predictor
from .visualize import choose_records, spread_evenly


class Sample(NamedTuple):
    """An image, its truth, and the maps around the module.

    Attributes:
        name: the stem of the file.
        image: (H, W, 3) uint8, RGB.
        label: (H, W) class indices; None without truth.
        maps: what goes into the module and what comes out.
    """

    name: str
    image: np.ndarray
    label: np.ndarray | None
    maps: ContextMaps


class Source:
    """A trained model with a Squeeze Reasoning module, and the images that a figure is made of.

    Args:
        cfg: the config; `MODEL.WEIGHTS` is loaded.
        inputs: images, folders or patterns; without any, a dataset is taken.
        labels: the folder with the label PNGs of `inputs`; by default the first input with "annot"
            behind its name, where that is a folder.
        dataset: a registered one; by default the first of `DATASETS.TEST`.
        num: images, spread evenly; None for all.
        module: the name of the module; by default the last one of the model.

    Attributes:
        name: the module's.
        classes: the names of the classes of the truth.

    Raises:
        FileNotFoundError: an input, the dataset or the weights are missing.
        ValueError: the model has no such module, or inputs and options do not fit.
    """

    def __init__(
        self,
        cfg: CfgNode,
        *,
        inputs: Sequence[str] = (),
        labels: str = "",
        dataset: str = "",
        num: int | None = None,
        module: str = "",
    ):
        self.records, metadata = _records(cfg, inputs, labels, dataset, num)
        self.predictor = Predictor(cfg)
        self.name, self.module = choose_module(self.predictor.model, module)
        known = self.predictor.classes if metadata is None else metadata
        self.classes: list[str] = list(known.get("stuff_classes") or ())
        self._ignored = known.get("ignore_label", cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE)
        self.where = f"{self.name} of {cfg.MODEL.META_ARCHITECTURE}"

    @property
    def has_truth(self) -> bool:
        """Whether every image has a label."""
        return bool(self.classes) and all("sem_seg_file_name" in r for r in self.records)

    def __iter__(self) -> Iterator[Sample]:
        for record in self.records:
            image = read_rgb(record["file_name"])
            label = None
            path = record.get("sem_seg_file_name")
            if self.has_truth and path:
                mapping = record.get("label_mapping")
                label = read_label(path, len(self.classes), self._ignored, mapping)
                check_label_size(record["file_name"], image.size[::-1], path, label.shape)
                label = np.where(label == self._ignored, -1, label)
            maps = context_maps(
                self.predictor.model, self.predictor.prepare(image)["image"], self.name
            )
            name = os.path.splitext(os.path.basename(record["file_name"]))[0]
            yield Sample(name, np.asarray(image), label, maps)


def _records(
    cfg: CfgNode, inputs: Sequence[str], labels: str, dataset: str, num: int | None
) -> tuple[list[dict], Metadata | None]:
    """The images as Detectron2's dicts, and the metadata of their dataset."""
    if inputs:
        if dataset:
            raise ValueError(f"--dataset {dataset} and --input are given: give one of them")
        paths = [str(path) for path, _ in list_inputs(inputs).entries]
        folder = labels or f"{inputs[0].rstrip(os.sep)}annot"
        if labels and not os.path.isdir(labels):
            raise FileNotFoundError(f"--labels {labels}: there is no such folder")
        records: list[dict] = [{"file_name": path} for path in paths]
        if os.path.isdir(folder):
            records = [_with_label(path, folder) for path in paths]
        return spread_evenly(records, num), None
    if labels:
        raise ValueError(f"--labels {labels} belongs to --input; a dataset has its own")
    dataset = dataset or (cfg.DATASETS.TEST[0] if cfg.DATASETS.TEST else "")
    if dataset not in DatasetCatalog:
        raise ValueError(f"no dataset {dataset!r} is registered: give --dataset or --input")
    records = choose_records(dataset, num, ())
    check_inside_image_root(records, dataset, allow_outside=cfg.DATASETS.ALLOW_OUTSIDE_ROOT)
    return records, metadata_with_colors(dataset)


def _with_label(path: str, folder: str) -> dict:
    found, missing = pair_with_labels(
        os.path.dirname(path), [os.path.basename(path)], folder, os.listdir(folder)
    )
    if missing:
        raise FileNotFoundError(f"the image {path} has no label {Path(path).stem}.png in {folder}")
    return found[0]


def figure_channels(source: Source, output: Path, *, classes: Sequence[str] = ()) -> list[str]:
    """Fig. 1(a): count, for each class and channel, the pixels with a high normalised activation.

    Args:
        source: the model and the images, which need truth.
        output: the folder for channels.png, channels.csv and channels_summary.csv.
        classes: those that are drawn over the channels; by default the three largest.

    Returns:
        What a reader needs beside the paths: lines of text.

    Raises:
        ValueError: the images have no truth, or a class is unknown or absent.
    """
    if not source.has_truth:
        raise ValueError(
            "Fig. 1(a) counts pixels of each class, and these images have no label for each pixel: "
            "take a --dataset with semantic labels, or --input with --labels FOLDER"
        )
    names = source.classes
    counts = {title: ChannelCounts(len(names)) for title in TITLES}
    for sample in source:
        assert sample.label is not None  # source.has_truth
        for found, features in zip(counts.values(), sample.maps[:2], strict=True):
            found.add(features.float().cpu().numpy(), sample.label, sample.maps.covered)
    pixels = counts[TITLES[0]].pixels
    if not pixels.any():
        raise ValueError("no pixel of these images has a class: nothing can be counted")
    figure = draw_channels(counts, names, choose_classes(names, pixels, classes))
    rows, summary, lines = [], [], []
    for title, found in counts.items():
        numbers = found.summary()
        for index in np.flatnonzero(pixels):
            for channel, above in enumerate(found.above[index]):
                share = above / pixels[index]
                rows.append([title, names[index], channel, above, pixels[index], f"{share:.6f}"])
            measured = numbers.concentration[index], numbers.overlap[index]
            summary.append([title, names[index], pixels[index], *(f"{n:.4f}" for n in measured)])
        concentration, overlap = (float(np.nanmean(n[pixels > 0])) for n in numbers)
        lines.append(
            f"{title}: the top tenth of the channels has {concentration:.1%} of a class's counted "
            f"pixels (10 % if all channels were alike) and shares {overlap:.1%} of its channels "
            "with the top tenth of another class (10 % by chance), means over the classes"
        )
    fields = ["map", "class", "channel", "pixels_above_0.8", "pixels", "share"]
    save_figure(output, "channels", figure, fields, rows)
    fields = ["map", "class", "pixels", "share_in_top_tenth_of_channels", "overlap_of_top_tenths"]
    write_rows(output / "channels_summary.csv", fields, summary)
    return lines


def figure_saliency(source: Source, output: Path) -> list[str]:
    """Fig. 6: draw the most salient channel of each node over the images.

    Where the images have truth, the CSV says for each channel on which class it is largest.

    Args:
        source: the model and the images.
        output: the folder for saliency.png and saliency.csv.

    Returns:
        What a reader needs beside the paths: lines of text.
    """
    images: list[np.ndarray] = []
    drawn: list[np.ndarray] = []
    found: list[SalientChannels] = []
    rows = []
    for sample in source:
        channels = salient_channels(source.module, sample.maps.before, sample.maps.covered)
        images.append(sample.image)
        found.append(channels)
        drawn.append(_at_image_size(channels.maps, sample))
        best = _best_classes(source, sample, channels)
        for node, (label, ratio) in enumerate(best):
            values = channels.maps[node]
            numbers = (channels.saliences[node], channels.scales[node], values.min(), values.max())
            cells = [f"{n:.6g}" for n in numbers]
            rows.append([sample.name, node, channels.channels[node], *cells, label, ratio])
    fields = ["image", "node", "channel", "rms", "scale", "lowest", "highest"]
    fields += ["class_with_highest_rms", "its_rms_to_that_of_the_image"]
    save_figure(output, "saliency", draw_saliency(images, drawn, found), fields, rows)
    off = [int((channels.saliences == 0).sum()) for channels in found]
    return [f"of {len(found[0].channels)} nodes are off in each image: {', '.join(map(str, off))}"]


def _best_classes(
    source: Source, sample: Sample, channels: SalientChannels
) -> list[tuple[str, str]]:
    """For each channel the class with the largest root mean square, and its ratio to the image's.

    Empty texts without truth, and for a node that is off.
    """
    if sample.label is None:
        return [("", "")] * len(channels.maps)
    size, covered = channels.maps.shape[1:], sample.maps.covered
    counts = pixels_by_position(sample.label, size, len(source.classes), covered)
    energy = np.einsum("khw,hwc->kc", channels.maps.astype(np.float64) ** 2, counts)
    pixels = counts.sum(axis=(0, 1))
    squares = np.where(pixels > 0, energy / np.maximum(pixels, 1), 0)
    whole = energy.sum(axis=1) / max(1, pixels.sum())
    return [
        (source.classes[row.argmax()], f"{np.sqrt(row.max() / mean):.3f}") if mean > 0 else ("", "")
        for row, mean in zip(squares, whole, strict=True)
    ]


def figure_components(source: Source, output: Path) -> list[str]:
    """Fig. 8: draw the input and the output of the module by three principal components.

    Args:
        source: the model and the images.
        output: the folder for pca.png, pca.csv (each position) and pca_summary.csv.

    Returns:
        What a reader needs beside the paths: lines of text.

    Raises:
        ValueError: the map has fewer than three channels.
    """
    images: list[np.ndarray] = []
    found: list[Components] = []
    rows: list[list] = []
    summary = []
    consistency = Consistency(), Consistency()
    for sample in source:
        before, after, covered = sample.maps
        components = principal_components(before, after, covered)
        images.append(sample.image)
        found.append(components)
        for title, values in zip(TITLES, (components.before, components.after), strict=True):
            for (y, x), *_ in np.ndenumerate(values[0]):
                rows.append([sample.name, title, y, x, *(f"{v:.6g}" for v in values[:, y, x])])
        change = float((after - before).norm() / before.norm())
        summary.append([sample.name, *(f"{s:.4f}" for s in components.shares), f"{change:.4f}"])
        if sample.label is not None:
            _, height, width = before.shape
            size = (height, width)
            counts = pixels_by_position(sample.label, size, len(source.classes), covered)
            for own, features in zip(consistency, (before, after), strict=True):
                own.add(features.float().cpu().numpy(), counts)
    save_figure(
        output,
        "pca",
        draw_components(images, found),
        ["image", "map", "row", "column", "component_1", "component_2", "component_3"],
        rows,
    )
    fields = ["image", "variance_1", "variance_2", "variance_3", "change_of_the_map"]
    write_rows(output / "pca_summary.csv", fields, summary)
    three = np.mean([components.shares.sum() for components in found])
    lines = [f"the three components have {three:.1%} of the variance, mean over the images"]
    if source.has_truth:
        before_share, after_share = (own.share() for own in consistency)
        lines.append(
            f"variance within classes: {before_share:.1%} of the input's, {after_share:.1%} of the "
            "output's (less is more consistent)"
        )
    return lines


def _at_image_size(maps: np.ndarray, sample: Sample) -> np.ndarray:
    """Maps (K, h, w) at the size of the image, (K, H, W); what was padded is cut off."""
    height, width = sample.image.shape[:2]
    size = [round(n / share) for n, share in zip((height, width), sample.maps.covered, strict=True)]
    return resize_map(torch.from_numpy(maps)[None], size)[0, :, :height, :width].numpy()
