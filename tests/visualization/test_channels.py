"""Fig. 1(a), against counting pixel by pixel."""

import numpy as np
import pytest
from srnet.visualization.channels import (
    ChannelCounts,
    choose_classes,
    draw_channels,
    pixels_by_position,
    sparsity,
)

NAMES = ["road", "sky", "car"]


def count_in_a_loop(features, label, covered, threshold):
    """For each class and channel the pixels above the threshold, one after another."""
    channels, height, width = features.shape
    above = np.zeros((len(NAMES), channels), int)
    for y in range(label.shape[0]):
        for x in range(label.shape[1]):
            if not 0 <= label[y, x] < len(NAMES):
                continue
            row = int((y + 0.5) * covered[0] * height / label.shape[0])
            column = int((x + 0.5) * covered[1] * width / label.shape[1])
            for c in range(channels):
                low, high = features[c].min(), features[c].max()
                value = (features[c, row, column] - low) / (high - low) if high > low else 0
                above[label[y, x], c] += value > threshold
    return above


@pytest.mark.parametrize("covered", [(1, 1), (0.75, 0.8)])
def test_counts_are_those_of_a_loop(covered):
    rng = np.random.default_rng(0)
    counts = ChannelCounts(len(NAMES), threshold=0.6)
    expected = np.zeros((3, 5), int)
    for _ in range(2):
        features, label = rng.normal(size=(5, 4, 6)), rng.integers(-1, 4, (13, 17))
        features[2] = 1.5  # a constant channel counts nowhere
        counts.add(features, label, covered)
        expected += count_in_a_loop(features, label, covered, 0.6)
    np.testing.assert_array_equal(counts.above, expected)
    assert counts.above.sum() > 20 and not counts.above[:, 2].any()


def test_every_pixel_lies_in_one_position():
    label = np.random.default_rng(0).integers(0, 3, (30, 41))
    counts = pixels_by_position(label, (4, 7), 3)
    np.testing.assert_array_equal(counts.sum(axis=(0, 1)), np.bincount(label.ravel()))
    assert pixels_by_position(label, (4, 7), 3, (0.5, 0.5))[2:].sum() == 0


def test_numbers_for_sparse():
    """Twenty channels, so that two are a tenth."""
    above = np.zeros((4, 20), int)
    above[0, [3, 7]] = 30, 30  # in two channels alone
    above[1] = 5  # the same in all
    above[2, [3, 9, 11]] = 40, 50, 10
    concentration, overlap = sparsity(above)
    np.testing.assert_allclose(concentration, [1, 0.1, 0.9, np.nan])
    # Class 0 has one channel of two in common with class 2, and none with class 1.
    np.testing.assert_allclose(overlap, [0.25, 0, 0.25, np.nan])


def test_classes_that_are_drawn():
    pixels = np.array([5, 0, 9])
    assert choose_classes(NAMES, pixels, []) == [2, 0]
    assert choose_classes(NAMES, pixels, ["Road"]) == [0]
    with pytest.raises(ValueError, match="--classes bus: the classes are road, sky, car"):
        choose_classes(NAMES, pixels, ["bus"])
    with pytest.raises(ValueError, match="--classes sky: no pixel of these images has it"):
        choose_classes(NAMES, pixels, ["sky"])


def test_the_drawing_has_the_shares():
    counts = ChannelCounts(3)
    counts.above, counts.pixels = np.array([[1, 2], [0, 0], [4, 0]]), np.array([4, 0, 8])
    figure = draw_channels({"input": counts}, NAMES, [2, 0])
    bars, _, classes = figure.axes[:3]
    assert [bar.get_height() for bar in bars.patches] == [50, 0]
    assert [text.get_text() for text in classes.get_yticklabels()] == ["road", "car"]
