"""Random numbers of an image depend on its place in the global batch, not on its process."""

import pytest
import torch
import torch.distributed as dist
from srnet.layers.image_random import ImageDropout, image_seeds, seeded_generators


@pytest.fixture
def process_of(monkeypatch):
    """Be one of several processes: process_of(rank, processes)."""

    def become(rank, processes):
        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        monkeypatch.setattr(dist, "get_rank", lambda: rank)
        monkeypatch.setattr(dist, "get_world_size", lambda: processes)

    return become


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("processes", [2, 4])
def test_dropout_of_an_image_is_that_of_one_process(process_of, processes, channels):
    x = torch.rand(8, 16, 6, 6) + 1
    dropout = ImageDropout(0.3, channels=channels)
    torch.manual_seed(5)
    whole = dropout(x)
    for rank in range(processes):
        process_of(rank, processes)
        torch.manual_seed(5)  # as a trainer does in each iteration
        assert torch.equal(dropout(x[rank::processes]), whole[rank::processes])


def test_dropout_is_that_of_pytorch_on_the_average():
    x, dropout = torch.ones(40, 50, 8, 8), ImageDropout(0.25)
    torch.manual_seed(0)
    y = dropout(x)
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert y.mean().item() == pytest.approx(1, abs=0.01)
    assert not torch.equal(y[0], y[1]) and not torch.equal(y, dropout(x))
    assert (ImageDropout(0.25, channels=True)(x).flatten(2).std(2) == 0).all()
    assert dropout.eval()(x) is x
    assert torch.equal(torch.jit.script(dropout)(x), x)


def test_generators_go_on_as_before():
    torch.manual_seed(1)
    first, second = image_seeds(2)
    state = torch.get_rng_state()
    with seeded_generators(first, torch.device("cpu")):
        inside = torch.randperm(50)
    assert torch.equal(torch.get_rng_state(), state)
    with seeded_generators(first, torch.device("cpu")):
        assert torch.equal(torch.randperm(50), inside)
    with seeded_generators(second, torch.device("cpu")):
        assert not torch.equal(torch.randperm(50), inside)
