"""Fig. 6, on a module whose weights are written by hand."""

import numpy as np
import pytest
import torch
from srnet.layers import SqueezeReasoning
from srnet.visualization.saliency import draw_saliency, overlay, salient_channels


@pytest.fixture
def module():
    """Four channels, which b copies; two nodes of two; the scales are the means of b."""
    module = SqueezeReasoning(4, reduction=1, num_nodes=2, squeeze="gap", reasoning="none")
    module.conv_b.weight.data = torch.eye(4)[:, :, None, None]
    return module.eval()


def test_the_channel_with_the_largest_root_mean_square(module):
    x = torch.zeros(4, 2, 2)
    x[0], x[1, 0, 0] = 1, 3  # means 1 and 0.75, b * g: 1, and 2.25 in one of four positions
    x[2], x[3] = 2, -3
    found = salient_channels(module, x)
    assert found.channels.tolist() == [1, 3]
    np.testing.assert_allclose(found.saliences, [2.25 / 2, 9])
    np.testing.assert_allclose(found.scales, [0.75, -3])
    np.testing.assert_allclose(found.maps[0], [[2.25, 0], [0, 0]])
    np.testing.assert_allclose(found.maps[1], np.full((2, 2), 9))


def test_padding_does_not_count(module):
    x = torch.zeros(4, 2, 4)
    x[0] = 1
    x[1, :, 3] = 10  # large where the image has been padded
    assert salient_channels(module, x).channels[0] == 1
    assert salient_channels(module, x, (1, 0.75)).channels[0] == 0


def test_a_node_that_is_off_shows_the_image(module):
    found = salient_channels(module, torch.zeros(4, 2, 2))
    assert not found.saliences.any()
    image = np.full((6, 8, 3), 90, np.uint8)
    np.testing.assert_array_equal(overlay(image, np.zeros((6, 8))), image)
    figure = draw_saliency([image], [np.zeros((2, 6, 8))], [found])
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["image", "node 0, channel 0 (off)", "node 1, channel 2 (off)"]


def test_colours_say_the_sign():
    image = np.zeros((1, 3, 3), np.uint8)
    red, middle, blue = overlay(image, np.array([[2.0, 0, -2.0]]))[0].astype(int)
    assert red[0] > red[2] + 50 and blue[2] > blue[0] + 50 and not middle.any()
