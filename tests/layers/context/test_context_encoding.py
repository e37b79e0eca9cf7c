import numpy as np
import pytest
from numpy_layers import (
    array,
    batch_norm,
    conv1x1,
    linear,
    random_map,
    randomize,
    relu,
    run,
    sigmoid,
    softmax,
)
from srnet.layers import ContextEncoding


def encode(encoding, image):
    """Eq. 1 over one image (C, H, W): one residual a position and codeword."""
    codewords, smoothing = array(encoding.codewords), array(encoding.smoothing)
    encoded = np.zeros_like(codewords)
    for x in image.reshape(len(image), -1).T:
        residuals = x - codewords
        weights = softmax(-smoothing * (residuals**2).sum(1), 0)
        encoded += weights[:, None] * residuals
    return encoded


def test_equation():
    module = randomize(ContextEncoding(6, num_codes=4))
    x = random_map(2, 6, 3, 5)
    for image, y in zip(x.numpy(), run(module, x), strict=True):
        projected = relu(batch_norm(module.project[1], conv1x1(module.project[0], image)))
        codes = relu(batch_norm(module.norm, encode(module.encoding, projected)))
        gate = sigmoid(linear(module.gate, codes.mean(0)))[:, None, None]
        np.testing.assert_allclose(y, relu(image + image * gate), rtol=1e-6)


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_codes=0 must be at least 1"):
        ContextEncoding(6, num_codes=0)
