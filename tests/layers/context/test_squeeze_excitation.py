import numpy as np
import pytest
import torch
from numpy_layers import conv1x1, random_map, randomize, relu, run, sigmoid
from srnet.layers import SqueezeExcitation
from torchvision import ops


def test_equation():
    module = randomize(SqueezeExcitation(8, reduction=4))
    x = random_map(2, 8, 3, 5)
    for image, y in zip(x.numpy(), run(module, x), strict=True):
        mean = image.mean((1, 2))[:, None, None]
        gate = sigmoid(conv1x1(module.fc2, relu(conv1x1(module.fc1, mean))))
        np.testing.assert_allclose(y, image * gate)


def test_reduction_of_the_paper():
    assert SqueezeExcitation(512).fc1.out_channels == 32
    with pytest.raises(ValueError, match="reduction=16 must be a divisor of channels=24"):
        SqueezeExcitation(24)


def test_weights_of_torchvision_load():
    theirs, ours = ops.SqueezeExcitation(16, 4).eval(), SqueezeExcitation(16, reduction=4).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 16, 3, 5)
    torch.testing.assert_close(ours(x), theirs(x))
