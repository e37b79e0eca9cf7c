import math

import numpy as np
import pytest
from numpy_layers import array, conv1x1, random_map, randomize, run
from srnet.layers import CompactGeneralizedNonLocal


def group_norm(norm, x):
    """Normalise each group of channels of (C, H, W) over its channels and positions."""
    groups = x.reshape(norm.num_groups, -1)
    mean, var = groups.mean(1, keepdims=True), groups.var(1, keepdims=True)
    normed = ((groups - mean) / np.sqrt(var + norm.eps)).reshape(x.shape)
    return normed * array(norm.weight)[:, None, None] + array(norm.bias)[:, None, None]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("order", [None, 0, 3])
def test_equation(groups, order):
    """The full affinity matrix over all positions and channels of a group, kernel by kernel."""
    module = randomize(CompactGeneralizedNonLocal(8, groups=groups, order=order))
    gamma = 1e-4

    def kernel(a, b):
        if order is None:
            return a * b
        powers = ((2 * gamma * a * b) ** p / math.factorial(p) for p in range(order + 1))
        return math.exp(-2 * gamma) * sum(powers)

    x = random_map(2, 8, 2, 3)
    for image, y in zip(x.numpy(), run(module, x), strict=True):
        maps = (conv1x1(conv, image) for conv in (module.theta, module.phi, module.g))
        theta, phi, g = (m.reshape(groups, -1) for m in maps)
        response = np.stack(
            [kernel(theta[n][:, None], phi[n][None, :]) @ g[n] for n in range(groups)]
        ).reshape(groups, 4 // groups, 2, 3)
        weight = array(module.conv_z.weight)[:, :, 0, 0].reshape(groups, 8 // groups, -1)
        response = np.einsum("goc,gchw->gohw", weight, response).reshape(8, 2, 3)
        np.testing.assert_allclose(y, image + group_norm(module.norm, response), rtol=1e-6)


def test_expansion_is_a_radial_basis_function():
    """The series sums to beta exp(2 gamma a b), the RBF but for beta's simplified exponent."""
    module = CompactGeneralizedNonLocal(4, order=12).double()
    a, b = random_map(1, 1, 5, seed=2), random_map(1, 1, 5, seed=3)
    product = (module.expand(100 * a) * module.expand(100 * b)).sum(-1)
    expected = np.exp(-2e-4 + 2e-4 * (100 * a * 100 * b).numpy())
    np.testing.assert_allclose(product.numpy(), expected, rtol=1e-5)


def test_bad_arguments():
    with pytest.raises(ValueError, match="groups=3 must be a divisor"):
        CompactGeneralizedNonLocal(8, groups=3)
    with pytest.raises(ValueError, match="order=-1"):
        CompactGeneralizedNonLocal(8, order=-1)
