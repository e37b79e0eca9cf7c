"""The lean backward pass of SR against autograd's, and the memory that it saves."""

import copy

import pytest
import torch
from srnet.analysis.memory import activation_bytes
from srnet.layers import SqueezeExcitation, SqueezeReasoning
from srnet.layers.precision import mean_over_positions, narrow_like
from srnet.layers.squeeze_autograd import takes_dense
from torch import nn

each_squeeze = pytest.mark.parametrize("squeeze", ["gap", "ghp"])


def trained(squeeze="ghp", channels=24, **options):
    torch.manual_seed(0)
    module = SqueezeReasoning(channels, num_nodes=4, squeeze=squeeze, **options)
    nn.init.normal_(module.conv_r.weight)
    # Away from the kinks of the ReLU, where half precision would fall on either side.
    nn.init.uniform_(module.conv_b.weight, 0, 0.3)
    return module


def plain(module, x):
    """Eq. 4 and 7 in the operations that autograd knows."""
    b = module.conv_b(x)
    vector = mean_over_positions(b, module.conv_c(x) if module.conv_c is not None else None)
    scales = module.reason(narrow_like(vector, x)).to(b.dtype)
    return module.conv_r(b * scales[:, :, None, None]) + x


def gradients(run, module, x):
    """Output and gradients of the input and the parameters, for one random loss."""
    module.zero_grad()
    x = x.detach().requires_grad_()
    y = run(x)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y))
    return [y.detach(), x.grad, *(p.grad.clone() for p in module.parameters())]


def assert_same(results, expected, **tolerance):
    for result, one in zip(results, expected, strict=True):
        torch.testing.assert_close(result, one, check_stride=False, **tolerance)


@each_squeeze
@pytest.mark.parametrize("norm", [None, nn.LayerNorm])
@pytest.mark.parametrize("shape", [(2, 24, 5, 7), (1, 24, 1, 1), (3, 24, 1, 9), (2, 24, 12, 14)])
def test_gradients_are_autograds(squeeze, norm, shape):
    module = trained(squeeze, norm=norm).double()
    x = torch.randn(shape, dtype=torch.double)
    assert_same(gradients(module, module, x), gradients(lambda x: plain(module, x), module, x))


@each_squeeze
@pytest.mark.parametrize("size", [(2, 3), (5, 12)])
def test_gradients_are_the_finite_differences(squeeze, size):
    module = trained(squeeze, channels=8).double()
    names, parameters = zip(*module.named_parameters(), strict=True)

    def run(x, *values):
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x,))

    x = torch.randn(2, 8, *size, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(run, (x, *parameters))


@each_squeeze
@pytest.mark.parametrize("frozen", ["", "conv_b", "conv_c", "conv_r", "conv_b conv_c", "reasoning"])
@pytest.mark.parametrize("input_needs", [True, False])
@pytest.mark.parametrize("size", [(3, 5), (12, 14)])
def test_what_is_frozen_gets_no_gradient(squeeze, frozen, input_needs, size):
    results = []
    for run in (lambda m, x: m(x), plain):
        module = trained(squeeze).double()
        for name in frozen.split():
            if getattr(module, name) is not None:
                getattr(module, name).requires_grad_(False)
        x = torch.randn(2, 24, *size, dtype=torch.double, requires_grad=input_needs)
        run(module, x).square().sum().backward()
        results.append({name: p.grad for name, p in module.named_parameters()} | {"x": x.grad})
    assert {n for n, g in results[0].items() if g is None} == {
        n for n, g in results[1].items() if g is None
    }
    for name, gradient in results[1].items():
        if gradient is not None:
            torch.testing.assert_close(results[0][name], gradient)


@each_squeeze
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("half_input", [True, False])
def test_autocast(squeeze, dtype, half_input):
    """As near to the gradients in fp32 as those of autograd under the same autocast."""
    module = trained(squeeze)
    x = torch.randn(2, 24, 16, 16)
    expected = gradients(module, module, x)

    def under_autocast(run):
        def forward(x):
            with torch.autocast("cpu", dtype):
                return run(x)

        return gradients(forward, module, x.to(dtype) if half_input else x)

    lean = under_autocast(module)
    reference = under_autocast(lambda x: plain(module, x))
    assert [t.dtype for t in lean] == [t.dtype for t in reference]
    for ours, theirs, exact in zip(lean, reference, expected, strict=True):
        error = (ours.float() - exact).norm() / exact.norm()
        assert error < 1.5 * (theirs.float() - exact).norm() / exact.norm() + 1e-3


@each_squeeze
@pytest.mark.parametrize("size", [(5, 7), (12, 14)])
def test_channels_last(squeeze, size):
    module = trained(squeeze)
    x = torch.randn(2, 24, *size)
    expected = gradients(module, module, x)
    module = module.to(memory_format=torch.channels_last)
    results = gradients(module, module, x.to(memory_format=torch.channels_last))
    assert results[0].is_contiguous(memory_format=torch.channels_last)
    assert results[1].is_contiguous(memory_format=torch.channels_last)
    assert_same(results, expected)


def test_compiles_with_its_backward():
    # Without a C++ compiler: the graphs of both passes are what matters here.
    module = trained()
    x = torch.randn(2, 24, 5, 7)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    assert_same(gradients(compiled, module, x), gradients(module, module, x))


def test_distributed_data_parallel(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        module = trained()
        parallel = nn.parallel.DistributedDataParallel(copy.deepcopy(module))
        x = torch.randn(2, 24, 5, 7)
        assert_same(gradients(parallel, parallel, x), gradients(module, module, x))
    finally:
        torch.distributed.destroy_process_group()


def test_gradient_checkpointing_around_it():
    module = trained()
    x = torch.randn(2, 24, 5, 7)

    def run(x):
        return torch.utils.checkpoint.checkpoint(module, x, use_reentrant=False)

    assert_same(gradients(run, module, x), gradients(module, module, x))


each_reasoning = pytest.mark.parametrize("reasoning", ["none", "fc", "gcn", "sa"])


def second_order(run, module, x):
    """Gradients of a squared gradient: of the input and all parameters, for all of them."""
    x = x.detach().requires_grad_()
    sources = [x, *module.parameters()]
    first = torch.autograd.grad(run(x).square().sum(), sources, create_graph=True)
    return torch.autograd.grad(sum(g.square().sum() for g in first), sources)


@each_squeeze
@each_reasoning
@pytest.mark.parametrize("size", [(3, 5), (12, 14)])
def test_second_derivatives_are_autograds(squeeze, reasoning, size):
    module = trained(squeeze, reasoning=reasoning).double()
    x = torch.randn(2, 24, *size, dtype=torch.double)
    results = second_order(module, module, x)
    expected = second_order(lambda x: plain(module, x), module, x)
    for result, one in zip(results, expected, strict=True):
        assert (result - one).norm() <= 1e-12 * one.norm()


# The low rank form of the training step, and the dense one.
each_form = pytest.mark.parametrize("size", [(2, 3), (5, 12)])


@each_squeeze
@each_reasoning
@each_form
def test_second_derivatives_are_the_finite_differences(squeeze, reasoning, size):
    module = trained(squeeze, channels=8, reasoning=reasoning).double()
    names, parameters = zip(*module.named_parameters(), strict=True)

    def run(x, *values):
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x,))

    x = torch.randn(2, 8, *size, dtype=torch.double, requires_grad=True)
    assert takes_dense(x, 4, is_ghp=squeeze == "ghp") == (size == (5, 12))
    assert torch.autograd.gradgradcheck(run, (x, *parameters), fast_mode=True)


@each_squeeze
def test_a_gradient_penalty_reaches_all_parameters(squeeze):
    gradients = []
    for run in (lambda m, x: m(x), plain):
        module = trained(squeeze).double()
        x = torch.randn(2, 24, 3, 5, dtype=torch.double, requires_grad=True)
        y = run(module, x).square().sum()
        (gradient,) = torch.autograd.grad(y, x, create_graph=True)
        (y + gradient.norm()).backward()
        gradients.append([x.grad, *(p.grad for p in module.parameters())])
    assert_same(*gradients, rtol=1e-12, atol=1e-12)


@each_squeeze
def test_a_third_derivative(squeeze):
    def third(run, module, x):
        x = x.detach().requires_grad_()
        y = run(x).pow(3).sum()
        for _ in range(3):
            (x_grad,) = torch.autograd.grad(y, x, create_graph=True)
            y = x_grad.square().sum()
        return y.detach()

    module = trained(squeeze, channels=8).double()
    x = torch.randn(1, 8, 2, 2, dtype=torch.double)
    expected = third(lambda x: plain(module, x), module, x)
    torch.testing.assert_close(third(module, module, x), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("squeeze", "paper"), [("gap", 82.31), ("ghp", 110.75)])
def test_memory_is_below_the_papers(squeeze, paper):
    """Table IV, in MB: a map of 512 channels is 18.87. GHP keeps the second moments besides."""
    x = torch.randn(1, 512, 96, 96)
    megabytes = activation_bytes(SqueezeReasoning(512, squeeze=squeeze), x) / 1e6
    moments = 512 * 512 * 4 / 1e6 if squeeze == "ghp" else 0
    assert x.nbytes / 1e6 <= megabytes < 18.88 + moments < paper
    plain_module = trained(squeeze, channels=512)
    plain_module.forward = lambda x: plain(plain_module, x)
    assert activation_bytes(plain_module, x) / 1e6 > (28 if squeeze == "gap" else 46)


def test_memory_is_what_autograd_holds():
    x = torch.randn(2, 8, 4, 4)
    maps = x.nbytes
    assert activation_bytes(nn.Identity(), x) == 0
    assert activation_bytes(nn.ReLU(), x) == maps
    # The output of a convolution; its input is the layer's before.
    assert activation_bytes(nn.Conv2d(8, 16, 1), x) == 2 * maps
    # Input and output of a product: both factors, then the result.
    two = nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 1, bias=False), nn.Sigmoid())
    assert activation_bytes(two, x) == 2 * maps
    # The gate of SE is a vector.
    assert maps < activation_bytes(SqueezeExcitation(8, reduction=2), x) < 1.5 * maps
    assert activation_bytes(nn.ReLU().to("meta"), x.to("meta")) == maps
