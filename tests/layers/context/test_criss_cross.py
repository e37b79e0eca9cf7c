import numpy as np
import pytest
import torch
from numpy_layers import array, conv1x1, random_map, randomize, run, softmax
from srnet.layers import CrissCrossAttention, RecurrentCrissCrossAttention


def one_pass(module, image):
    """One pass over one image (C, H, W), position by position."""
    query, key, value = (conv1x1(c, image) for c in (module.query, module.key, module.value))
    _, height, width = image.shape
    attended = np.zeros((len(value), height, width))
    for i in range(height):
        for j in range(width):
            cross = [(i, w) for w in range(width)] + [(h, j) for h in range(height) if h != i]
            assert len(cross) == height + width - 1
            weights = softmax(np.array([query[:, i, j] @ key[:, h, w] for h, w in cross]), 0)
            attended[:, i, j] = sum(
                a * value[:, h, w] for a, (h, w) in zip(weights, cross, strict=True)
            )
    if module.gamma is not None:
        return image + array(module.gamma)[0] * attended
    return image + conv1x1(module.projection, attended)


@pytest.mark.parametrize("widths", [{}, {"key_channels": 1, "value_channels": 8}])
@pytest.mark.parametrize("shape", [(3, 5), (4, 2), (1, 3)])
def test_equation(widths, shape):
    module = randomize(CrissCrossAttention(8, **widths))
    x = random_map(2, 8, *shape)
    for image, y in zip(x.numpy(), run(module, x), strict=True):
        np.testing.assert_allclose(y, one_pass(module, image), rtol=1e-6)


def test_two_passes_share_weights():
    module = randomize(RecurrentCrissCrossAttention(8))
    x = random_map(1, 8, 3, 4)
    expected = one_pass(module, one_pass(module, x[0].numpy()))
    np.testing.assert_allclose(run(module, x)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("recurrence, reached", [(1, 5 + 4 - 1), (2, 5 * 4)])
def test_reach(recurrence, reached):
    """A position hears from its cross in one pass and from every position in two."""
    module = randomize(RecurrentCrissCrossAttention(8, recurrence=recurrence))
    x = random_map(1, 8, 5, 4).requires_grad_()
    module(x)[0, :, 2, 1].sum().backward()
    assert int((x.grad[0].abs().sum(0) > 0).sum()) == reached


def test_no_affinity_between_all_positions():
    """Nothing of the size (H W)^2 is kept for the backward pass."""
    module = RecurrentCrissCrossAttention(4)
    x = torch.randn(1, 4, 24, 24, requires_grad=True)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, id_):
        module(x)
    assert max(sizes) <= 24 * 24 * 48


def id_(tensor):
    return tensor


def test_bad_arguments():
    with pytest.raises(ValueError, match="key_channels=0"):
        CrissCrossAttention(8, key_channels=0)
    with pytest.raises(ValueError, match="recurrence=0"):
        RecurrentCrissCrossAttention(8, recurrence=0)
