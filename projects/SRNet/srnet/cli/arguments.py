"""The grammar that all subcommands share."""

import argparse
import difflib
import importlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from srnet.sizes import parse_size

CONFIG_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*")


class Command(NamedTuple):
    """What a subcommand consists of."""

    help: str  # the text of --help: a line, a blank line, details and an example
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


def command_in(module: str) -> Command:
    """Import the module of a subcommand: its text, `add_arguments` and `run`."""
    found = importlib.import_module(module)
    return Command(found.__doc__ or "", found.add_arguments, found.run)


class Parser(argparse.ArgumentParser):
    """A parser that takes options anywhere, and suggests the nearest option to an unknown one."""

    def __init__(self, prog: str, description: str | None):
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument(
            "--traceback", action="store_true", help="on an error, show where it was raised"
        )

    def read(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Read a command line; KEY VALUE pairs and options may be mixed.

        An error ends the program with status 2 and one line.
        """
        # argparse cannot mix options with a choice of commands.
        has_commands = any(isinstance(a, argparse._SubParsersAction) for a in self._actions)
        parse = self.parse_known_args if has_commands else self.parse_known_intermixed_args
        found, unknown = parse(argv)
        if unknown:
            word = unknown[0].partition("=")[0]
            hint = nearest(word, list(self._option_string_actions))
            self.error(f"there is no option {word}{hint}")
        if hasattr(found, "opts"):
            self._collect_pairs(found)
        return found

    def error(self, message: str) -> NoReturn:
        """Print one line and where to find help; exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message}\nSee '{self.prog} --help'.\n")

    def _collect_pairs(self, found: argparse.Namespace) -> None:
        """Take pairs out of the options that accept several values, and check their number."""
        for action in self._actions:
            values = getattr(found, action.dest, None)
            if action.nargs != "+" or not values:
                continue
            keys = (i for i, value in enumerate(values) if is_config_key(value))
            first = next(keys, len(values))
            setattr(found, action.dest, values[:first])
            found.opts = [*values[first:], *found.opts]
        if len(found.opts) % 2:
            self.error(f"config keys and values come in pairs: {found.opts[-1]} has no partner")


def is_config_key(value: Any) -> bool:
    """Whether a word is a config key rather than the name of a file."""
    return (
        isinstance(value, str) and bool(CONFIG_KEY.fullmatch(value)) and not os.path.exists(value)
    )


def nearest(name: str, names: Sequence[str]) -> str:
    """Suggest names that resemble `name`: "; did you mean A, B or C?", or "" where none does."""
    found = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    *others, last = found or [""]
    return f"; did you mean {', '.join(others) + ' or ' if others else ''}{last}?" if last else ""


def add_config(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add --config-file and the KEY VALUE pairs."""
    parser.add_argument(
        "--config-file",
        required=required,
        default="",
        metavar="CONFIG",
        help="a YAML file, or a name of the model zoo ('srnet config --list')",
    )
    parser.add_argument(
        "opts",
        nargs="*",
        metavar="KEY VALUE",
        help="config keys and their new values, as in SOLVER.BASE_LR 0.01; "
        "options may stand before, between and after them",
    )


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Add Detectron2's options for several GPUs and machines."""
    parser.add_argument(
        "--num-gpus",
        type=at_least(1, "; to run on the CPU, leave it out and set MODEL.DEVICE cpu"),
        default=1,
        metavar="N",
        help="GPUs on each machine, one process each; without GPUs, processes (default: 1)",
    )
    add_count(parser, "--num-machines", 1, "machines")
    parser.add_argument(
        "--machine-rank",
        type=at_least(0),
        default=0,
        metavar="N",
        help="number of this machine, from 0 (default: 0)",
    )
    parser.add_argument(
        "--dist-url",
        default="auto",
        metavar="URL",
        help="where the processes meet, as in tcp://HOST:PORT; needed with several machines "
        "(default: auto, a free port of this machine)",
    )
    parser.add_argument(
        "--timeout",
        type=positive,
        default=10.0,
        metavar="MINUTES",
        help="how long processes and machines wait for one that does not answer (default: 10)",
    )


def add_size(
    parser: argparse.ArgumentParser,
    option: str = "--size",
    *,
    default: str | None = None,
    several: bool = False,
    help: str,
) -> None:
    """Add a size, HxW; with `several`, one or more. `default` is written as on the command line."""
    sizes = [parse_size(text) for text in default.split()] if default else None
    parser.add_argument(
        option,
        type=parse_size,
        nargs="+" if several else None,
        metavar="HxW",
        default=sizes if several or not sizes else sizes[0],
        help=f"{help} (default: {default})" if default else help,
    )


def add_repeats(
    parser: argparse.ArgumentParser, *, warmup: int, repeats: int, before: str = "runs before"
) -> None:
    """Add --warmup and --repeats with their defaults; `before` is what the first one says."""
    add_count(parser, "--warmup", warmup, before, least=0)
    add_count(parser, "--repeats", repeats, "timed runs")


def add_count(
    parser: argparse.ArgumentParser, option: str, default: int, help: str, *, least: int = 1
) -> None:
    """Add an option for a number of things, `least` or more; the help ends with the default."""
    parser.add_argument(
        option,
        type=at_least(least),
        default=default,
        metavar="N",
        help=f"{help} (default: {default})",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add --device and --threads."""
    parser.add_argument(
        "--device", metavar="DEVICE", help="cuda or cpu (default: cuda where there is a GPU)"
    )
    parser.add_argument(
        "--threads",
        type=at_least(0),
        default=0,
        metavar="N",
        help="CPU threads (default: 0, PyTorch's default)",
    )


def choose_device(arguments: argparse.Namespace) -> str:
    """The device that --device names or PyTorch finds; sets the number of CPU threads.

    Raises:
        ValueError: --device is cuda and there is no GPU.
    """
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    available = torch.cuda.is_available()
    device = arguments.device or ("cuda" if available else "cpu")
    if torch.device(device).type == "cuda" and not available:
        raise ValueError(f"--device {device}: no GPU is available")
    return device


def add_output(parser: argparse.ArgumentParser, what: str = "the table") -> None:
    """Add --output for what is printed."""
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help=f"write {what} to this file as well"
    )


def show(text: str, output: Path | None) -> None:
    """Print a text, and write it to a file where one is given."""
    text = text.rstrip("\n") + "\n"
    if output:
        from srnet.data.paths import written_to

        with written_to(output):
            output.write_text(text)
    print(text, end="")


def at_least(smallest: int, advice: str = "") -> Callable[[str], int]:
    """The type of an option: a whole number from `smallest` on. `advice` ends the message."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d+", text) or int(text) < smallest:
            raise argparse.ArgumentTypeError(
                f"{text!r} is no whole number of at least {smallest}{advice}"
            )
        return int(text)

    return read


def positive(text: str) -> float:
    """The type of an option: a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def share(text: str) -> float:
    """The type of an option: a number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return number
