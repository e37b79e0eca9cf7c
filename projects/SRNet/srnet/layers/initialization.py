"""How layers start that must not change a fresh network."""

from torch import nn


def zero_parameters(module: nn.Module) -> None:
    """Set all parameters of a module, in place, to zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
