#!/usr/bin/env python3
"""Print a table of the paper: its rows, the config of each, and its costs beside ours.

    tools/paper_tables.py --table {1,...,10} [--format text|markdown|csv] [--output FILE]

Table II: how the products of each module grow with the map, fitted to what is counted. The others
are the rows of tools/paper_rows.yaml: the paper's results, and parameters and multiply-adds where
the paper prints them. Rows cited from other papers have no config. Table IV has the activation
memory of the modules as well: what a training step holds from the forward to the backward pass, the
output included, in MB of 1e6 bytes (srnet.analysis.memory.activation_bytes).

Nothing is trained, downloaded or allocated. Each table takes seconds.
"""

import argparse
import csv
import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import yaml
from fvcore.nn.jit_handles import elementwise_flop_counter
from srnet import get_cfg
from srnet.analysis.counting import count_multiply_adds as count
from srnet.analysis.memory import activation_bytes
from srnet.analysis.meta_counting import build_on_meta, count_multiply_adds, count_parameters
from srnet.modeling import CONTEXT_REGISTRY, FCNHead, SRSemanticSegmentor
from tabulate import tabulate
from torch import nn

ROWS = Path(__file__).parent / "paper_rows.yaml"
# The difference in % that needs no reason.
CLOSE = 1.0
Row = list[str | float]

# Label: name, the paper's computation, and the exponents of H W and of C in it for large maps.
TABLE_II = {
    "Non-local": ("nl", "C (HW)^2", 2, 1),
    "A2Net": ("a2", "C^2 HW", 1, 2),
    "CGNL": ("cgnl", "C HW P", 1, 1),
    "CCNet": ("rcca", "C HW (H + W)", 1.5, 1),
    "DANet": ("danet", "C (HW)^2 + C^2 HW", 2, 1),
    "SRNet": ("sr ghp", "C HW + C", 1, 1),
}
SCALING = {"aten::mul": elementwise_flop_counter(0, 1)}


class Cost(NamedTuple):
    """A cost that the paper prints, ours beside it."""

    ours: float
    paper: float
    tolerance: float  # of the difference, in %
    reason: str  # why it is not below CLOSE

    @property
    def difference(self) -> float:
        """Ours relative to the paper's, in per cent."""
        return 100 * (self.ours - self.paper) / self.paper


def read_tables() -> dict[str, dict[str, Any]]:
    """The tables of paper_rows.yaml by their numbers: "4", "7a"."""
    return cast(dict[str, dict[str, Any]], yaml.safe_load(ROWS.read_text()))


def build_row(row: dict[str, Any]) -> nn.Module:
    """Build the model of a row that has a config."""
    options = [word for pair in row.get("with", {}).items() for word in pair]
    return build_on_meta(f"{row['config']}.yaml", options)


def costs_of(table: dict[str, Any], row: dict[str, Any], model: nn.Module) -> dict[str, Cost]:
    """The costs of a row that the paper prints: "params" in millions, "flops" in 1e9."""
    part, costs = row.get("part", ""), {}
    if "params" in row:
        costs["params"] = as_cost(count_parameters(model, part) / 1e6, *row["params"])
    if "flops" in row:
        extra = row.get("extra", table.get("extra", ""))
        ours = count_multiply_adds(model, tuple(table["size"]), part, extra)
        costs["flops"] = as_cost(ours / 1e9, *row["flops"])
    return costs


def as_cost(ours: float, paper: float, tolerance: float = CLOSE, reason: str = "") -> Cost:
    """Ours, and what stands in paper_rows.yaml."""
    return Cost(ours, paper, tolerance, reason)


def table_of_rows(name: str) -> tuple[list[str], list[Row]]:
    """A table of paper_rows.yaml: a row each, with the costs that the paper prints."""
    table = read_tables()[name]
    kinds = {"params": "params (M)", "flops": "GFLOPs", "memory": "memory (MB)"}
    kinds = {kind: title for kind, title in kinds.items() if any(kind in r for r in table["rows"])}
    header = [f"({name}) {table['caption']}", *(f"paper, {r}" for r in table["results"]), "config"]
    for title in kinds.values():
        header += [title, "paper", "diff %"]
    rows = []
    for row in table["rows"]:
        results = [str(value) for value in row.get("results", ["-"])]
        cells: Row = [row["name"], *results, describe(row)]
        costs = {}
        if "config" in row:
            model = build_row(row)
            costs = costs_of(table, row, model)
            if "memory" in row:
                costs["memory"] = as_cost(memory_of(model, row.get("part", "")), row["memory"])
        for kind in kinds:
            cost = costs.get(kind)
            cells += ["", "", ""] if cost is None else [cost.ours, cost.paper, cost.difference]
        rows.append(cells)
    return header, rows


def describe(row: dict[str, Any]) -> str:
    """The config of a row with its options; "cited" where there is none."""
    options = (f"{key} {value!r}" for key, value in row.get("with", {}).items())
    return " ".join((row.get("config", "cited"), *options))


def memory_of(model: nn.Module, part: str) -> float:
    """The activation memory of a part of a semantic model with ResNet-50, in 1e6 bytes, Table IV.

    The maps are those of an image of 768 x 768. Two images, for a map of one position, a cell of
    the pyramids, is nothing that batch norm can train on in one image.
    """
    segmentor = cast(SRSemanticSegmentor, model)
    head = cast(FCNHead, segmentor.sem_seg_head)
    if not part:
        module: nn.Module = WholeSegmentor(segmentor)
        shape = (3, 768, 768)
    elif part == "context":
        module = cast(nn.Module, head.context)
        shape = (512 if head.conv1 else 2048, 96, 96)
    else:
        module = nn.Sequential(cast(nn.Module, head.conv1), cast(nn.Module, head.conv2))
        shape = (2048, 96, 96)
    # Dropout draws on a device with numbers; the whole model has none and needs no memory so.
    device = "cpu" if part else "meta"
    images = torch.zeros(2, *shape, device=device)
    return activation_bytes(module.train().to_empty(device=device), images) / len(images) / 1e6


class WholeSegmentor(nn.Module):
    """A semantic model as one map to one map: backbone and classifier."""

    def __init__(self, model: SRSemanticSegmentor) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.sem_seg_head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images to logits at their stride."""
        return self.head.predict(self.backbone(images))


def build_module(name: str, channels: int) -> nn.Module:
    """Build a context module by its name, for SR with its squeeze: "nl", "sr gap"."""
    context = get_cfg().MODEL.CONTEXT
    context.NAME, _, squeeze = name.partition(" ")
    context.SQUEEZE = squeeze or context.SQUEEZE
    return CONTEXT_REGISTRY.get(context.NAME)(context, channels, "BN")


def table_2() -> tuple[list[str], list[Row]]:
    """Complexity of Table II: exponents of positions and channels, fitted to counted products.

    As there, the convolutions that reduce the channels are left out. The exponents are slopes of
    the logarithm of the multiply-adds, over maps of up to 64 x 64 and up to 128 channels.
    """
    header = ["module", "paper: O(...)", "HW exponent", "expected", "C exponent", "expected"]
    rows: list[Row] = []
    for label, (name, formula, of_positions, of_channels) in TABLE_II.items():
        sizes, widths = (16, 32, 64), (32, 64, 128)
        by_size = [count_products(name, widths[0], size) for size in sizes]
        by_width = [count_products(name, width, sizes[-1]) for width in widths]
        positions = slope([size**2 for size in sizes], by_size)
        channels = slope(widths, by_width)
        rows.append([label, formula, positions, of_positions, channels, of_channels])
    return header, rows


def count_products(name: str, channels: int, size: int) -> int:
    """Multiply-adds of a module's reasoning: all but convolutions and norms."""
    counts = count(build_module(name, channels), torch.zeros(1, channels, size, size), **SCALING)
    return sum(n for name, n in counts.items() if name not in ("conv", "batch_norm"))


def slope(sizes: Sequence[int], counts: Sequence[int]) -> float:
    """Exponent of a power law through counts at these sizes."""
    return float(np.polyfit(np.log(sizes), np.log(counts), 1)[0])


def tables_of(number: str) -> list[tuple[list[str], list[Row]]]:
    """The header and the rows of a table of the paper, or of its parts a and b."""
    if number == "2":
        return [table_2()]
    return [table_of_rows(name) for name in read_tables() if name.rstrip("ab") == number]


def to_text(header: list[str], rows: list[Row], style: str) -> str:
    """Format a table as aligned text, Markdown or CSV."""
    cells = [[show(cell, name) for cell, name in zip(row, header, strict=True)] for row in rows]
    if style == "csv":
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([header, *cells])
        return stream.getvalue()
    align = ["left" if i == 0 or name == "config" else "right" for i, name in enumerate(header)]
    form = {"text": "simple", "markdown": "pipe"}[style]
    return tabulate(cells, header, tablefmt=form, colalign=align, disable_numparse=True) + "\n"


def show(cell: str | float, column: str) -> str:
    """Format a number with what is worth reading: a sign for differences, digits for the rest."""
    if isinstance(cell, str):
        return cell
    if "diff" in column:
        return f"{cell:+.1f}"
    digits = 2 if not cell else max(0, 3 - math.floor(math.log10(abs(cell))))
    return f"{cell:.{min(digits, 5)}f}"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", choices=[str(n) for n in range(1, 11)], required=True)
    parser.add_argument("--format", choices=("text", "markdown", "csv"), default="text")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table there as well")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    tables = tables_of(arguments.table)
    table = "\n".join(to_text(*part, arguments.format) for part in tables)
    if arguments.output:
        try:
            arguments.output.write_text(table)
        except OSError as error:
            sys.exit(f"paper_tables: {error}")
    print(table, end="")


if __name__ == "__main__":
    main()
