import numpy as np
import torch
from detectron2.layers import FrozenBatchNorm2d
from numpy_layers import array, batch_norm, conv1x1, linear, random_map, randomize, relu, run
from srnet.layers import GlobalReasoning


def test_equation():
    module = randomize(GlobalReasoning(8))
    x = random_map(2, 8, 3, 5)
    for image, y in zip(x.numpy(), run(module, x), strict=True):
        b, phi = (conv1x1(conv, image).reshape(-1, 15) for conv in (module.theta, module.phi))
        assert b.shape[0] == 2 and phi.shape[0] == 4
        nodes = np.zeros((2, 4))
        for position in range(15):
            nodes += np.outer(b[:, position], phi[:, position]) / 15
        adjacency = array(module.adjacency.weight)[:, :, 0]
        reasoned = nodes + adjacency @ nodes + array(module.adjacency.bias)[:, None]
        reasoned = linear(module.weight, relu(reasoned))
        states = np.stack([b[:, p] @ reasoned for p in range(15)], 1).reshape(4, 3, 5)
        expected = image + batch_norm(module.norm, conv1x1(module.extend, states))
        np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_can_leave_the_identity_under_a_frozen_norm():
    """The scale of a frozen norm is no parameter, and must not be what starts at zero."""
    torch.manual_seed(0)
    module = GlobalReasoning(64, norm=FrozenBatchNorm2d)  # of fewer nodes a ReLU may leave nothing
    x = torch.randn(2, 64, 3, 5)
    y = module(x)
    torch.testing.assert_close(y, x)
    y.square().sum().backward()
    assert module.extend.weight.grad.abs().max() > 0
