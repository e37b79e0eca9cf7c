import numpy as np
import pytest
from numpy_layers import conv1x1, random_map, randomize, run, softmax
from srnet.layers import NonLocal


def pool_2x2(x: np.ndarray) -> np.ndarray:
    """The maximum of 2 x 2 positions of (C, H, W), of fewer where the border cuts them."""
    _, h, w = x.shape
    rows = [
        [x[:, i : i + 2, j : j + 2].max((1, 2)) for j in range(0, w, 2)] for i in range(0, h, 2)
    ]
    return np.moveaxis(np.array(rows), 2, 0)


@pytest.mark.parametrize("subsample", [False, True])
def test_equation(subsample):
    module = randomize(NonLocal(6, reduction=2, subsample=subsample))
    x = random_map(2, 6, 3, 5)
    for image, y in zip(x.numpy(), run(module, x), strict=True):
        theta, phi, g = (conv1x1(m, image) for m in (module.theta, module.phi, module.g))
        if subsample:
            phi, g = pool_2x2(phi), pool_2x2(g)
        phi, g = phi.reshape(3, -1), g.reshape(3, -1)
        assert phi.shape[1] == (6 if subsample else 15)
        response = np.empty((3, 3, 5))
        for i in range(3):
            for j in range(5):
                response[:, i, j] = g @ softmax(theta[:, i, j] @ phi, 0)
        np.testing.assert_allclose(y, image + conv1x1(module.conv_z, response))
