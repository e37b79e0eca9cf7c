#!/usr/bin/env python3
"""Count parameters, multiply-adds and activations of a model, or how two models differ.

    tools/analyze_model.py --config-file CONFIG [--compare OTHER] [--size WIDTHxHEIGHT]
        [--output FILE] [KEY VALUE ...]

CONFIG and OTHER are files, or names in srnet.model_zoo. Any config key and its value may follow,
for both. The table is Markdown, a row a part of the model; parts that --compare finds equal are
left out.

GFLOPs are 1e9 multiply-adds of convolutions, fully connected layers and matrix products (fvcore),
activations the elements that convolutions and fully connected layers put out. A detector is counted
with 1000 boxes and 100 masks, whatever its weights; --size is 1200x800 for one by default,
otherwise the size of the training crops.
"""

import argparse
import logging
import math
import os
import re
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.utils.analysis import FlopCountAnalysis
from tabulate import tabulate
from torch import nn

from srnet.data import task_of
from srnet.layers import FLOP_HANDLES
from srnet.model_zoo import get_cfg, get_config_file
from srnet.modeling import build_model

BOXES, MASKS = 1000, 100
DETECTOR_SIZE = (1200, 800)
COUNTED = (nn.modules.conv._ConvNd, nn.Linear)


def load_config(name: str, opts: list[str]) -> CfgNode:
    """Read a config file or one of the model zoo, for a model on the CPU with random weights."""
    file = name if os.path.isfile(name) else get_config_file(name)
    cfg = get_cfg(file, [*opts, "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""]).clone()
    cfg.defrost()
    if task_of(cfg).instances:
        # Nothing is suppressed, so the numbers of boxes are the limits.
        cfg.MODEL.RPN.NMS_THRESH = cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST = 1.0
        cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = BOXES
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.5
        cfg.TEST.DETECTIONS_PER_IMAGE = MASKS
    return cfg


def default_size(cfg: CfgNode) -> tuple[int, int]:
    """Width and height of the image that the models of a task are compared with."""
    if task_of(cfg).instances:
        return DETECTOR_SIZE
    if task_of(cfg).one_size:
        return 224, 224
    return tuple(int(side) for side in reversed(cfg.INPUT.CROP.SIZE))


def analyze(cfg: CfgNode, size: tuple[int, int]) -> dict[str, tuple[float, float, float]]:
    """Count a model.

    Args:
        cfg: its config, on the CPU.
        size: width and height of the image.

    Returns:
        For "model", its top-level modules and "context modules": parameters in millions, GFLOPs and
        millions of activations.
    """
    model = build_model(cfg).eval()
    for module in model.modules():
        # Random weights under frozen norms grow from block to block; boxes must stay finite.
        if isinstance(getattr(module, "running_var", None), torch.Tensor):
            module.running_var.fill_(4.0)
        if isinstance(module, FastRCNNOutputLayers):  # every box is of the first class
            nn.init.zeros_(module.cls_score.weight)
            nn.init.zeros_(module.cls_score.bias).data[0] = 10.0
    image = torch.zeros(3, size[1], size[0])
    with count_activations(model) as activations:
        flops = FlopCountAnalysis(model, [{"image": image}]).set_op_handle(**FLOP_HANDLES)
        flops.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        per_module = flops.by_module()
    # FlopCountAnalysis wraps the model.
    per_module = {name.removeprefix("model").lstrip("."): n for name, n in per_module.items()}
    contexts = [name for name, _ in model.named_modules() if name.endswith(".context")]
    parts = {"model": [""], **{name: [name] for name, _ in model.named_children()}}
    parts["context modules"] = contexts
    result = {}
    for part, roots in parts.items():
        parameters = sum(
            p.numel() for root in roots for p in model.get_submodule(root).parameters()
        )
        outputs = sum(n for name, n in activations.items() if any(within(name, r) for r in roots))
        multiply_adds = sum(per_module.get(root, 0) for root in roots)
        result[part] = (parameters / 1e6, multiply_adds / 1e9, outputs / 1e6)
    return result


def within(name: str, root: str) -> bool:
    """Whether a module is another one or inside it."""
    return not root or name == root or name.startswith(f"{root}.")


@contextmanager
def count_activations(model: nn.Module):
    """Collect how many elements each convolution and fully connected layer puts out."""
    counts = Counter()

    def hook(name):
        def count(module, inputs, output):
            counts[name] += math.prod(int(side) for side in output.shape)

        return count

    handles = [
        module.register_forward_hook(hook(name), prepend=True)
        for name, module in model.named_modules()
        if isinstance(module, COUNTED)
    ]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def to_markdown(names: list[str], results: list[dict]) -> str:
    """Format one analysis, or two and their difference."""
    parts = list(dict.fromkeys(part for result in results for part in result))
    nothing = (0.0, 0.0, 0.0)
    header = ["model", "part", "params (M)", "GFLOPs", "activations (M)"]
    rows = []
    for part in parts:
        values = [result.get(part, nothing) for result in results]
        if len(values) == 1 and any(values[0]):
            rows.append([names[0], part, *(f"{x:.2f}" for x in values[0])])
        elif len(values) == 2 and values[0] != values[1]:
            for name, value in zip(names, values, strict=True):
                rows.append([name, part, *(f"{x:.2f}" for x in value)])
            change = (b - a for a, b in zip(*values, strict=True))
            rows.append(["difference", part, *(f"{x:+.2f}" for x in change)])
    if not rows:
        return f"{names[0]} and {names[1]} have the same counts in every part"
    align = ("left", "left", "right", "right", "right")
    return tabulate(rows, header, tablefmt="pipe", colalign=align, disable_numparse=True)


def parse_size(text: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, as in 1200x800")
    return int(match[1]), int(match[2])


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="CONFIG")
    parser.add_argument("--compare", metavar="OTHER", help="count this one too, and the difference")
    parser.add_argument("--size", type=parse_size, metavar="WIDTHxHEIGHT")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table there as well")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    arguments = parser.parse_args()
    logging.getLogger("srnet.engine.setup").setLevel(logging.ERROR)  # the CPU is meant
    configs = [arguments.config_file, *([arguments.compare] if arguments.compare else [])]
    try:
        cfgs = [load_config(name, arguments.opts) for name in configs]
        size = arguments.size or default_size(cfgs[0])
        results = [analyze(cfg, size) for cfg in cfgs]
    except (OSError, RuntimeError, ValueError, KeyError, AssertionError) as error:
        sys.exit(f"analyze_model: {error}")
    names = [Path(name).stem for name in configs]
    boxes = task_of(cfgs[0]).instances
    heading = f"{size[0]} x {size[1]} (width x height)"
    heading += f", {BOXES} boxes, {MASKS} masks" if boxes else ""
    table = f"{heading}:\n\n{to_markdown(names, results)}\n"
    if arguments.output:
        arguments.output.write_text(table)
    print(table)


if __name__ == "__main__":
    main()
