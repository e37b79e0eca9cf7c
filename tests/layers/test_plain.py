"""Convolutions that somebody wrapped: SR runs them as written, in training and folded or not."""

import copy

import pytest
import torch
from srnet.layers import ContextConv, SqueezeReasoning
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

each_squeeze = pytest.mark.parametrize("squeeze", ["gap", "ghp"])


class LowRank(nn.Module):
    """What adapters do: the convolution's output and that of a trained product of low rank."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv.requires_grad_(False)
        self.down = nn.Conv2d(conv.in_channels, 2, 1, bias=False)
        self.up = nn.Conv2d(2, conv.out_channels, conv.kernel_size, padding=conv.padding)

    # Code that copies Eq. 7 would read the attributes of a convolution here.
    weight = property(lambda self: self.conv.weight)
    bias = property(lambda self: self.conv.bias)

    def forward(self, x):
        return self.conv(x) + self.up(self.down(x))


class Derived(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


class Positive(nn.Module):
    def forward(self, weight):
        return weight.exp()


def low_rank(conv):
    return LowRank(conv)


def derived(conv):
    wrapped = copy.deepcopy(conv)
    wrapped.__class__ = Derived
    return wrapped


def parametrized(conv):
    return parametrize.register_parametrization(conv, "weight", Positive())


def hooked(conv):
    conv.register_forward_hook(lambda module, inputs, output: 2 * output)
    return conv


def hooked_before(conv):
    conv.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
    return conv


def hooked_backward(conv):
    conv.register_full_backward_hook(lambda module, inputs, outputs: (2 * inputs[0],))
    return conv


def hooked_before_backward(conv):
    conv.register_full_backward_pre_hook(lambda module, outputs: (2 * outputs[0],))
    return conv


def own_forward(conv):
    forward = conv.forward
    conv.forward = lambda x: 2 * forward(x)
    return conv


def own_convolution(conv):
    convolve = conv._conv_forward
    conv._conv_forward = lambda x, weight, bias: convolve(x, 2 * weight, bias)
    return conv


def other_convolution(conv):
    return nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1, bias=True)


def replaced_by_layers(conv):
    return nn.Sequential(conv, nn.Tanh())


def pruned(conv):
    return prune.random_unstructured(conv, "weight", 0.5)


WRAPPINGS = [
    *(low_rank, derived, parametrized, hooked, hooked_before, hooked_backward),
    *(
        hooked_before_backward,
        own_forward,
        own_convolution,
        other_convolution,
        replaced_by_layers,
        pruned,
    ),
    *(spectral_norm, weight_norm, parametrizations.spectral_norm, parametrizations.weight_norm),
]
each_wrapping = pytest.mark.parametrize(
    "wrap", WRAPPINGS, ids=lambda f: f"{f.__module__.rsplit('.')[-1]}.{f.__name__}"
)


def eq_7(module, x):
    """Eq. 4 and 7, written down with calls of the modules."""
    b = module.conv_b(x)
    product = b if module.conv_c is None else b * module.conv_c(x)
    nodes = product.mean((2, 3)).reshape(len(x), module.num_nodes, -1)
    return module.conv_r(b * module.reasoning(nodes).reshape(*b.shape[:2], 1, 1)) + x


def trained(squeeze):
    torch.manual_seed(0)
    module = SqueezeReasoning(8, num_nodes=2, squeeze=squeeze)
    nn.init.normal_(module.conv_r.weight)
    return module


def results(run, module, x):
    """Outputs and gradients of two training steps, then the output at inference."""
    found = []
    module.train()
    for _ in range(2):  # the second would run into a graph that the first one kept
        module.zero_grad()
        x = x.detach().requires_grad_()
        y = run(module, x)
        y.square().sum().backward()
        found += [y.detach(), x.grad]
        found += [p.grad for p in module.parameters() if p.requires_grad]
    module.eval()
    with torch.no_grad():
        return [*found, run(module, x)]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@each_squeeze
@each_wrapping
@pytest.mark.parametrize("name", ["conv_b", "conv_c", "conv_r"])
def test_a_wrapped_convolution_runs_as_written(squeeze, name, wrap):
    if squeeze == "gap" and name == "conv_c":
        pytest.skip("gap has no conv_c")
    found = []
    for run in (lambda module, x: module(x), eq_7):
        module = trained(squeeze)
        setattr(module, name, wrap(getattr(module, name)))
        x = torch.randn(2, 8, 3, 5, generator=torch.Generator().manual_seed(1))
        found.append(results(run, module.double(), x.double()))
    assert_same(*found)


@each_squeeze
def test_hooks_for_all_modules_run(squeeze):
    def double(module, inputs, output):
        return 2 * output if isinstance(module, nn.Conv2d) else output

    hook = torch.nn.modules.module.register_module_forward_hook(double)
    try:
        x = torch.randn(2, 8, 3, 5, dtype=torch.double)
        runs = (lambda module, x: module(x), eq_7)
        assert_same(*(results(run, trained(squeeze).double(), x) for run in runs))
    finally:
        hook.remove()


class Pair(nn.Module):
    def __init__(self, squeeze):
        super().__init__()
        self.context = trained(squeeze)
        self.conv = nn.Conv2d(8, 4, 3, padding=1)
        self.context_conv = ContextConv(fold=True)
        self.double().eval()

    def forward(self, x):
        return self.context_conv(x, self.context, self.conv)


@each_squeeze
@each_wrapping
@pytest.mark.parametrize("name", ["conv", "context.conv_b", "context.conv_r"])
@torch.no_grad()
def test_what_is_wrapped_is_not_folded(squeeze, name, wrap):
    pair = Pair(squeeze)
    x = torch.randn(1, 8, 5, 7, dtype=torch.double)
    torch.testing.assert_close(pair(x), pair.conv(eq_7(pair.context, x)))
    parent, _, child = name.rpartition(".")
    parent = pair.get_submodule(parent)
    setattr(parent, child, wrap(getattr(parent, child)).double().eval())
    torch.testing.assert_close(pair(x), pair.conv(eq_7(pair.context, x)))


@torch.no_grad()
def test_a_hook_on_the_context_sees_its_output():
    pair, seen = Pair("ghp"), []
    x = torch.randn(1, 8, 5, 7, dtype=torch.double)
    pair.context.register_forward_hook(lambda module, inputs, output: seen.append(output))
    pair(x)
    torch.testing.assert_close(seen[0], eq_7(pair.context, x))


@torch.no_grad()
def test_a_context_derived_from_sr_runs_its_own_forward():
    class Halved(SqueezeReasoning):
        def forward(self, x):
            return super().forward(x) / 2

    pair = Pair("gap")
    x = torch.randn(1, 8, 5, 7, dtype=torch.double)
    pair.context.__class__ = Halved
    torch.testing.assert_close(pair(x), pair.conv(eq_7(pair.context, x) / 2))


@torch.no_grad()
def test_attributes_that_a_plain_convolution_does_not_use_change_nothing():
    pair = Pair("ghp")
    x = torch.randn(1, 8, 5, 7, dtype=torch.double)
    expected = pair(x)
    pair.conv.norm = nn.Tanh()
    assert torch.equal(pair(x), expected)
