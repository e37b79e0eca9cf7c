"""Speed against mIoU: Fig. 5(b)."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure


@dataclass
class Model:
    """A point of the figure.

    Attributes:
        name: what is written beside it.
        miou: in %.
        fps: images a second; NaN where it is to be measured.
        config: what to measure; "" where the speed is known.
    """

    name: str
    miou: float
    fps: float = math.nan
    config: str = ""


def read_models(path: Path) -> list[Model]:
    """Read models from a CSV with the columns name, miou, and fps or config in each line.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, or a line has no number where one is needed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--table {path} is missing")
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        lines = list(reader)
        columns = reader.fieldnames or []
    if not {"name", "miou"} <= set(columns) or not {"fps", "config"} & set(columns):
        raise ValueError(
            f"--table {path} has the columns {', '.join(columns) or 'none'}: needed are name, "
            "miou, and fps or config"
        )
    models = []
    for number, line in enumerate(lines, start=2):
        fps, config = line.get("fps") or "", line.get("config") or ""
        if not fps and not config:
            raise ValueError(f"--table {path}, line {number}: give fps, or the config to measure")
        try:
            speed = float(fps) if fps else math.nan
            models.append(Model(line["name"], float(line["miou"]), speed, config))
        except (TypeError, ValueError):
            raise ValueError(
                f"--table {path}, line {number}: miou {line['miou']!r} and fps {fps!r} must be "
                "numbers"
            ) from None
    return models


def draw_speed(models: Sequence[Model], measured: Sequence[bool], conditions: str) -> Figure:
    """Draw a point for each model.

    Args:
        models: all with a speed.
        measured: which of them were measured here.
        conditions: of what was measured, a line under the figure.
    """
    figure = Figure(figsize=(6.4, 5.0), dpi=150, layout="constrained")
    axes = figure.subplots()
    for number, (model, here) in enumerate(zip(models, measured, strict=True)):
        color, marker = f"C{number % 10}", "o" if here else "x"
        axes.plot(model.fps, model.miou, marker, color=color, markersize=8)
        axes.annotate(
            model.name,
            (model.fps, model.miou),
            xytext=(6, 5),
            textcoords="offset points",
            color=color,
            fontsize=8,
        )
    axes.margins(0.25)
    axes.set(xlabel="images a second", ylabel="mIoU (%)")
    axes.grid(alpha=0.3)
    about = ["o: measured here"] * any(measured) + ["x: given"] * (not all(measured))
    axes.set_title("\n".join([", ".join(about), conditions]), fontsize=7)
    return figure


def models_table(models: Sequence[Model], measured: Sequence[bool]) -> tuple[list[str], list[list]]:
    """The numbers that :func:`draw_speed` draws: the fields and the rows of a CSV."""
    rows = [
        [model.name, f"{model.miou:.4f}", f"{model.fps:.4f}", model.config, int(here)]
        for model, here in zip(models, measured, strict=True)
    ]
    return ["name", "miou", "fps", "config", "measured_here"], rows
