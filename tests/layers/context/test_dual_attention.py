import numpy as np
from numpy_layers import array, conv1x1, random_map, randomize, run, softmax
from srnet.layers import DualAttention


def test_equation():
    module = randomize(DualAttention(8))
    position, channel = module.position, module.channel
    x = random_map(2, 8, 3, 5)
    for image, y in zip(x.numpy(), run(module, x), strict=True):
        convs = (position.query, position.key, position.value)
        b, c, d = (conv1x1(conv, image).reshape(-1, 15) for conv in convs)
        by_position = np.empty((8, 15))
        for j in range(15):
            by_position[:, j] = d @ softmax(b[:, j] @ c, 0)
        a = image.reshape(8, 15)
        by_channel = np.empty((8, 15))
        for j in range(8):
            energy = np.array([a[i] @ a[j] for i in range(8)])
            # As the authors' code has it: how far each product stays behind the largest.
            by_channel[j] = softmax(energy.max() - energy, 0) @ a
        alpha, beta = array(position.alpha)[0], array(channel.beta)[0]
        expected = a + alpha * by_position + beta * by_channel
        np.testing.assert_allclose(y, expected.reshape(8, 3, 5), rtol=1e-6)
