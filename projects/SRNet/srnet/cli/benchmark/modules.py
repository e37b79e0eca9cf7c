"""Measure time and peak memory of the context modules, at inference and in training: Fig. 5(a).

All modules take turns. The defaults take a few minutes on two cores.

Examples:
  srnet benchmark modules --size 96x96 128x256 --plot times.png
  srnet benchmark modules --head --modules none "sr ghp" nl --dtype bf16
"""

import argparse
from pathlib import Path

from srnet.cli.arguments import add_count, add_device, add_repeats, add_size, choose_device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet benchmark modules`."""
    from srnet.analysis.module_benchmark import DTYPES, NAMES, REFERENCE

    add_size(
        parser,
        default="32x32 64x64 96x96",
        several=True,
        help="sizes of the maps; 128x256 is that of a 1024x2048 image at stride 8",
    )
    parser.add_argument(
        "--modules", nargs="+", metavar="NAME", choices=NAMES, help=f"some of {', '.join(NAMES)}"
    )
    add_count(parser, "--channels", 512, "channels")
    add_count(parser, "--batch", 1, "maps in a batch")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="fp32", help="of weights and maps (default: fp32)"
    )
    parser.add_argument(
        "--head",
        action="store_true",
        help="measure each module between the two 3x3 convolutions of the head",
    )
    parser.add_argument("--forward-only", action="store_true", help="no training steps")
    add_repeats(parser, warmup=0, repeats=3, before="more runs before")
    parser.add_argument(
        "--reference",
        metavar="NAME",
        choices=NAMES,
        help=f"the module that ratios are to (default: {REFERENCE}; with --head none)",
    )
    parser.add_argument(
        "--memory",
        type=float,
        default=0.0,
        metavar="GB",
        help="memory limit on a CPU (default: 0, what is free)",
    )
    add_device(parser)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write all rows to FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the forward times")


def run(args: argparse.Namespace) -> None:
    """Measure, print a table, write CSV and plot."""
    from contextlib import nullcontext

    from srnet.analysis import module_benchmark, module_tables
    from srnet.analysis.process_memory import limited_memory

    device = choose_device(args)
    names, reference = module_benchmark.choose_modules(args.modules, args.reference, head=args.head)
    with limited_memory(args.memory) if device == "cpu" else nullcontext():
        rows = module_benchmark.benchmark(
            names,
            args.size,
            channels=args.channels,
            batch=args.batch,
            device=device,
            dtype=module_benchmark.DTYPES[args.dtype],
            head=args.head,
            backward=not args.forward_only,
            warmup=args.warmup,
            repeats=args.repeats,
            reference=reference,
        )
    print(module_tables.to_markdown(rows, reference), end="")
    if args.csv:
        module_tables.write_csv(rows, args.csv)
    if args.plot:
        module_tables.plot(rows, args.plot)
