"""Draw the figures of the paper: each a PNG, and the numbers behind it as CSV.

Other commands draw the rest: Figs. 2, 7 and 9 to 11 are 'srnet visualize --compare', Fig. 5(a) is
'srnet benchmark modules --plot'. Figs. 1(b) and 3 are drawings of the module.
"""

from srnet.cli.arguments import Command, command_in

COMMANDS = {
    "channels": "Fig. 1(a): pixels of each class with high activations, over the channels",
    "sweep": "Fig. 4: results over the number of nodes or the reduction, from a sweep",
    "speed": "Fig. 5(b): speed of models against their mIoU",
    "saliency": "Fig. 6: the most salient channel of each node over the image",
    "pca": "Fig. 8: input and output of SR in the colours of three principal components",
}


def find(name: str) -> Command:
    """The subcommand of a name in `COMMANDS`."""
    return command_in(f"{__name__}.{name}")
