"""Standard layers in plain NumPy, for the transcriptions of equations in these tests."""

import numpy as np
import torch
from torch import nn


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """Fill every parameter and running statistic with random numbers: double precision, eval."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point():
                values = 0.5 * torch.randn(tensor.shape, generator=generator)
                tensor.copy_(values.abs() + 0.5 if name.endswith("running_var") else values)
    return module.double().eval()


def random_map(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def run(module: nn.Module, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return module(x).numpy()


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def conv1x1(conv: nn.Conv2d, x: np.ndarray) -> np.ndarray:
    """A 1x1 convolution of one image (C, H, W)."""
    y = np.tensordot(array(conv.weight)[:, :, 0, 0], x, axes=1)
    return y if conv.bias is None else y + array(conv.bias)[:, None, None]


def linear(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    y = x @ array(layer.weight).T
    return y if layer.bias is None else y + array(layer.bias)


def batch_norm(norm: nn.BatchNorm2d, x: np.ndarray) -> np.ndarray:
    """Batch norm at inference of (C, ...)."""
    values = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    shape = (-1,) + (1,) * (x.ndim - 1)
    weight, bias, mean, var = (array(v).reshape(shape) for v in values)
    return (x - mean) / np.sqrt(var + norm.eps) * weight + bias


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    exponentials = np.exp(x - x.max(axis, keepdims=True))
    return exponentials / exponentials.sum(axis, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)
