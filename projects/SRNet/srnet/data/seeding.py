"""Random numbers that depend on a key alone."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed NumPy, Python and PyTorch (CPU) from `key`, and restore their generators at the end."""
    states = np.random.get_state(), random.getstate(), torch.get_rng_state()
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    np.random.seed(seed)
    random.seed(seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed looks for GPUs, too
    try:
        yield
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])
        torch.set_rng_state(states[2])
