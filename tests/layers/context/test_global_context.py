import numpy as np
from numpy_layers import array, conv1x1, linear, random_map, randomize, relu, run, softmax
from srnet.layers import GlobalContext


def test_equation():
    module = randomize(GlobalContext(8, reduction=2))
    x = random_map(2, 8, 3, 5)
    for image, y in zip(x.numpy(), run(module, x), strict=True):
        weights = softmax(conv1x1(module.mask, image).ravel(), 0).reshape(3, 5)
        context = sum(weights[i, j] * image[:, i, j] for i in range(3) for j in range(5))
        hidden = linear(module.reduce, context)
        hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + module.norm.eps)
        hidden = relu(hidden * array(module.norm.weight) + array(module.norm.bias))
        np.testing.assert_allclose(y, image + linear(module.expand, hidden)[:, None, None])
