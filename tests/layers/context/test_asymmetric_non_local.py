import math

import numpy as np
import pytest
from numpy_layers import batch_norm, conv1x1, random_map, randomize, relu, run, softmax
from srnet.layers import AsymmetricPyramidNonLocal


def grid_cells(x: np.ndarray, bins) -> np.ndarray:
    """The means of (C, H, W) over the cells of square grids, (C, S); cells overlap where needed."""
    _, h, w = x.shape
    cells = []
    for side in bins:
        for i in range(side):
            for j in range(side):
                top, bottom = i * h // side, math.ceil((i + 1) * h / side)
                left, right = j * w // side, math.ceil((j + 1) * w / side)
                cells.append(x[:, top:bottom, left:right].mean((1, 2)))
    return np.stack(cells, 1)


@pytest.mark.parametrize("shape", [(9, 7), (2, 3)])
def test_equation(shape):
    module = randomize(AsymmetricPyramidNonLocal(6))
    x = random_map(2, 6, *shape)
    for image, y in zip(x.numpy(), run(module, x), strict=True):
        key = relu(batch_norm(module.key[1], conv1x1(module.key[0], image)))
        keys = grid_cells(key, (1, 3, 6, 8))
        values = grid_cells(conv1x1(module.value, image), (1, 3, 6, 8))
        assert keys.shape == (3, 110)
        attended = np.empty((3, *shape))
        for i in range(shape[0]):
            for j in range(shape[1]):
                attended[:, i, j] = values @ softmax(key[:, i, j] @ keys / math.sqrt(3), 0)
        both = np.concatenate([conv1x1(module.projection, attended), image])
        expected = relu(batch_norm(module.fuse[1], conv1x1(module.fuse[0], both)))
        np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-9)


def test_bad_arguments():
    for bins in ((), (0, 3)):
        with pytest.raises(ValueError, match="bins="):
            AsymmetricPyramidNonLocal(8, bins=bins)
