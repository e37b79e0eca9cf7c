"""Time and memory of the context modules on one device: `tools/benchmark.py modules`."""

import argparse
import csv
import itertools
import os
import resource
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from tabulate import tabulate
from torch import nn

from srnet.analysis.latency import measure
from srnet.model_zoo import get_cfg
from srnet.modeling import build_context
from srnet.modeling.context import ContextConv
from srnet.modeling.inference import is_out_of_memory
from srnet.modeling.semantic.blocks import conv_norm_relu

# The profiler's library would report that there is no GPU, as an error.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

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
    context = get_cfg().MODEL.CONTEXT
    words = name.split()
    context.NAME = "" if name == "none" else words[0]
    if len(words) > 1:
        context.SQUEEZE = words[1]
    module = build_context(context, channels)
    if not head:
        return module
    return Head(module, channels, fold=False if "plain" in words else None)


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


def peak_memory(run: Callable[[], None], device: str) -> float:
    """MB of tensors that a run holds at its peak beyond what was there."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    # The size of the process would not tell: freed memory stays with it.
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        run()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(itertools.accumulate((event.nbytes() for event in events), initial=0)) / 1e6


def resident(field: str) -> float:
    """A line of /proc/self/status in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError(f"/proc/self/status has no {field}")


def limit_memory(gigabytes: float) -> None:
    """Let allocations of this process beyond so much fail, where Linux would end a process.

    Args:
        gigabytes: for what is allocated from now on; 0 for what the machine has free.
    """
    if not gigabytes:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                gigabytes = 0.9 * int(line.split()[1]) * 1024 / 1e9
    limit = int(resident("VmSize") * 1e6 + gigabytes * 1e9)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


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


def to_markdown(rows: list[dict], reference: str = REFERENCE) -> str:
    """Format the rows, whose ratios are to `reference`; one that ran out of memory says so."""
    header = ["module", "size", "pass", "median (ms)", "quartiles (ms)", "fastest (ms)"]
    header += [f"to {reference}", "memory (MB)"]
    table = []
    for row in rows:
        cells = [row["module"], row["size"], row["pass"]]
        if row["median"] is None:
            cells += ["out of memory", "", "", "", ""]
        else:
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
            cells += [f"{row['median']:.1f}", f"{row['low']:.1f} to {row['high']:.1f}"]
            cells += [f"{row['fastest']:.1f}", ratio, f"{row['memory']:.0f}"]
        table.append(cells)
    align = ("left", "center", "left", "right", "center", "right", "right", "right")
    return tabulate(table, header, "pipe", colalign=align, disable_numparse=True) + "\n"


def plot(rows: list[dict], path: Path) -> None:
    """Draw the forward time over the size of the map, a line a module, as Fig. 5(a)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), layout="constrained", dpi=150)
    axes = figure.subplots()
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    lines = {}
    for row in rows:
        if row["pass"] == "forward" and row["median"] is not None:
            lines.setdefault(row["module"], []).append((sizes.index(row["size"]), row["median"]))
    styles = ("-", "--", ":")
    for i, (name, points) in enumerate(lines.items()):
        bold = {"linewidth": 3, "color": "black"} if name == REFERENCE else {}
        axes.plot(*zip(*points, strict=True), styles[i // 10], marker="o", label=name, **bold)
    axes.set_xticks(range(len(sizes)), sizes)
    axes.set(xlabel="map (height x width)", ylabel="forward (ms)", yscale="log")
    figure.legend(fontsize="small", loc="outside right upper", handlelength=4)
    axes.grid(alpha=0.3)
    figure.savefig(path)


def write_csv(rows: list[dict], path: Path) -> None:
    """Write the rows; times are empty where the memory did not suffice."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)


def parse_size(text: str) -> tuple[int, int]:
    """Read HEIGHTxWIDTH."""
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, as in 128x256")
    return int(height), int(width)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add what `modules` takes to its parser."""
    command.set_defaults(run=modules)
    command.add_argument(
        *("--sizes", "--size"),
        type=parse_size,
        nargs="+",
        metavar="HEIGHTxWIDTH",
        default=[(32, 32), (64, 64), (96, 96)],
        help="of the maps (default: 32x32 64x64 96x96); 128x256 is 1024 x 2048 at stride 8",
    )
    command.add_argument("--modules", nargs="+", metavar="NAME", choices=NAMES, help="not all")
    command.add_argument("--channels", type=int, default=512)
    command.add_argument("--batch", type=int, default=1, help="maps at once")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    command.add_argument("--device", default=device, help="cuda or cpu")
    command.add_argument("--dtype", choices=DTYPES, default="fp32", help="of weights and maps")
    command.add_argument(
        "--head", action="store_true", help="in the head: 3x3 conv 2048-512, module, 3x3 conv"
    )
    command.add_argument("--forward-only", action="store_true", help="no backward passes")
    command.add_argument(
        "--warmup", type=int, default=0, help="runs before, beside two (default: 0)"
    )
    command.add_argument("--repeats", type=int, default=3, help="runs of each (default: 3)")
    command.add_argument(
        "--reference",
        metavar="NAME",
        choices=NAMES,
        help=f"what ratios are to (default: {REFERENCE}; none with --head)",
    )
    command.add_argument("--threads", type=int, default=0, help="of a CPU; PyTorch's choice by 0")
    command.add_argument(
        "--memory", type=float, default=0.0, metavar="GB", help="limit on a CPU; all free by 0"
    )
    command.add_argument("--csv", type=Path, metavar="FILE", help="write all rows here")
    command.add_argument("--plot", type=Path, metavar="FILE", help="draw the forward times here")


def modules(arguments: argparse.Namespace) -> None:
    """Measure the modules, print a table, write CSV and plot."""
    names = arguments.modules or list(NAMES)
    if not arguments.head:
        alone = [name for name in names if name not in HEAD_ONLY]
        if arguments.modules and alone != names:
            raise ValueError(f"{', '.join(HEAD_ONLY)} differ from nothing or SR with --head alone")
        names = alone
    reference = arguments.reference or ("none" if arguments.head else REFERENCE)
    if arguments.device == "cpu" and Path("/proc/meminfo").exists():
        limit_memory(arguments.memory)
    rows = benchmark(
        names,
        arguments.sizes,
        channels=arguments.channels,
        batch=arguments.batch,
        device=arguments.device,
        dtype=DTYPES[arguments.dtype],
        head=arguments.head,
        backward=not arguments.forward_only,
        warmup=arguments.warmup,
        repeats=arguments.repeats,
        reference=reference,
    )
    print(to_markdown(rows, reference), end="")
    if arguments.csv:
        write_csv(rows, arguments.csv)
    if arguments.plot:
        plot(rows, arguments.plot)
