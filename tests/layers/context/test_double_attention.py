import numpy as np
from numpy_layers import conv1x1, random_map, randomize, run, softmax
from srnet.layers import DoubleAttention


def test_equation():
    module = randomize(DoubleAttention(8, reduction=2))
    x = random_map(2, 8, 3, 5)
    for image, y in zip(x.numpy(), run(module, x), strict=True):
        convs = (module.conv_a, module.conv_b, module.conv_v)
        a, b, v = (conv1x1(conv, image).reshape(4, 15) for conv in convs)
        # Eq. 2 and 6: descriptor k is a mean of the columns of A under attention map k.
        descriptors = [sum(softmax(b[k], 0)[j] * a[:, j] for j in range(15)) for k in range(4)]
        distributed = np.empty((4, 15))
        for i in range(15):
            vector = softmax(v[:, i], 0)
            distributed[:, i] = sum(vector[k] * descriptors[k] for k in range(4))
        np.testing.assert_allclose(
            y, image + conv1x1(module.conv_z, distributed.reshape(4, 3, 5)), rtol=1e-6
        )
