"""From the scores of the classes to the class of each pixel."""

import numpy as np
import torch


def class_map(sem_seg: torch.Tensor) -> np.ndarray:
    """Choose the class with the largest score at each pixel; the first of equal ones.

    Args:
        sem_seg: (classes, H, W), logits or probabilities.

    Returns:
        (H, W) of int64, the same as of `argmax`.
    """
    # On a CPU argmax takes three times as long on a contiguous map (PyTorch 2.11). Both return the
    # first of equal values, and the first NaN.
    return sem_seg.max(dim=0).indices.cpu().numpy()
