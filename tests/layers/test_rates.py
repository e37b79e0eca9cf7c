"""What a device is taken to do while it moves a number, and what is chosen by it."""

import pytest
import torch
from srnet.layers import SqueezeReasoning
from srnet.layers.context_conv import ContextConv
from srnet.layers.folding import reconstruction_costs, total
from srnet.layers.rates import Rates, rates_of, uses_tf32
from srnet.layers.squeeze_autograd import saves_enough, takes_dense
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

SLOW = Rates(22, 22)  # a GPU without TF32
MATMUL = torch.backends.cuda.matmul
CONV = torch.backends.cudnn.conv if hasattr(torch.backends.cudnn, "conv") else None


@pytest.fixture
def on_gpu():
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield lambda *shape, dtype=torch.float32: torch.empty(shape, device="cuda", dtype=dtype)


@pytest.fixture
def tf32():
    """tf32(convolution, matmul) sets it the old way."""
    before = torch.backends.cudnn.allow_tf32, MATMUL.allow_tf32

    def switch(convolution, matmul):
        torch.backends.cudnn.allow_tf32, MATMUL.allow_tf32 = convolution, matmul

    yield switch
    switch(*before)


def test_a_cpu_has_one_rate():
    x = torch.empty(1, 8, 4, 4)
    assert rates_of(x) == rates_of(x.bfloat16()) == Rates(16, 16)


def test_a_gpu_has_a_rate_for_each_precision(on_gpu, tf32):
    tf32(True, False)
    by_default = rates_of(on_gpu(1, 8, 4, 4))
    assert by_default.convolution > 4 * by_default.matmul
    half = rates_of(on_gpu(1, 8, 4, 4, dtype=torch.bfloat16))
    assert half.convolution == by_default.convolution and half.matmul < by_default.matmul
    torch.set_autocast_enabled("cuda", True)  # torch.autocast does nothing without a GPU
    try:
        assert rates_of(on_gpu(1, 8, 4, 4)) == half
    finally:
        torch.set_autocast_enabled("cuda", False)
    tf32(False, False)
    assert rates_of(on_gpu(1, 8, 4, 4)) == SLOW
    tf32(True, True)
    both = rates_of(on_gpu(1, 8, 4, 4))
    assert both.convolution == both.matmul == by_default.convolution


def test_the_forms_that_are_chosen(on_gpu, tf32):
    x = on_gpu(2, 512, 96, 96)
    tf32(False, False)
    assert takes_dense(x, 256, is_ghp=True)
    tf32(True, True)
    assert takes_dense(x, 256, is_ghp=True)
    tf32(True, False)
    assert not takes_dense(x, 256, is_ghp=True)
    assert not takes_dense(x.half(), 256, is_ghp=True)


def test_folding_pays_later_where_products_are_cheaper_in_convolutions(on_gpu, tf32):
    with torch.device("meta"):
        context = SqueezeReasoning(512, squeeze="gap").eval()
        conv = nn.Conv2d(512, 512, 3, padding=1)

    def folds(size):
        plain, folded = reconstruction_costs(context, conv, (1, 512, size, size))
        at = rates_of(on_gpu(1, 512, 1, 1))
        return total(folded, at) < total(plain, at)

    tf32(True, False)
    assert [folds(size) for size in (16, 96, 256)] == [False, False, True]
    tf32(False, False)
    assert [folds(size) for size in (16, 96, 256)] == [False, True, True]


@pytest.mark.skipif(CONV is None, reason="PyTorch has one way to set TF32 before 2.9")
def test_the_new_way_to_set_tf32_is_read():
    """PyTorch refuses to read the old way after it."""
    assert (uses_tf32("convolution"), uses_tf32("matmul")) == (True, False)
    before = MATMUL.fp32_precision, CONV.fp32_precision
    try:
        MATMUL.fp32_precision, CONV.fp32_precision = "tf32", "ieee"
        with pytest.raises(RuntimeError):
            assert MATMUL.allow_tf32
        assert (uses_tf32("convolution"), uses_tf32("matmul")) == (False, True)
    finally:
        MATMUL.fp32_precision, CONV.fp32_precision = before
    assert (uses_tf32("convolution"), uses_tf32("matmul")) == (True, False)


def test_small_maps_are_left_to_autograd_on_a_gpu(on_gpu):
    assert not saves_enough(on_gpu(1, 2048, 25, 38))
    assert not saves_enough(on_gpu(4, 512, 90, 90, dtype=torch.half))  # 31 MiB
    assert saves_enough(on_gpu(4, 512, 96, 96))  # 72 MiB
    assert saves_enough(torch.empty(1, 8, 4, 4))


def test_a_gpu_folds_one_image_alone(on_gpu, monkeypatch):
    for module in ("context_conv", "plain"):  # fake ones are none
        monkeypatch.setattr(f"srnet.layers.{module}.is_plain_tensor", lambda x: True)
    with torch.device("meta"):
        context = SqueezeReasoning(512, squeeze="gap").eval()
        conv = nn.Conv2d(512, 512, 3, padding=1)
    chosen = ContextConv()
    with torch.inference_mode():
        folds = [chosen.folds(on_gpu(n, 512, 256, 256), context, conv) for n in (1, 2)]
    assert folds == [True, False]
    assert ContextConv(True).folds(on_gpu(2, 512, 8, 8), context, conv)
