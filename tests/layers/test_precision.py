import pytest
import torch
from srnet.layers.precision import wide_matmul, widen


@pytest.mark.parametrize(
    "dtype, wide",
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_widen(dtype, wide):
    assert widen(torch.zeros(2, dtype=dtype)).dtype == wide


@pytest.mark.parametrize("autocast", [False, True])
def test_sum_that_half_precision_cannot_hold(autocast):
    """70000 ones are beyond the largest number of fp16, and bf16 stops counting at 256."""
    for dtype in (torch.float16, torch.bfloat16):
        ones = torch.ones(1, 70000, dtype=dtype)
        with torch.autocast("cpu", dtype, enabled=autocast):
            assert wide_matmul(ones, ones.t()).item() == 70000
