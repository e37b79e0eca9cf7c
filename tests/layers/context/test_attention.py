import numpy as np
import torch
from fvcore.nn import FlopCountAnalysis
from numpy_layers import softmax
from srnet.layers import FLOP_HANDLES
from srnet.layers.context.attention import as_map, as_positions, attend
from torch import nn


def test_equation():
    rng = np.random.default_rng(0)
    query, key, value = (rng.normal(size=(2, *s)) for s in ((5, 3), (7, 3), (7, 4)))
    expected = np.stack(
        [softmax(0.5 * q @ k.T, 1) @ v for q, k, v in zip(query, key, value, strict=True)]
    )
    result = attend(*(torch.from_numpy(a) for a in (query, key, value)), scale=0.5)
    np.testing.assert_allclose(result.numpy(), expected)


def test_positions_and_back():
    x = torch.randn(2, 3, 4, 5)
    rows = as_positions(x)
    assert torch.equal(rows[1, 7], x[1, :, 1, 2])
    assert torch.equal(as_map(rows, x), x)


class Attention(nn.Module):
    def forward(self, query, key, value):
        return attend(query, key, value)


def test_fvcore_counts_both_products():
    inputs = (torch.randn(2, 5, 3), torch.randn(2, 7, 3), torch.randn(2, 7, 4))
    counts = FlopCountAnalysis(Attention(), inputs).set_op_handle(**FLOP_HANDLES)
    assert counts.total() == 2 * (5 * 3 * 7 + 5 * 7 * 4)
