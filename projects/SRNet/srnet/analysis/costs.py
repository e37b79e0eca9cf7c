"""Parameters, multiply-adds and activations of a model, part by part, or how two models differ.

GFLOPs are 1e9 multiply-adds of convolutions, fully connected layers and matrix products (fvcore),
activations the elements that convolutions and fully connected layers put out. A detector is counted
with 1000 boxes and 100 masks, whatever its weights.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.utils.analysis import FlopCountAnalysis
from tabulate import tabulate
from torch import nn

from srnet.data import task_of
from srnet.model_zoo import get_cfg
from srnet.modeling import build_model

from .counting import prepare_count

BOXES, MASKS = 1000, 100
DETECTOR_SIZE = (800, 1200)
COUNTED = (nn.modules.conv._ConvNd, nn.Linear)


def load_config(name: str, opts: Sequence = ()) -> CfgNode:
    """Read a config for counting: on the CPU, with random weights.

    Args:
        name: a path or a name of the model zoo.
        opts: alternating keys and values.
    """
    cfg = get_cfg(name, [*opts, "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
    if task_of(cfg).instances:
        # Nothing is suppressed, so the numbers of boxes are the limits.
        cfg.MODEL.RPN.NMS_THRESH = cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST = 1.0
        cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = BOXES
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.5
        cfg.TEST.DETECTIONS_PER_IMAGE = MASKS
    return cfg


def default_size(cfg: CfgNode) -> tuple[int, int]:
    """Height and width of the image that the models of a task are compared with."""
    if task_of(cfg).instances:
        return DETECTOR_SIZE
    if task_of(cfg).one_size:
        return 224, 224
    height, width = cfg.INPUT.CROP.SIZE
    return int(height), int(width)


def analyze(cfg: CfgNode, size: tuple[int, int]) -> dict[str, tuple[float, float, float]]:
    """Count a model.

    Args:
        cfg: its config, on the CPU.
        size: height and width of the image in pixels.

    Returns:
        For "model", its top-level modules and "context modules": parameters in millions, GFLOPs and
        millions of activations.
    """
    model = build_model(cfg).eval()
    for module in model.modules():
        # Random weights under frozen norms grow from block to block; boxes must stay finite.
        variance = getattr(module, "running_var", None)
        if isinstance(variance, torch.Tensor):
            variance.fill_(4.0)
        if isinstance(module, FastRCNNOutputLayers):  # every box is of the first class
            nn.init.zeros_(module.cls_score.weight)
            nn.init.zeros_(module.cls_score.bias).data[0] = 10.0
    image = torch.zeros(3, *size)
    with count_activations(model) as activations:
        per_module = prepare_count(FlopCountAnalysis(model, [{"image": image}])).by_module()
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
def count_activations(model: nn.Module) -> Iterator[Counter[str]]:
    """Collect how many elements each convolution and fully connected layer puts out."""
    counts: Counter[str] = Counter()

    def hook(name: str) -> Callable[[nn.Module, tuple, torch.Tensor], None]:
        def count(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
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


def report(names: Sequence[str], opts: Sequence = (), size: tuple[int, int] | None = None) -> str:
    """Count one or two models at the same size and format a Markdown table with its heading.

    Args:
        names: paths or names of the model zoo.
        opts: alternating config keys and values, for all of them.
        size: height and width of the image; by default the first model's :func:`default_size`.
    """
    cfgs = [load_config(name, opts) for name in names]
    size = size or default_size(cfgs[0])
    results = [analyze(cfg, size) for cfg in cfgs]
    heading = f"{size[0]} x {size[1]} (height x width)"
    if task_of(cfgs[0]).instances:
        heading += f", {BOXES} boxes, {MASKS} masks"
    return f"{heading}:\n\n{to_markdown([Path(name).stem for name in names], results)}\n"
