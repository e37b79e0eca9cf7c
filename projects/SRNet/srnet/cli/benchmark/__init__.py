"""Measure times and memory on this machine. What is compared is measured in turns."""

from srnet.cli.arguments import Command, command_in

COMMANDS = {
    "latency": "Latency and FPS of a model, or of two",
    "modules": "Time and memory of the context modules: Fig. 5(a)",
    "sliding": "Sliding windows, ours and the plain loop of published code",
    "predict": "Images a second through srnet predict, and through the network alone",
    "loading": "Images a second that one core reads, ours and torchvision's",
    "samples": "Augmentation of a training sample, ours and of whole images",
    "annotations": "Reading annotations with their checks, and Detectron2's loader",
}


def find(name: str) -> Command:
    """The subcommand of a name in `COMMANDS`."""
    return command_in(f"{__name__}.{name}")
