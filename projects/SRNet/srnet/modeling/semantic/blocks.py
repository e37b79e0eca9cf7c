"""The two building blocks of the semantic heads."""

from detectron2.layers import Conv2d, get_norm
from fvcore.nn.weight_init import c2_msra_fill
from torch import nn

from srnet.layers.initialization import zero_parameters


def conv_norm_relu(in_channels: int, out_channels: int, kernel_size: int, norm: str) -> Conv2d:
    """A convolution that keeps the size, its norm and a ReLU, in one module of Detectron2's."""
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        padding=kernel_size // 2,
        bias=not norm,
        norm=get_norm(norm, out_channels),
        activation=nn.ReLU(),
    )
    c2_msra_fill(conv)
    return conv


def pixel_classifier(channels: int, num_classes: int) -> nn.Conv2d:
    """A 1x1 convolution from features to logits."""
    classifier = nn.Conv2d(channels, num_classes, 1)
    zero_parameters(classifier)
    nn.init.normal_(classifier.weight, std=0.01)
    return classifier
