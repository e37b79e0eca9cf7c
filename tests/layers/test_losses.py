"""The pixel losses, against NumPy and against one process on the same global batch."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from srnet.layers import OhemCrossEntropy, PixelCrossEntropy


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 5, 6, 7, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 5, (4, 6, 7), generator=generator)
    targets[0, :5] = 255  # void is spread unevenly over the images
    return logits, targets


def negative_log_likelihood(logits, targets):
    """Of each labelled pixel, by the definition."""
    probability = np.exp(logits.numpy())
    probability /= probability.sum(axis=1, keepdims=True)
    n, y, x = np.nonzero(targets.numpy() != 255)
    return -np.log(probability[n, targets.numpy()[n, y, x], y, x])


def test_cross_entropy_is_the_mean_over_labelled_pixels():
    logits, targets = batch()
    expected = negative_log_likelihood(logits, targets).mean()
    assert PixelCrossEntropy()(logits, targets).item() == pytest.approx(expected)


@pytest.mark.parametrize("min_kept", [0, 40, 10**6])
def test_ohem_keeps_hard_pixels_and_never_too_few(min_kept):
    logits, targets = batch()
    losses = np.sort(negative_log_likelihood(logits, targets))[::-1]
    hard = losses[np.exp(-losses) < 0.04]
    assert 0 < len(hard) < 40 < len(losses)
    expected = hard if len(hard) >= min_kept else losses[:min_kept]
    loss = OhemCrossEntropy(threshold=0.04, min_kept=min_kept)(logits, targets)
    assert loss.item() == pytest.approx(expected.mean())


@pytest.mark.parametrize("loss", [PixelCrossEntropy(), OhemCrossEntropy()])
def test_a_batch_of_void_costs_nothing(loss):
    logits = torch.randn(1, 5, 4, 4, requires_grad=True)
    value = loss(logits, torch.full((1, 4, 4), 255))
    value.backward()
    assert value.item() == 0 and logits.grad.abs().sum() == 0


def test_ohem_names_a_bad_threshold():
    with pytest.raises(ValueError, match=r"threshold=0"):
        OhemCrossEntropy(threshold=0)


LOSSES = [PixelCrossEntropy(), OhemCrossEntropy(threshold=0.1, min_kept=0)]


def _half_of_the_batch(rank, store, results):
    dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    logits, targets = batch()
    for row, loss in zip(results, LOSSES, strict=True):
        row[rank] = loss(logits[rank::2], targets[rank::2])
    dist.destroy_process_group()


def test_two_processes_average_to_the_loss_of_one(tmp_path):
    results = torch.zeros(2, 2, dtype=torch.float64).share_memory_()
    mp.spawn(_half_of_the_batch, (tmp_path / "store", results), nprocs=2)
    for row, loss in zip(results, LOSSES, strict=True):
        assert row[0] != row[1]
        torch.testing.assert_close(row.mean(), loss(*batch()))
