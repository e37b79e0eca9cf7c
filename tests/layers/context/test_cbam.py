import numpy as np
import pytest
from numpy_layers import array, batch_norm, linear, random_map, randomize, relu, run, sigmoid
from srnet.layers import CBAM


def test_equation():
    module = randomize(CBAM(8, reduction=4, kernel_size=3))
    x = random_map(2, 8, 4, 5)
    for image, y in zip(x.numpy(), run(module, x), strict=True):
        hidden = [relu(linear(module.reduce, v)) for v in (image.mean((1, 2)), image.max((1, 2)))]
        gate = sigmoid(sum(linear(module.expand, h) for h in hidden))
        image = image * gate[:, None, None]
        # The authors stack the maximum before the mean.
        padded = np.pad(np.stack([image.max(0), image.mean(0)]), ((0, 0), (1, 1), (1, 1)))
        filtered = np.empty((1, 4, 5))
        for i in range(4):
            for j in range(5):
                window = padded[:, i : i + 3, j : j + 3]
                filtered[0, i, j] = (window * array(module.conv.weight)[0]).sum()
        np.testing.assert_allclose(y, image * sigmoid(batch_norm(module.norm, filtered)))


def test_even_kernel():
    with pytest.raises(ValueError, match="kernel_size=4 must be a positive odd number"):
        CBAM(16, kernel_size=4)
