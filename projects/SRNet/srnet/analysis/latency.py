"""Times of models on one device: warm, synchronised, interleaved."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from detectron2.config import CfgNode
from detectron2.solver import build_optimizer
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from tabulate import tabulate
from torch import nn

from srnet.modeling import build_model
from srnet.modeling.build import set_memory_format

OBJECTS = 10  # instances in an image of noise


@runtime_checkable
class HasLogits(Protocol):
    """A model that gives the logits of whole images."""

    def logits(self, images: torch.Tensor, /) -> torch.Tensor:
        """Map normalised images (N, 3, H, W) to logits."""


class Run(NamedTuple):
    """A model and what is timed of it."""

    model: nn.Module
    step: Callable[[], object]


def prepare(
    cfg: CfgNode,
    *,
    size: tuple[int, int],
    batch: int = 1,
    device: str = "cpu",
    half: bool = False,
    channels_last: bool | None = None,
    compiled: bool = False,
    train: bool = False,
    weights: dict[str, torch.Tensor] | None = None,
) -> Run:
    """Build the model of a config, with random weights, and an input for it.

    Args:
        cfg: the config of a model.
        size: (height, width) of the input in pixels.
        batch: images at once.
        device: "cpu" or "cuda".
        half: whether weights and maps are fp16, on a CPU bf16.
        channels_last: the memory format; None for what the config says.
        compiled: whether torch.compile is used.
        train: time training steps.
        weights: taken where name and shape are those of the model's own, so that two detectors
            find the same boxes and have the same work.

    Returns:
        What runs the model once: of semantic models and classifiers from the image on the device to
        logits; of others from the image to the results; with `train` a step of the optimizer.

    Raises:
        ValueError: `half` or `compiled` for what has no logits of whole images.
    """
    cfg = cfg.clone()
    cfg.MODEL.DEVICE = device
    model = build_model(cfg)
    if weights:
        own = model.state_dict()
        shared = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
        model.load_state_dict(shared, strict=False)
    if channels_last is None:
        channels_last = cfg.MODEL.CHANNELS_LAST
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    set_memory_format(model, memory_format)
    if train or not isinstance(model, HasLogits):
        if half or compiled:
            raise ValueError("--half and --compile take the inference of models with logits alone")
        inputs = [labelled_image(cfg, size, seed) for seed in range(batch)]
        return Run(model, training_step(cfg, model, inputs) if train else predict(model, inputs))
    dtype = torch.float32
    if half:
        dtype = torch.float16 if device.startswith("cuda") else torch.bfloat16
    model = model.eval().to(dtype)
    # Where a fresh SR is the identity its reconstruction still runs: no path depends on weights.
    image = torch.rand(batch, 3, *size, device=device).to(dtype, memory_format=memory_format)
    logits = torch.compile(model.logits) if compiled else model.logits

    def step() -> torch.Tensor:
        with torch.inference_mode():
            return logits(image)

    return Run(model, step)


def labelled_image(cfg: CfgNode, size: tuple[int, int], seed: int) -> dict:
    """An image of noise with ten instances, a class and a semantic label, as mappers make them."""
    height, width = size
    random = torch.Generator().manual_seed(seed)
    corners = torch.rand(OBJECTS, 2, generator=random) * torch.tensor([width, height]) * 0.75
    boxes = torch.cat([corners, corners + torch.tensor([width, height]) / 4], dim=1).floor()
    instances = Instances(size)
    instances.gt_boxes = Boxes(boxes)
    instances.gt_classes = torch.arange(OBJECTS) % cfg.MODEL.ROI_HEADS.NUM_CLASSES
    x0, y0, x1, y1 = boxes.T
    outlines = torch.stack([x0, y0, x1, y0, x1, y1, x0, y1], dim=1)
    masks = PolygonMasks([[outline.numpy().astype(float)] for outline in outlines])
    if cfg.INPUT.MASK_FORMAT == "bitmask":
        masks = BitMasks.from_polygon_masks(masks, height, width)
    instances.gt_masks = masks
    classes = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    return {
        "image": torch.rand(3, height, width, generator=random) * 255,
        "height": height,
        "width": width,
        "instances": instances,
        "sem_seg": torch.randint(classes, (height, width), generator=random),
        "class_index": 0,
    }


def predict(model: nn.Module, inputs: list[dict]) -> Callable[[], list[dict]]:
    """The inference of a model, as a function of nothing."""
    model.eval()

    def step() -> list[dict]:
        with torch.inference_mode():
            return model(inputs)

    return step


def training_step(cfg: CfgNode, model: nn.Module, inputs: list[dict]) -> Callable[[], None]:
    """A step of the optimizer, as a function of nothing."""
    model.train()
    cfg = cfg.clone()
    cfg.SOLVER.BASE_LR = 0.0  # the weights stay, and with them the boxes and the work
    optimizer = build_optimizer(cfg, model)

    def step() -> None:
        torch.manual_seed(0)  # detectors sample anchors and boxes
        optimizer.zero_grad()
        with EventStorage():  # detectors record in one
            losses = model(inputs)
        sum(losses.values()).backward()
        optimizer.step()

    return step


def measure(
    runs: Sequence[Callable], *, device: str = "cpu", warmup: int = 10, repeats: int = 50
) -> list[list[float]]:
    """Time functions in turns, each time waiting for the device before and after.

    Args:
        runs: what is timed.
        device: "cpu" or "cuda".
        warmup: runs of each before, which choose algorithms, compile and raise clocks.
        repeats: timed runs of each.

    Returns:
        The times of each function in seconds.
    """
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    for _ in range(warmup):
        for run in runs:
            run()
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for run, found in zip(runs, times, strict=True):
            wait()
            start = time.perf_counter()
            run()
            wait()
            found.append(time.perf_counter() - start)
    return times


def time_models(
    cfgs: Mapping[str, CfgNode],
    *,
    device: str = "cpu",
    warmup: int = 10,
    repeats: int = 50,
    **options: Any,
) -> dict[str, list[float]]:
    """Time models in turns; all have the weights that they can share with the first.

    Args:
        cfgs: a config for each name.
        device: "cpu" or "cuda".
        warmup: runs of each before.
        repeats: timed runs of each.
        options: as :func:`prepare` takes them.

    Returns:
        For each name its times in seconds.
    """
    runs: dict[str, Run] = {}
    for name, cfg in cfgs.items():
        first = next(iter(runs.values()), None)
        weights = first.model.state_dict() if first else None
        runs[name] = prepare(cfg, device=device, weights=weights, **options)
    steps = [run.step for run in runs.values()]
    times = measure(steps, device=device, warmup=warmup, repeats=repeats)
    return dict(zip(runs, times, strict=True))


def describe(
    *,
    device: str,
    size: tuple[int, int],
    repeats: int,
    batch: int = 1,
    half: bool = False,
    compiled: bool = False,
    train: bool = False,
) -> str:
    """Name the device and the conditions of a measurement, in one line."""
    cpu = device == "cpu"
    name = platform.processor() or platform.machine()
    where = f"{name}, {torch.get_num_threads()} threads" if cpu else torch.cuda.get_device_name()
    precision = ("bf16" if cpu else "fp16") if half else "fp32"
    height, width = size
    mode = ", torch.compile" if compiled else ""
    mode += ", training steps" if train else ""
    return (
        f"{where}; torch {torch.__version__}; {height} x {width}, batch {batch}, "
        f"{precision}{mode}; {repeats} runs each\n"
    )


def compare(times: dict[str, list[float]], batch: int = 1) -> str:
    """Format times (s) as a Markdown table: median, quartiles, FPS, and the ratio of two.

    The ratio is that of the FPS, the second to the first: the median over runs that followed each
    other, and that of the fastest runs, which other load on the machine has touched least.
    """
    header = ["config", "median (ms)", "quartiles (ms)", "fastest (ms)", "FPS"]
    rows = []
    for name, values in times.items():
        median = statistics.median(values)
        low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else [median] * 3
        quartiles = f"{1e3 * low:.2f} to {1e3 * high:.2f}"
        fastest, fps = f"{1e3 * min(values):.2f}", f"{batch / median:.1f}"
        rows.append([name, f"{1e3 * median:.2f}", quartiles, fastest, fps])
    align = ("left", "right", "center", "right", "right")
    text = tabulate(rows, header, "pipe", colalign=align, disable_numparse=True) + "\n"
    if len(times) == 2:
        first, second = times.values()
        ratio = statistics.median(a / b for a, b in zip(first, second, strict=True))
        of_fastest = min(first) / min(second)
        text += f"\nFPS of the second to the first: {ratio:.3f}; of the fastest: {of_fastest:.3f}\n"
    return text
