"""Time and memory of the context modules on one device."""

import statistics
from collections.abc import Callable, Sequence

import torch
from torch import nn

from srnet.model_zoo import get_cfg
from srnet.modeling import build_context
from srnet.modeling.context import ContextConv
from srnet.modeling.inference import is_out_of_memory
from srnet.modeling.semantic.blocks import conv_norm_relu

from .latency import measure
from .process_memory import peak_memory

REFERENCE = "sr ghp"
# "plain": never folded. Folding needs the convolution that --head puts after the module.
NAMES = (
    *("none", "sr ghp", "sr gap", "sr ghp plain", "sr gap plain", "se", "cbam", "gc", "nl", "a2"),
    *("cgnl", "rcca", "danet", "encoding", "ann", "emau", "glore", "psp", "aspp"),
)
HEAD_ONLY = ("none", "sr ghp plain", "sr gap plain")
FEATURES = 2048
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FIELDS = ("module", "size", "pass", "median", "low", "high", "fastest", "ratio", "memory")


class Head(nn.Module):
    """The two 3x3 convolutions of Table IV with a module between them."""

    def __init__(self, context: nn.Module | None, channels: int, *, fold: bool | None = None):
        super().__init__()
        self.context_conv = ContextConv(fold)
        self.conv1 = conv_norm_relu(FEATURES, channels, 3, "BN")
        self.context = context
        self.conv2 = conv_norm_relu(getattr(context, "out_channels", channels), channels, 3, "BN")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, 2048, H, W) to (N, channels, H, W)."""
        return self.context_conv(self.conv1(x), self.context, self.conv2)


def build(name: str, channels: int, *, head: bool = False) -> nn.Module:
    """Build a module of `NAMES`, alone or in the head of Table IV."""
    context = get_cfg(opts=["MODEL.DEVICE", "cpu"]).MODEL.CONTEXT  # no word on a missing GPU
    words = name.split()
    context.NAME = "" if name == "none" else words[0]
    if len(words) > 1:
        context.SQUEEZE = words[1]
    module = build_context(context, channels)
    if head:
        return Head(module, channels, fold=False if "plain" in words else None)
    return nn.Identity() if module is None else module


def one_pass(module: nn.Module, x: torch.Tensor, *, backward: bool) -> Callable[[], None]:
    """A function that runs a module: at inference, or in training with its backward pass.

    Batch norms keep their statistics in both: PSP and ASPP norm a map of one position, which has
    no variance where the batch is one image.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]

    def infer() -> None:
        module.eval()
        with torch.inference_mode():
            module(x)

    def train() -> None:
        module.train()
        for norm in norms:
            norm.eval()
        module(x.detach().requires_grad_()).sum().backward()
        module.zero_grad()

    return train if backward else infer


def benchmark(
    names: list[str],
    sizes: list[tuple[int, int]],
    *,
    channels: int = 512,
    batch: int = 1,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    head: bool = False,
    backward: bool = True,
    warmup: int = 0,
    repeats: int = 3,
    reference: str = REFERENCE,
    builder: Callable[..., nn.Module] = build,
) -> list[dict]:
    """Measure modules in turns, so that clocks and other load meet all alike.

    Args:
        names: of `NAMES`.
        sizes: (height, width) of the maps.
        channels: of the maps; with `head`, of its convolutions, which take 2048.
        batch: maps at once.
        device: "cpu" or "cuda".
        dtype: of weights and maps.
        head: measure the head with each module in it, not the module alone.
        backward: measure a training step too.
        warmup: runs of each before, beside the first and the one whose memory is measured.
        repeats: timed runs of each.
        reference: the name that ratios are to.
        builder: makes a module from a name, `channels` and `head`.

    Returns:
        A row for each module, size and pass with the fields of `FIELDS`: times in ms (median,
        quartiles, fastest), the ratio to `reference` where that was measured (the median of the
        ratios of runs that followed each other), and memory in MB. Where the memory did not
        suffice, times are None.
    """
    rows = []
    for height, width in sizes:
        x = torch.randn(batch, FEATURES if head else channels, height, width, device=device)
        x = x.to(dtype)
        for with_backward in (False, True) if backward else (False,):
            runs, memory = {}, {}
            for name in names:
                module = builder(name, channels, head=head).to(device, dtype)
                run = one_pass(module, x, backward=with_backward)
                try:
                    run()
                    memory[name] = peak_memory(run, device)
                    runs[name] = run
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
            found = measure(list(runs.values()), device=device, warmup=warmup, repeats=repeats)
            times = dict(zip(runs, found, strict=True))
            for name in names:
                step = "forward + backward" if with_backward else "forward"
                row = {"module": name, "size": f"{height} x {width}", "pass": step}
                rows.append(row | summarize(times, name, reference) | {"memory": memory.get(name)})
    return rows


def summarize(times: dict[str, list[float]], name: str, reference: str) -> dict[str, float | None]:
    """Median, quartiles (ms) and the ratio to `reference` of a module's times (s)."""
    if name not in times:
        return dict.fromkeys(FIELDS[3:8])
    values = [1e3 * value for value in times[name]]
    median = statistics.median(values)
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else [median] * 3
    ratio = None
    if reference in times:
        pairs = zip(times[name], times[reference], strict=True)
        ratio = statistics.median(own / other for own, other in pairs)
    return {
        "median": median,
        "low": low,
        "high": high,
        "fastest": min(values),
        "ratio": ratio,
    }


def choose_modules(
    names: Sequence[str] | None, reference: str | None, *, head: bool
) -> tuple[list[str], str]:
    """Resolve what is measured, and what ratios are to.

    Args:
        names: of `NAMES`; None for all that make sense.
        reference: of `NAMES`; None for SR, in the head for no module.
        head: whether the modules are measured in the head.

    Raises:
        ValueError: a name makes sense in the head alone.
    """
    chosen = [name for name in names or NAMES if head or name not in HEAD_ONLY]
    if names and chosen != list(names):
        raise ValueError(f"the modules {', '.join(HEAD_ONLY)} make sense with --head alone")
    return chosen, reference or ("none" if head else REFERENCE)
