"""What every context module owes its user, and the sizes that Table IV gives them."""

import copy

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from numpy_layers import randomize
from srnet import get_cfg, layers
from srnet.modeling import CONTEXT_REGISTRY, build_context
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

MODULES = {
    "se": layers.SqueezeExcitation,
    "cbam": layers.CBAM,
    "gc": layers.GlobalContext,
    "nl": layers.NonLocal,
    "a2": layers.DoubleAttention,
    "cgnl": layers.CompactGeneralizedNonLocal,
    "rcca": layers.RecurrentCrissCrossAttention,
    "danet": layers.DualAttention,
    "encoding": layers.ContextEncoding,
    "ann": layers.AsymmetricPyramidNonLocal,
    "emau": layers.EMAttention,
    "psp": layers.PyramidPooling,
    "glore": layers.GlobalReasoning,
}
# Other ways through a module than its defaults.
VARIANTS = {
    "nl-subsample": lambda channels: layers.NonLocal(channels, subsample=True),
    "cgnl-order": lambda channels: layers.CompactGeneralizedNonLocal(channels, groups=2, order=3),
    "rcca-published": lambda channels: layers.RecurrentCrissCrossAttention(
        channels, key_channels=channels // 8, value_channels=channels
    ),
}
ALL = MODULES | VARIANTS
each_module = pytest.mark.parametrize("name", ALL)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@each_module
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (5, 3), (13, 9)])
def test_shapes(name, size):
    module = ALL[name](16).eval()
    x = torch.randn(2, 16, *size)
    y = module(x)
    assert y.shape == (2, getattr(module, "out_channels", 16), *size)
    assert y.isfinite().all()


@each_module
def test_trains_on_one_image(name):
    module = ALL[name](16).train()
    x = torch.randn(1, 16, 5, 7, requires_grad=True)
    if name == "psp":  # its grid of one cell leaves batch norm a single number a channel
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            module(x)
        return
    module(x).square().mean().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad is not None for p in module.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["gc", "nl", "a2", "cgnl", "rcca", "danet", "glore", *VARIANTS])
def test_fresh_module_is_the_identity(name):
    x = torch.randn(2, 16, 5, 7)
    assert torch.equal(ALL[name](16)(x), x)


@each_module
def test_memory_format_does_not_matter(name):
    module = randomize(ALL[name](16))
    x = torch.randn(2, 16, 5, 7, dtype=torch.double)
    torch.testing.assert_close(module(x.to(memory_format=torch.channels_last)), module(x))


def large_case(name):
    """A module, a map whose sums over the positions are beyond fp16, and fp32's result."""
    module = randomize(ALL[name](16)).float()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.1)
        x = 30 + 10 * torch.randn(1, 16, 48, 48)
        return module, x, module(x)


@each_module
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_under_autocast(name, dtype):
    """fp32 is the judge."""
    module, x, expected = large_case(name)
    with torch.no_grad(), torch.autocast("cpu", dtype):
        result = module(x)
        half = module(x.to(dtype))
    assert result.isfinite().all() and half.isfinite().all()
    error = (result.float() - expected).norm() / expected.norm()
    assert error < (0.01 if dtype == torch.float16 else 0.03)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each_module
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_on_a_gpu(name, dtype):
    """As under autocast on a CPU, with the kernels of a GPU, and back."""
    module, x, expected = large_case(name)
    module, x = module.cuda(), x.cuda().requires_grad_()
    with torch.autocast("cuda", dtype):
        result = module(x).float()
    result.mean().backward()
    assert x.grad.isfinite().all()
    error = (result.detach().cpu() - expected).norm() / expected.norm()
    assert error < (0.01 if dtype == torch.float16 else 0.03)


@each_module
def test_bfloat16_module(name):
    module = randomize(ALL[name](16)).bfloat16()
    y = module(30 + torch.randn(1, 16, 33, 17).bfloat16())
    assert y.dtype == torch.bfloat16
    assert y.isfinite().all()


@pytest.mark.parametrize("name", [n for n in ALL if n != "emau"])  # cuts gradients on purpose
def test_gradients(name):
    module = randomize(ALL[name](16))
    names, parameters = zip(*module.named_parameters(), strict=True)

    def forward(x, *values):
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x,))

    x = torch.randn(2, 16, 2, 3, dtype=torch.double, requires_grad=True)
    values = [p.detach().clone().requires_grad_() for p in parameters]
    assert torch.autograd.gradcheck(forward, (x, *values), fast_mode=True)


@each_module
def test_state_dict_round_trip(name):
    module = randomize(ALL[name](16))
    other = ALL[name](16).double().eval()
    other.load_state_dict(copy.deepcopy(module.state_dict()))
    x = torch.randn(1, 16, 5, 7, dtype=torch.double)
    assert torch.equal(other(x), module(x))


@pytest.mark.parametrize("name", MODULES)
def test_bad_channels(name):
    for channels in (0, 3):
        if channels == 3 and name in ("encoding", "emau", "rcca"):
            continue  # any positive number will do
        with pytest.raises(ValueError, match=f"channels={channels}"):
            MODULES[name](channels)


def count_parameters(module: nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def count_products(name: str) -> float:
    """Multiply-adds, in 10^9, of convolutions and matrix products at 512 channels and 96 x 96.

    PyTorch's own counter, which counts two for each, on a device that does not compute.
    """
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        MODULES[name](512).eval()(torch.empty(1, 512, 96, 96))
    return counter.get_total_flops() / 2 / 1e9


def count_as_fvcore(name: str, **handles) -> float:
    """Multiply-adds, in 10^9, with what fvcore counts for norms and pooling."""
    counter = FlopCountAnalysis(MODULES[name](512).eval(), torch.zeros(1, 512, 96, 96))
    return counter.set_op_handle(**handles).total() / 1e9


def close_to_paper(value: float, paper: float, last_digit: float = 0.01) -> bool:
    """Within 1 % and half a unit of the last digit that the paper prints."""
    return abs(value - paper) <= 0.01 * paper + last_digit / 2


@pytest.mark.parametrize(
    "name, millions",
    [("se", 0.03), ("nl", 0.53), ("a2", 0.53), ("cgnl", 0.53), ("rcca", 0.53), ("encoding", 0.59)],
)
def test_parameters_of_table_iv(name, millions):
    assert close_to_paper(count_parameters(MODULES[name](512)), millions)


def test_parameters_that_differ_from_table_iv():
    """The published modules: no width of theirs makes the table's numbers."""
    # Table IV: 0.54 M. Two 512 x 512 convolutions, one with a bias, and a norm.
    assert count_parameters(MODULES["emau"](512)) == (2 * 512 * 512 + 3 * 512) / 1e6
    # Table IV: 0.68 M. Key, value and projection, the fusion of 1024 channels, biases and norms.
    expected = 3 * 512 * 256 + 1024 * 512 + (256 + 256 + 512 + 512) + 2 * (256 + 512)
    assert count_parameters(MODULES["ann"](512)) == expected / 1e6


@pytest.mark.parametrize("name, giga", [("nl", 48.36), ("rcca", 11.55), ("emau", 6.97)])
def test_flops_of_table_iv(name, giga):
    assert close_to_paper(count_products(name), giga)


def test_flops_of_table_iv_with_norm_pooling_and_scaling():
    assert close_to_paper(count_as_fvcore("cgnl"), 4.91)

    def scaling(inputs, outputs):
        return 512 * 96 * 96

    millions = 1e3 * count_as_fvcore("se", **{"aten::mul": scaling})
    assert close_to_paper(millions, 9.47)


def test_flops_that_differ_from_table_iv():
    """What the equations take; the docstrings say how far the table's numbers can be had."""
    positions, channels, width = 96 * 96, 512, 256
    convolution = channels * width * positions / 1e9
    # Table IV: 4.94 G, which leaves next to nothing for the two (width x width) products.
    expected = 4 * convolution + 2 * width * width * positions / 1e9
    assert count_products("a2") == pytest.approx(expected)
    # Table IV: 12.31 G. A 512 x 512 convolution and two products with the 128 codewords.
    expected = 2 * convolution + 2 * channels * 128 * positions / 1e9
    assert count_products("encoding") == pytest.approx(expected, rel=1e-3)
    # Table IV: 10.41 G. Three half convolutions, the fusion, and attention to 110 cells.
    expected = 3 * convolution + 4 * convolution + 2 * positions * 110 * width / 1e9
    assert count_products("ann") == pytest.approx(expected)


@pytest.mark.parametrize("name", ["nl", "danet", "ann"])
def test_fvcore_handle_agrees_with_pytorch(name):
    """Products alone: norms and pooling are not in PyTorch's count."""
    module = MODULES[name](16).eval()
    x = torch.randn(2, 16, 9, 7)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.to("meta")(x.to("meta"))
    fvcore = FlopCountAnalysis(MODULES[name](16).eval(), x).set_op_handle(**layers.FLOP_HANDLES)
    counts = fvcore.by_operator()
    products = ("conv", "matmul", "scaled_dot_product_attention")
    assert 2 * sum(counts[op] for op in products) == counter.get_total_flops()


def config(name: str):
    context = get_cfg().MODEL.CONTEXT
    context.NAME = name
    return context


@pytest.mark.parametrize("name", MODULES)
def test_built_by_name(name):
    module = build_context(config(name), 64, norm="BN")
    assert type(module) is MODULES[name]
    assert count_parameters(module) == count_parameters(MODULES[name](64))


@pytest.mark.parametrize("name", ["nl", "a2", "cgnl", "rcca", "ann"])
def test_reduction_sets_the_inner_width(name):
    context = config(name)
    context.REDUCTION = 16
    assert build_context(context, 64)(torch.randn(2, 64, 5, 7)).shape == (2, 64, 5, 7)
    assert 4 in {m.out_channels for m in build_context(context, 64).modules() if is_conv(m)}


def is_conv(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d)


@pytest.mark.parametrize("norm", ["BN", "FrozenBN", ""])
@pytest.mark.parametrize("name", ["cbam", "encoding", "ann", "emau", "psp", "glore", "aspp"])
def test_norm_of_the_surroundings(name, norm):
    module = build_context(config(name), 16, norm=norm)
    assert any(isinstance(m, nn.BatchNorm2d) for m in module.modules()) == (norm == "BN")
    assert module(torch.randn(2, 16, 5, 7)).isfinite().all()


def test_aspp():
    """Table IV: 15.54 M parameters, on the 2048 channels of res5."""
    module = build_context(config("aspp"), 2048)
    assert close_to_paper(count_parameters(module), 15.54)
    assert [conv.dilation[0] for conv in module.convs[1:4]] == [12, 24, 36]
    assert module.out_channels == 256
    assert module.eval()(torch.randn(1, 2048, 2, 3)).shape == (1, 256, 2, 3)


def test_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match="NAME='nosuch' must be '' or the name") as error:
        build_context(config("nosuch"), 16)
    for name in [*MODULES, "aspp", "sr", "sr_gate"]:
        assert f" {name}," in str(error.value) or str(error.value).endswith(f" {name}")
        assert name in CONTEXT_REGISTRY


def test_no_name_is_no_module():
    assert build_context(config(""), 16) is None
