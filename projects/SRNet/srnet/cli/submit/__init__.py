"""Make an archive for the test server of a benchmark."""

from srnet.cli.arguments import Command, command_in

COMMANDS = {"cityscapes": "Predict Cityscapes' test images and zip the predictions"}


def find(name: str) -> Command:
    """The subcommand of a name in `COMMANDS`."""
    return command_in(f"{__name__}.{name}")
