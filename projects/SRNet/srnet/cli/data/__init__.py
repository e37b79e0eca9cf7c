"""Look at the data of a config before training: check all files, or see augmented samples."""

from srnet.cli.arguments import Command, command_in

COMMANDS = {
    "check": "Read all files once; report what is wrong, and count images, sizes and classes",
    "browse": "Draw augmented training samples as the model sees them",
}


def find(name: str) -> Command:
    """The subcommand of a name in `COMMANDS`."""
    return command_in(f"{__name__}.{name}")
