"""Images a second through the whole of `srnet predict`, beside those through the network alone."""

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from PIL import Image

from srnet.data.read import read_rgb
from srnet.modeling import build_model

from .inputs import list_inputs
from .outputs import FORMS, OUTPUTS
from .pipeline import predict
from .predictor import Predictor

ROUGH = 12  # pixels of noise that a drawn picture is enlarged from, so that it is no plain colour


def default_forms(cfg: CfgNode) -> list[str]:
    """What is written by default: the first form that programs read."""
    has = OUTPUTS.get(cfg.MODEL.META_ARCHITECTURE, ())
    return [next((form for form, (_, key) in FORMS.items() if key in has and key), "pictures")]


def time_prediction(
    cfg: CfgNode,
    *,
    inputs: Sequence[str] = (),
    size: tuple[int, int] = (360, 480),
    images: int = 50,
    save: Sequence[str] = (),
    batch_size: int = 1,
    workers: int = 2,
    rounds: int = 5,
) -> dict[str, list[float]]:
    """Measure both in turns, on the same pictures in batches of the same size.

    The network alone is `Predictor.predict` on pictures that are decoded and resized. The whole
    run also reads files, draws or encodes, and writes; the model is loaded before.

    Args:
        cfg: the config; without `MODEL.WEIGHTS` the weights are random.
        inputs: files or folders; drawn JPEGs by default.
        size: (height, width) of the drawn pictures in pixels.
        images: how many pictures are drawn, or taken of `inputs` at most.
        save: the forms; by default the first that programs read.
        batch_size: pictures in a batch.
        workers: as of :func:`.pipeline.predict`.
        rounds: rounds of each.

    Returns:
        "network alone" and "srnet predict": images a second of each round.
    """
    with tempfile.TemporaryDirectory(prefix="srnet_benchmark") as folder:
        cfg = cfg.clone()
        if not cfg.MODEL.WEIGHTS:
            cfg.MODEL.WEIGHTS = os.path.join(folder, "random.pth")
            torch.save({"model": build_model(cfg).state_dict()}, cfg.MODEL.WEIGHTS)
        predictor = Predictor(cfg)
        entries = list_inputs(inputs or [draw_pictures(Path(folder) / "in", images, size)]).entries
        paths = [str(path) for path, _ in entries[:images]]
        prepared = [predictor.prepare(read_rgb(path)) for path in paths]
        forms = list(save) or default_forms(cfg)
        runs = {
            "network alone": lambda: network_alone(predictor, prepared, batch_size),
            "srnet predict": lambda: predict(
                predictor,
                paths,
                os.path.join(folder, "out"),
                save=forms,
                batch_size=batch_size,
                workers=workers,
            ),
        }
        rates: dict[str, list[float]] = {name: [] for name in runs}
        for run in runs.values():
            run()  # warm
        for _ in range(rounds):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                rates[name].append(len(paths) / (time.perf_counter() - start))
        return rates


def network_alone(predictor: Predictor, prepared: Sequence[dict], batch_size: int) -> None:
    """Predict prepared pictures in batches, and wait for the device."""
    for first in range(0, len(prepared), batch_size):
        predictor.predict(list(prepared[first : first + batch_size]))
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def draw_pictures(folder: Path, count: int, size: tuple[int, int]) -> str:
    """Write smooth pictures of noise as JPEGs; returns the folder."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(count):
        small = Image.fromarray(random.integers(0, 255, (ROUGH, ROUGH, 3), np.uint8))
        small.resize(size[::-1], Image.Resampling.BICUBIC).save(folder / f"{i:05d}.jpg")
    return str(folder)


def to_text(rates: dict[str, list[float]]) -> str:
    """Format rates: a line for each, and the ratio of the second to the first."""
    lines = [
        f"{name}: {statistics.median(values):.2f} images/s ({min(values):.2f} to {max(values):.2f})"
        for name, values in rates.items()
    ]
    alone, whole = rates.values()
    ratio = statistics.median(b / a for a, b in zip(alone, whole, strict=True))
    lines.append(f"ratio, the median of {len(alone)} rounds: {ratio:.3f}")
    return "\n".join(lines) + "\n"
