#!/usr/bin/env python3
"""Print the cost tables of the paper, ours beside the paper's.

    tools/paper_tables.py --table {2,4,9,10} [--format text|markdown|csv] [--output FILE]

Table II: how the products of each module grow with the map, fitted to what is counted. Table IV:
multiply-adds, parameters and activation memory of the modules between the two 3x3 convolutions, on
a map of 512 x 96 x 96. Table IX: multiply-adds at 800 x 1200. Table X: parameters and multiply-adds
of the classifiers at 224 x 224.

Multiply-adds are counted by fvcore, memory by srnet.analysis.memory.activation_bytes: what a
training step holds from the forward to the backward pass, the output included, in MB of 1e6 bytes.
Nothing is trained or downloaded. Table IX runs whole detectors and takes minutes, the others
seconds.
"""

import argparse
import csv
import io
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from fvcore.nn.jit_handles import elementwise_flop_counter
from srnet import build_model, get_cfg
from srnet.analysis.costs import DETECTOR_SIZE, analyze, load_config
from srnet.analysis.counting import count_multiply_adds as count
from srnet.analysis.memory import activation_bytes
from srnet.modeling import CONTEXT_REGISTRY, FCNHead, ImageClassifier, SRSemanticSegmentor
from srnet.modeling.semantic.blocks import conv_norm_relu
from tabulate import tabulate
from torch import nn

SIZE, CHANNELS, FEATURES = 96, 512, 2048
Row = list[str | float]

# Label: `MODEL.CONTEXT.NAME`, GFLOPs, parameters (M) and memory (M) of Table IV.
TABLE_IV = {
    "SE": ("se", 0.00947, 0.03, 18.88),
    "NL": ("nl", 48.36, 0.53, 865.52),
    "A2Net": ("a2", 4.94, 0.53, 183.32),
    "CGNL": ("cgnl", 4.91, 0.53, 201.94),
    "RCCA": ("rcca", 11.55, 0.53, 394.28),
    "Encoding": ("encoding", 12.31, 0.59, 257.12),
    "ANN": ("ann", 10.41, 0.68, 421.12),
    "EMAU": ("emau", 6.97, 0.54, 132.64),
    "SR (GAP)": ("sr gap", 2.43, 0.26, 82.31),
    "SR (GHP)": ("sr ghp", 3.64, 0.40, 110.75),
}
# Label: name, the paper's computation, and the exponents of H W and of C in it for large maps.
TABLE_II = {
    "Non-local": ("nl", "C (HW)^2", 2, 1),
    "A2Net": ("a2", "C^2 HW", 1, 2),
    "CGNL": ("cgnl", "C HW P", 1, 1),
    "CCNet": ("rcca", "C HW (H + W)", 1.5, 1),
    "DANet": ("danet", "C (HW)^2 + C^2 HW", 2, 1),
    "SRNet": ("sr ghp", "C HW + C", 1, 1),
}
# Label: config, parameters (M) and GFLOPs of Table X.
TABLE_X = {
    "ResNet-50": ("resnet_50", 25.56, 4.122),
    "SENet-50": ("resnet_50_SE", 28.09, 4.130),
    "CBAM-50": ("resnet_50_CBAM", 28.09, 4.139),
    "SRNet-50": ("resnet_50_SR", 25.64, 4.127),
    "ResNet-101": ("resnet_101", 44.55, 7.849),
    "SENet-101": ("resnet_101_SE", 49.33, 7.863),
    "SRNet-101": ("resnet_101_SR", 44.70, 7.858),
}
# Label: the config of the baseline and of the row, and GFLOPs of Table IX; the rows with a module
# are what it adds.
INSTANCE, PANOPTIC = "COCO-InstanceSegmentation/", "COCO-PanopticSegmentation/"
TABLE_IX = {
    "Mask R-CNN R-50": (f"{INSTANCE}mask_rcnn_R_50_FPN_1x.yaml", 275.58),
    "+NL R-50": (f"{INSTANCE}mask_rcnn_R_50_FPN_NL_1x.yaml", 30.5),
    "+SR R-50": (f"{INSTANCE}mask_rcnn_R_50_FPN_SR_1x.yaml", 0.56),
    "Panoptic FPN R-50": (f"{PANOPTIC}panoptic_fpn_R_50_1x.yaml", 270.8),
    "+SR R-50, panoptic": (f"{PANOPTIC}panoptic_fpn_R_50_SR_1x.yaml", 0.56),
    "Mask R-CNN R-101": (f"{INSTANCE}mask_rcnn_R_101_FPN_1x.yaml", 351.65),
    "+SR R-101": (f"{INSTANCE}mask_rcnn_R_101_FPN_SR_1x.yaml", 1.32),
    "+7 SR R-101": (f"{INSTANCE}mask_rcnn_R_101_FPN_SR7_1x.yaml", 1.32),
}
# What Table X counts beside fvcore's operations: a value of ReLU, a value that a pooling reads.
ONE_A_VALUE = {
    f"aten::{name}": elementwise_flop_counter(*scales)
    for name, *scales in (("relu_", 0, 1), ("max_pool2d", 1, 0), ("mean", 1, 0), ("amax", 1, 0))
}
SCALING = {"aten::mul": elementwise_flop_counter(0, 1)}


def build_module(name: str, channels: int) -> nn.Module:
    """Build a context module by its name, for SR with its squeeze: "nl", "sr gap"."""
    context = get_cfg().MODEL.CONTEXT
    context.NAME, _, squeeze = name.partition(" ")
    context.SQUEEZE = squeeze or context.SQUEEZE
    return CONTEXT_REGISTRY.get(context.NAME)(context, channels, "BN")


def count_parameters(module: nn.Module) -> float:
    """Parameters in millions; what is not trained counts too."""
    return sum(p.numel() for p in module.parameters()) / 1e6


class Backbone(nn.Module):
    """The dilated FCN of Table IV as one map to one map: backbone and classifier."""

    def __init__(self) -> None:
        super().__init__()
        head = ("MODEL.SEM_SEG_HEAD.CONVS_DIM", "0", "MODEL.SEM_SEG_HEAD.AUX_IN_FEATURE", "")
        classes = ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", "19", "MODEL.SEM_SEG_HEAD.IGNORE_VALUE", "255")
        data = ("DATASETS.TRAIN", "()", "DATASETS.TEST", "()", "MODEL.WEIGHTS", "")
        name = "CamVid-SemanticSegmentation/fcn_R_50.yaml"
        cfg = get_cfg(name, ["MODEL.DEVICE", "cpu", *head, *classes, *data])
        model = cast(SRSemanticSegmentor, build_model(cfg))
        self.backbone, self.head = model.backbone, model.sem_seg_head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images to logits at their stride."""
        return self.head.predict(self.backbone(images))


def head_context(config: str) -> nn.Module:
    """The context module on the backbone's feature that a Cityscapes config's head has."""
    opts = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.SEM_SEG_HEAD.NORM", "BN"]
    model = build_model(get_cfg(f"Cityscapes-SemanticSegmentation/{config}.yaml", opts))
    head = cast(FCNHead, cast(SRSemanticSegmentor, model).sem_seg_head)
    return cast(nn.Module, head.context)


def table_4() -> tuple[list[str], list[Row]]:
    """Costs of Table IV: a row a module, ours, the paper's and the difference in per cent."""
    norm = "BN"
    two = nn.Sequential(
        conv_norm_relu(FEATURES, CHANNELS, 3, norm), conv_norm_relu(CHANNELS, CHANNELS, 3, norm)
    )
    image, features = torch.zeros(1, 3, 8 * SIZE, 8 * SIZE), (1, FEATURES, SIZE, SIZE)
    whole = {
        "dilated FCN": (Backbone(), image, (241.05, 23.63, 3249)),
        "+ASPP": (head_context("deeplabv3_R_50"), torch.zeros(features), (148.37, 15.54, 191.20)),
        "+PSP": (head_context("pspnet_R_50"), torch.zeros(features), (174.09, 23.07, 221.05)),
        "+2*3x3": (two, torch.zeros(features), (108.74, 11.80, 108.00)),
    }
    rows = [cost_row(label, module, x, paper) for label, (module, x, paper) in whole.items()]
    x = torch.zeros(1, CHANNELS, SIZE, SIZE)
    for label, (name, *paper) in TABLE_IV.items():
        handles = SCALING if name == "se" else {}
        rows.append(cost_row(f"+{label}", build_module(name, CHANNELS), x, paper, **handles))
    header = ["module"]
    for column in ("GFLOPs", "params (M)", "memory (MB)"):
        header += [column, "paper", "diff %"]
    return header, rows


def cost_row(
    label: str, module: nn.Module, x: torch.Tensor, paper: Sequence[float], **handles: Callable
) -> Row:
    """Label, then multiply-adds (1e9), parameters (1e6) and memory (1e6 B), each with the paper's.

    The dilated FCN's memory is counted without computing, so that it needs none itself.
    """
    flops = sum(count(module, x, **handles).values()) / 1e9
    parameters = count_parameters(module)
    if x.shape[1] == 3:
        module, x = module.to("meta"), x.to("meta")
    # One map of one position, a cell of the pyramids, is nothing that batch norm can train on.
    if x.shape[1] == FEATURES:
        x = x.expand(2, -1, -1, -1)
    memory = activation_bytes(module.train(), x) / len(x) / 1e6
    row: Row = [label]
    for ours, theirs in zip((flops, parameters, memory), paper, strict=True):
        row += [ours, theirs, difference(ours, theirs)]
    return row


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


def table_9() -> tuple[list[str], list[Row]]:
    """Multiply-adds of Table IX: of a detector, and what a module in its backbone adds."""
    rows: list[Row] = []
    for label, (config, paper) in TABLE_IX.items():
        part = "context modules" if label.startswith("+") else "model"
        flops = analyze(load_config(config), DETECTOR_SIZE)[part][1]
        rows.append([label, flops, paper, difference(flops, paper)])
    return ["model", "GFLOPs", "paper", "diff %"], rows


def table_10() -> tuple[list[str], list[Row]]:
    """Sizes of Table X: parameters and multiply-adds of the classifiers."""

    class Logits(nn.Module):
        def __init__(self, model: ImageClassifier):
            super().__init__()
            self.model = model

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.model.logits(images)

    rows: list[Row] = []
    for label, (config, params, giga) in TABLE_X.items():
        name = f"ImageNet-Classification/{config}.yaml"
        cfg = get_cfg(name, ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
        model = cast(ImageClassifier, build_model(cfg))
        image = torch.zeros(1, 3, 224, 224)
        flops = sum(count(Logits(model.eval()), image, **ONE_A_VALUE).values()) / 1e9
        ours = count_parameters(model)
        rows.append([label, ours, params, difference(ours, params)])
        rows[-1] += [flops, giga, difference(flops, giga)]
    return ["model", "params (M)", "paper", "diff %", "GFLOPs", "paper", "diff %"], rows


def difference(ours: float, paper: float) -> float:
    """Ours relative to the paper's, in per cent."""
    return 100 * (ours - paper) / paper


TABLES = {"2": table_2, "4": table_4, "9": table_9, "10": table_10}


def to_text(header: list[str], rows: list[Row], style: str) -> str:
    """Format a table as aligned text, Markdown or CSV."""
    cells = [[show(cell, name) for cell, name in zip(row, header, strict=True)] for row in rows]
    if style == "csv":
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([header, *cells])
        return stream.getvalue()
    align = ["left"] + ["right"] * (len(header) - 1)
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
    parser.add_argument("--table", choices=TABLES, required=True)
    parser.add_argument("--format", choices=("text", "markdown", "csv"), default="text")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table there as well")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    table = to_text(*TABLES[arguments.table](), arguments.format)
    if arguments.output:
        try:
            arguments.output.write_text(table)
        except OSError as error:
            sys.exit(f"paper_tables: {error}")
    print(table, end="")


if __name__ == "__main__":
    main()
