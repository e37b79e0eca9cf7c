"""The entry of `srnet`: it finds the subcommand, imports it, and runs it."""

import importlib
import sys
from collections.abc import Mapping, Sequence

from .arguments import Parser, command_in, nearest
from .errors import report

COMMANDS = {
    "train": "Train a model",
    "eval": "Evaluate a model on the datasets of its config",
    "predict": "Predict pictures, folders, videos or a camera",
    "config": "Print a whole config, list the model zoo, or describe the config keys",
    "data": "Check the data of a config, or draw augmented samples",
    "prepare": "Prepare a dataset: from its official release to this project's layout",
    "analyze": "Count parameters, multiply-adds and activations",
    "benchmark": "Measure latency, modules, sliding windows or data loading",
    "figures": "Draw the figures of the paper, with their numbers",
    "visualize": "Draw predictions of one or more models beside images and their truth",
    "plot": "Draw the curves of trainings in one figure",
    "metrics": "Print the last evaluation of a training as a table",
    "compare": "Compare the IoU of each class in two evaluations",
    "convert": "Convert published weights, or a classifier to a backbone",
    "export": "Export to ONNX, TorchScript or torch.export, and compare with the model",
    "submit": "Make an archive for a test server",
    "sweep": "Train the rows of a table with several seeds, and compare them",
}
# Commands that have commands of their own.
GROUPS = ("data", "prepare", "benchmark", "figures", "convert", "submit")
ABOUT = """Squeeze Reasoning (SRNet): train, evaluate and measure its models.

Example:
  srnet train --config-file CamVid-SemanticSegmentation/dfnet_v1_SR.yaml --num-gpus 8
"""
NOTES = """
'srnet COMMAND --help' explains a command. Sizes are HEIGHTxWIDTH. Errors are one line;
--traceback shows where they were raised.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `srnet`.

    Args:
        argv: the arguments after the program's name; those of the process by default.

    Returns:
        The exit status: 0, 1 after an error, 130 after an interruption.

    Raises:
        SystemExit: after --help (0) or a wrong command line (2).
    """
    words = list(sys.argv[1:] if argv is None else argv)
    traceback = "--traceback" in words
    while words and words[0] == "--traceback":
        del words[0]
    return report("srnet", lambda: run(words), traceback=traceback)


def run(words: Sequence[str]) -> None:
    """Find the subcommand that the words name, and run it with the rest of them."""
    name = choose("srnet", ABOUT, COMMANDS, words, NOTES)
    program, rest = f"srnet {name}", words[1:]
    if name in GROUPS:
        group = importlib.import_module(f"srnet.cli.{name}")
        name = choose(program, group.__doc__ or "", group.COMMANDS, rest)
        program, rest, command = f"{program} {name}", rest[1:], group.find(name)
    else:
        command = command_in(f"srnet.cli.{name}")
    parser = Parser(program, command.help)
    command.add_arguments(parser)
    command.run(parser.read(rest))


def choose(
    program: str, about: str, commands: Mapping[str, str], words: Sequence[str], notes: str = ""
) -> str:
    """The subcommand that the first word names.

    Raises:
        SystemExit: --help was asked for (0), or there is no such subcommand (2).
    """
    if words and words[0] in commands:
        return words[0]
    width = max(map(len, commands))
    listing = "\n".join(f"  {name:{width}}  {text}" for name, text in commands.items())
    text = f"usage: {program} COMMAND ...\n\n{about.strip()}\n\nCommands:\n{listing}\n{notes}"
    if words and words[0] in ("-h", "--help"):
        print(text, end="")
        raise SystemExit(0)
    if not words:
        print(text, end="", file=sys.stderr)
    elif words[0].startswith("-"):
        print(f"{program}: error: the command comes before the option {words[0]}", file=sys.stderr)
    else:
        hint = nearest(words[0], list(commands)) or f"; the commands are {', '.join(commands)}"
        print(f"{program}: error: there is no command {words[0]}{hint}", file=sys.stderr)
    raise SystemExit(2)
