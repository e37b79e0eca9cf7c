"""Fig. 8, against NumPy's singular value decomposition and sums in a loop."""

import numpy as np
import pytest
import torch
from srnet.visualization.components import Consistency, principal_components, to_colors


@pytest.fixture
def maps():
    generator = torch.Generator().manual_seed(0)
    scale = torch.arange(8, 0, -1)[:, None, None]
    before = scale * torch.randn(8, 5, 6, generator=generator) + 3
    return before, before + torch.randn(8, 5, 6, generator=generator)


@pytest.mark.parametrize("covered, height, width", [((1, 1), 5, 6), ((0.8, 0.5), 4, 3)])
def test_components_are_numpys(maps, covered, height, width):
    found = principal_components(*maps, covered)
    positions = [m[:, :height, :width].reshape(8, -1).T.double().numpy() for m in maps]
    both = np.concatenate(positions)
    _, values, vectors = np.linalg.svd(both - both.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(found.shares, (values**2)[:3] / (values**2).sum(), rtol=1e-6)
    signs = np.sign((found.basis * vectors[:3].T).sum(axis=0))
    np.testing.assert_allclose(found.basis, vectors[:3].T * signs, atol=1e-6)
    for own, x in zip((found.before, found.after), positions, strict=True):
        expected = (x - both.mean(axis=0)) @ (vectors[:3].T * signs)
        np.testing.assert_allclose(own.reshape(3, -1).T, expected, atol=1e-5)


def test_both_maps_have_one_scale_of_colours(maps):
    """A map beside itself has the same colours, and one moved along a component others."""
    same = principal_components(maps[0], maps[0])
    np.testing.assert_array_equal(*to_colors(same))
    before, after = to_colors(principal_components(*maps))
    assert before.shape == (5, 6, 3) and min(before.min(), after.min()) >= 0
    assert max(before.max(), after.max()) == 1 and np.abs(before - after).max() > 0.05


def test_too_few_channels():
    with pytest.raises(ValueError, match="3 or more channels; the map has 2"):
        principal_components(torch.zeros(2, 4, 4), torch.zeros(2, 4, 4))


def test_share_of_the_variance_within_classes():
    rng = np.random.default_rng(0)
    features, counts = rng.normal(size=(3, 4, 5)), rng.integers(0, 5, (4, 5, 2))
    counts[0, 0] = 0  # of no class
    measured = Consistency()
    measured.add(features, counts)
    places = [(y, x) for y in range(4) for x in range(5) if counts[y, x].any()]
    classes = [int(counts[y, x].argmax()) for y, x in places]
    points = np.array([features[:, y, x] for y, x in places])
    means = {c: points[[k == c for k in classes]].mean(axis=0) for c in set(classes)}
    within = sum(((p - means[c]) ** 2).sum() for p, c in zip(points, classes, strict=True))
    expected = within / ((points - points.mean(axis=0)) ** 2).sum()
    assert measured.share() == pytest.approx(expected)
    alike = Consistency()
    alike.add(counts.argmax(axis=2)[None].astype(float), counts)
    assert alike.share() == 0
