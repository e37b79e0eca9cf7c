#!/usr/bin/env python3
"""Measure models and modules.

    tools/benchmark.py latency CONFIG [CONFIG] [--size 1024 2048] [--half] [--channels-last]
        [--compile] [--train] [--device cuda] [--opts KEY VALUE ...]
    tools/benchmark.py sliding CONFIG [--size 1024 2048] [--window 769 769] [--stride 513 513]
    tools/benchmark.py modules [--sizes 96x96 128x256] [--head] [--dtype bf16] [--device cuda]
        [--csv FILE] [--plot FILE]

`latency` is the time from a normalised image on the device to logits of its size there; of
detectors and panoptic models, from an image to its results; with --train, of a training step. With
two configs the runs take turns, so that clocks and other load meet both alike, and their ratio is
printed; both have the weights they can share.

`sliding` is the time of an image through sliding windows, ours and the plain loop of published
code, in turns.

`modules` is the time and peak memory of the context modules, at inference and in training, on maps
of several sizes: Fig. 5(a). All take turns; the defaults take a few minutes on two cores.
"""

import argparse
import json
import sys
from pathlib import Path

from srnet.model_zoo import get_cfg


def latency(arguments: argparse.Namespace) -> None:
    """Measure one or two configs and print a table."""
    from srnet.analysis.latency import compare, describe, measure, prepare

    runs = {}
    for config in arguments.configs:
        cfg = get_cfg()
        cfg.merge_from_file(config)
        cfg.merge_from_list(["MODEL.WEIGHTS", "", *arguments.opts])
        first = next(iter(runs.values()), None)
        runs[config] = prepare(
            cfg,
            size=tuple(arguments.size),
            batch=arguments.batch,
            device=arguments.device,
            half=arguments.half,
            channels_last=arguments.channels_last,
            compiled=arguments.compile,
            train=arguments.train,
            weights=first.model.state_dict() if first else None,
        )
    times = measure(
        [run.step for run in runs.values()],
        device=arguments.device,
        warmup=arguments.warmup,
        repeats=arguments.repeats,
    )
    results = dict(zip(runs, times, strict=True))
    print(describe(arguments))
    print(compare(results, arguments.batch))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


def sliding(arguments: argparse.Namespace) -> None:
    """Measure sliding windows against the plain loop and print a table."""
    import torch

    from srnet.analysis.latency import compare, describe, measure, prepare
    from srnet.analysis.sliding import plain_loop
    from srnet.modeling import SemanticInference

    cfg = get_cfg()
    cfg.merge_from_file(arguments.configs[0])
    cfg.merge_from_list(["MODEL.WEIGHTS", "", *arguments.opts])
    size, window, stride = map(tuple, (arguments.size, arguments.window, arguments.stride))
    if any(w > s for w, s in zip(window, size, strict=True)):
        raise ValueError(f"--window {window} is larger than --size {size}")
    model = prepare(cfg, size=window, device=arguments.device).model
    predict = SemanticInference(
        model.logits,
        window=window,
        stride=stride,
        max_batch_pixels=cfg.TEST.SEM_SEG.MAX_BATCH_PIXELS,
    )
    image = torch.rand(3, *size, device=arguments.device)
    runs = {
        "plain loop": lambda: plain_loop(model.logits, image, window, stride),
        "SemanticInference": lambda: predict(image),
    }
    with torch.inference_mode():
        first, second = (run() for run in runs.values())
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-3)
        times = measure(
            list(runs.values()),
            device=arguments.device,
            warmup=arguments.warmup,
            repeats=arguments.repeats,
        )
    print(describe(arguments))
    print(compare(dict(zip(runs, times, strict=True))))


def add_common(command: argparse.ArgumentParser, warmup: int, repeats: int) -> None:
    """Add the options of the commands that take a model and an image."""
    import torch

    command.add_argument(
        "--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), default=(1024, 2048)
    )
    command.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu"
    )
    command.add_argument(
        "--warmup", type=int, default=warmup, help="runs before (default: %(default)s)"
    )
    command.add_argument(
        "--repeats", type=int, default=repeats, help="runs of each (default: %(default)s)"
    )
    command.add_argument("--threads", type=int, default=0, help="of a CPU; PyTorch's choice by 0")
    command.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="config keys and values, last"
    )


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    import torch

    from srnet.analysis.module_benchmark import add_arguments

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("latency", help="latency and FPS of one config, or of two")
    command.set_defaults(run=latency)
    command.add_argument("configs", metavar="CONFIG", nargs="+", help="one or two")
    command.add_argument("--batch", type=int, default=1, help="images at once")
    command.add_argument(
        "--half", action="store_true", help="weights and maps in fp16 (bf16 on a CPU)"
    )
    command.add_argument(
        "--channels-last",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="memory format (default: MODEL.CHANNELS_LAST of each config)",
    )
    command.add_argument("--compile", action="store_true", help="with torch.compile")
    command.add_argument("--train", action="store_true", help="time training steps")
    command.add_argument("--json", type=Path, metavar="FILE", help="write all times (s) here")
    add_common(command, warmup=10, repeats=50)
    command = commands.add_parser("sliding", help="sliding windows against the plain loop")
    command.set_defaults(run=sliding, batch=1, half=False, compile=False, train=False)
    command.add_argument("configs", metavar="CONFIG", nargs=1, help="of a semantic model")
    command.add_argument("--window", type=int, nargs=2, metavar="N", default=(769, 769))
    command.add_argument("--stride", type=int, nargs=2, metavar="N", default=(513, 513))
    add_common(command, warmup=1, repeats=5)
    add_arguments(commands.add_parser("modules", help="time and memory of the context modules"))
    found = parser.parse_args(arguments)
    if found.command == "latency" and len(found.configs) > 2:
        parser.error("give one config or two")
    lengths = (found.channels,) if found.command == "modules" else found.size
    if found.command == "sliding":
        lengths = (*lengths, *found.window, *found.stride)
    if min(*lengths, found.batch, found.repeats) < 1 or found.warmup < 0:
        parser.error("lengths, --channels, --batch and --repeats must be at least 1")
    if found.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("--device cuda: no GPU is available")
    if found.threads:
        torch.set_num_threads(found.threads)
    return found


if __name__ == "__main__":
    chosen = parse()
    try:
        chosen.run(chosen)
    except (OSError, ValueError) as error:
        sys.exit(f"benchmark.py: {error}")
