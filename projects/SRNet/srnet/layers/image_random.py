"""Random numbers of the images of a batch, the same on one process and on many.

Image j of process r is image r + j x processes of the global batch, as samplers share a stream out.
Each image draws with a seed of its own, made of one number that all processes draw alike and of
this place. So it does not matter which process holds the image, or how many others are there.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.distributed as dist
from torch import nn


def image_seeds(count: int, *, alone: bool = False) -> list[int]:
    """Draw a seed for each of the `count` images that this process holds.

    One number is taken from PyTorch's generator of the CPU. Processes whose generators have the
    same state, as a trainer of this project leaves them in each iteration, get the same seeds for
    the same images. `alone`: the images are all there are, and other processes do not count.
    """
    base = int(torch.randint(2**62, (), device="cpu"))
    rank, processes = 0, 1
    if not alone and dist.is_available() and dist.is_initialized():
        rank, processes = dist.get_rank(), dist.get_world_size()
    return [seed_of(base, rank + j * processes) for j in range(count)]


def seed_of(*key: int) -> int:
    """A seed below 2^63 from numbers that are 0 or more."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return int(state >> np.uint64(1))


@contextmanager
def seeded_generators(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch's generators of the CPU and of a device; they go on as before at the end."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    states = [generator.get_state() for generator in generators]
    for generator in generators:
        generator.manual_seed(seed)
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


class ImageDropout(nn.Dropout):
    """Dropout of a map (N, C, H, W) whose mask depends on the image, not on its process.

    Args:
        p: probability that an element, or a channel, becomes zero in training.
        channels: whether whole channels do, as in `torch.nn.Dropout2d`.
    """

    def __init__(self, p: float = 0.5, *, channels: bool = False):
        super().__init__(p)
        self.channels = channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop, and scale what is left by 1 / (1 - p); in evaluation `x` itself."""
        if not self.training or self.p == 0:
            return x
        return self._drop(x)

    @torch.jit.unused
    def _drop(self, x: torch.Tensor) -> torch.Tensor:
        shape = (x.shape[1], 1, 1) if self.channels else x.shape[1:]
        dropped = torch.empty(x.shape[0], *shape, dtype=torch.bool, device=x.device)
        for mask, seed in zip(dropped, image_seeds(x.shape[0]), strict=True):
            generator = torch.Generator(device=x.device).manual_seed(seed)
            mask.bernoulli_(self.p, generator=generator)
        return x.masked_fill(dropped, 0) / max(1 - self.p, torch.finfo(x.dtype).tiny)
