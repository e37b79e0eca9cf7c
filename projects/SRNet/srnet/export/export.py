"""Export a model: write the file, read it back, compare it with the model, describe it."""

import copy
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from torch import nn

from srnet.checkpoint import load_trained_model
from srnet.data import build_mapper
from srnet.data.paths import check_inside_image_root
from srnet.data.records import load_dataset
from srnet.modeling.semantic import resize_map

from .compare import Difference, compare
from .description import describe
from .folding import settle_folding
from .formats import Format, find_format
from .graph import BATCHED, ExportError, Graph
from .wrappers import build_graph

NUM_IMAGES = 2  # of the dataset, for the comparison
EXAMPLE_SIZE = (160, 224)
"""Of the image that a dynamic graph is recorded with: small, and of two lengths, so that none is
taken for the other."""
OTHER_SCALE = 0.75  # each image is compared at its own size and at this


class Exported(NamedTuple):
    """What an export made."""

    path: Path
    description: Path
    """The JSON beside it."""
    notes: list[str]
    """A line each about the graph."""
    differences: list[Difference]
    """The largest of each output over all images."""
    sizes: list[tuple[int, int]]
    """(height, width) of the images compared."""


def export_model(
    cfg: CfgNode,
    *,
    kind: str = "onnx",
    output: str | os.PathLike | None = None,
    size: tuple[int, int] | None = None,
    images: Sequence[str] = (),
) -> Exported:
    """Export the model of a config with its weights, and prove that the file predicts the same.

    The file takes float32 images of 0 to 255 with the channels of `INPUT.FORMAT`; normalisation is
    inside. It and the JSON beside it are written only if it predicts what the model predicts.

    Args:
        cfg: the config of the model; `MODEL.WEIGHTS` is loaded, and everything runs on a CPU.
        kind: a key of :data:`FORMATS`.
        output: the file; `OUTPUT_DIR/model` and the format's suffix by default.
        size: (height, width) of the only images it is to take; any size by default.
        images: paths of images for the comparison; the first of `DATASETS.TEST` by default.

    Returns:
        What was written and compared.

    Raises:
        FileNotFoundError: there are no weights, or no images.
        ModuleNotFoundError: what the format needs is not installed.
        RuntimeError: the weights do not fit the model.
        ValueError: an unknown format, a wrong size or name of the file, an image that does not
            decode, a model that the format cannot hold, or a file that predicts otherwise.
    """
    target = find_format(kind)
    path = Path(output or os.path.join(cfg.OUTPUT_DIR, "model" + target.suffix))
    if path.suffix != target.suffix:
        raise ExportError(f"--output {path}: a file of --format {kind} ends in {target.suffix}")
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    model = load_trained_model(cfg)
    inputs = read_images(cfg, images)
    graph, step, notes = _prepare(model, target, inputs[0], size)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export_") as folder:
        written = Path(folder) / path.name
        target.write(graph, written)
        model_graph = build_graph(model, inputs[0], dynamic=graph.dynamic)
        sized = [_fit(x, s) for x in inputs for s in _sizes(x, size, step)]
        differences = _compare_all(model_graph, target, written, sized)
        text = describe(cfg, graph, file=path.name, kind=kind, multiple_of=step)
        about = Path(folder) / "about.json"
        about.write_text(json.dumps(text, indent=1) + "\n")
        beside = path.with_suffix(".json")
        os.replace(about, beside)
        os.replace(written, path)
    sizes = [(x.shape[-2], x.shape[-1]) for x in sized]
    return Exported(path, beside, notes, differences, sizes)


def read_images(cfg: CfgNode, images: Sequence[str]) -> list[torch.Tensor]:
    """Read images as an evaluation does: (3, H, W) each, float32, 0 to 255.

    Raises:
        FileNotFoundError: an image or the dataset is missing, or neither is given.
        ValueError: an image does not decode, or all were passed over.
    """
    for image in images:
        if not os.path.isfile(image):
            raise FileNotFoundError(f"--input {image}: there is no such image")
    if images:
        records = [{"file_name": str(image)} for image in images]
    elif cfg.DATASETS.TEST:
        name = cfg.DATASETS.TEST[0]
        try:
            loaded = load_dataset(name, labelled=False)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"the export is compared on images, and those of {name} are missing: give some "
                f"with --input ({error})"
            ) from error
        records = [dict(loaded[i]) for i in range(min(NUM_IMAGES, len(loaded)))]
        check_inside_image_root(records, name, allow_outside=cfg.DATASETS.ALLOW_OUTSIDE_ROOT)
    else:
        raise FileNotFoundError("the export is compared on images: give some with --input")
    mapper = build_mapper(cfg, is_train=False)
    mapped = [mapper(record) for record in records]
    found = [x["image"].float() for x in mapped if x is not None]
    if not found:
        raise ExportError(f"none of the {len(records)} images for the comparison can be read")
    return found


def _prepare(
    model: nn.Module, target: Format, image: torch.Tensor, size: tuple[int, int] | None
) -> tuple[Graph, int, list[str]]:
    """The graph to write, of a copy of the model, and what the user is told about it."""
    example = _fit(image, size or EXAMPLE_SIZE)
    graph = build_graph(copy.deepcopy(model), example, dynamic=size is None)
    step = target.multiple_of(graph)
    for length in size or ():
        if length % step:
            raise ExportError(f"--size must be multiples of {step} for this model and format")
    shape = [str(graph.input_axes.get(i, n)) for i, n in enumerate(graph.example.shape)]
    any_size = "" if step == 1 else f"; height and width multiples of {step}"
    notes = [f"{target.about}; image ({', '.join(shape)}){any_size}", settle_folding(graph)]
    inference = getattr(model, "inference", None)
    if getattr(inference, "window", None) or len(getattr(inference, "scales", "1")) > 1:
        notes.append("sliding windows and scales of TEST.SEM_SEG are not in the file")
    return graph, step, [note for note in notes if note]


def _sizes(image: torch.Tensor, size: tuple[int, int] | None, step: int) -> list[tuple[int, int]]:
    """The sizes at which an image is compared: the fixed one, or its own and a smaller."""
    if size is not None:
        return [size]
    height, width = image.shape[-2:]
    scaled = [(height * s, width * s) for s in (1, OTHER_SCALE)]
    return [(max(1, int(h / step)) * step, max(1, int(w / step)) * step) for h, w in scaled]


def _fit(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return resize_map(image[None], size)[0]


def _compare_all(
    graph: Graph, target: Format, path: Path, images: Sequence[torch.Tensor]
) -> list[Difference]:
    """Compare on all images; the largest difference of each output."""
    run = target.load(path)
    largest: dict[str, Difference] = {}
    count = 0
    for image in images:
        given = image
        if graph.layout == BATCHED:
            # A dynamic batch: of one and, mirrored, of two.
            given = image[None]
            if graph.dynamic and image is images[0]:
                given = torch.stack([image, image.flip(-1)])
        expected = {name: value.numpy() for name, value in graph.predict(given).items()}
        found = dict(zip(graph.outputs, run(given), strict=True))
        what = f"an image of {image.shape[-2]} x {image.shape[-1]}"
        for one in compare(expected, found, what):
            before = largest.get(one.output)
            if before is None or one.value / one.allowed > before.value / before.allowed:
                largest[one.output] = one
        count += len(expected.get("boxes", ()))
    if graph.finds_objects and not count:
        raise ExportError(
            f"the model detects nothing in the {len(images)} images, so comparing them proves "
            "nothing: give others with --input, or lower MODEL.ROI_HEADS.SCORE_THRESH_TEST"
        )
    return list(largest.values())
