import numpy as np
import pytest
import torch
from numpy_layers import array, batch_norm, conv1x1, random_map, randomize, relu, run, softmax
from srnet.layers import EMAttention


def maximize(x: np.ndarray, bases: np.ndarray, stages: int) -> tuple[np.ndarray, np.ndarray]:
    """Expectation-maximization over positions (N, C) from bases (K, C), entry by entry."""
    for _ in range(stages):
        z = softmax(x @ bases.T, 1)
        means = [
            sum(z[n, k] * x[n] for n in range(len(x))) / z[:, k].sum() for k in range(len(bases))
        ]
        bases = np.stack([mean / np.linalg.norm(mean) for mean in means])
    return bases, z


@pytest.mark.parametrize("stages", [1, 3])
def test_equation(stages):
    module = randomize(EMAttention(6, num_bases=4, num_stages=stages))
    before = module.bases.clone()
    x = random_map(2, 6, 3, 5)
    for image, y in zip(x.numpy(), run(module, x), strict=True):
        positions = conv1x1(module.conv1, image).reshape(6, 15).T
        bases, z = maximize(positions, array(before)[0].T, stages)
        rebuilt = (z @ bases).T.reshape(6, 3, 5)
        expected = relu(image + batch_norm(module.norm, conv1x1(module.conv2, relu(rebuilt))))
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(module.bases, before)


def test_running_bases():
    """In training the running bases move by a tenth to the mean of the batch's."""
    module = randomize(EMAttention(6, num_bases=4)).train()
    before = array(module.bases.clone())[0].T
    x = random_map(2, 6, 3, 5)
    module(x)
    found = [
        maximize(conv1x1(module.conv1, image).reshape(6, 15).T, before, 3)[0] for image in x.numpy()
    ]
    expected = 0.9 * before + 0.1 * np.mean(found, 0)
    np.testing.assert_allclose(array(module.bases)[0].T, expected, rtol=1e-4, atol=1e-5)


def test_gradients_bypass_the_stages():
    module = randomize(EMAttention(6, num_bases=4)).train()
    x = random_map(2, 6, 3, 5).requires_grad_()
    y = module(x)
    y.sum().backward()
    assert torch.equal(x.grad, (y > 0).double())
    assert not any(p.requires_grad for p in module.conv1.parameters())
    assert all(p.grad is not None for p in module.parameters() if p.requires_grad)


def test_starts_with_bases_of_length_1():
    lengths = EMAttention(6, num_bases=4).bases.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(1, 4), atol=1e-5, rtol=0)


def test_bad_arguments():
    for arguments in ({"num_bases": 0}, {"num_stages": 0}, {"momentum": 1.5}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            EMAttention(6, **arguments)
