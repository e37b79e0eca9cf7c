"""SR under PyTorch's transforms: torch.func, forward mode, torch.fx, TorchScript; 3-D input."""

import pytest
import torch
from srnet.layers import ContextConv, SqueezeReasoning, SqueezeReasoningGate
from torch import nn
from torch.autograd import forward_ad

TABLE_III = [(s, r) for s in ("gap", "ghp") for r in ("none", "fc", "gcn", "sa")]
each_module = pytest.mark.parametrize(
    "module", [*TABLE_III, ("gate", "")], ids="-".join, indirect=True
)


@pytest.fixture
def module(request):
    squeeze, reasoning = request.param
    torch.manual_seed(0)
    if squeeze == "gate":
        return SqueezeReasoningGate(8, num_nodes=2).double()
    module = SqueezeReasoning(8, num_nodes=2, squeeze=squeeze, reasoning=reasoning).double()
    nn.init.normal_(module.conv_r.weight)
    return module


@pytest.fixture
def x():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 8, 3, 2, dtype=torch.double, generator=generator)


def loss(module, parameters, x):
    return torch.func.functional_call(module, parameters, (x,)).square().sum()


def gradients(module, x):
    """By backward() and, for each image, one after another."""
    x = x.clone().requires_grad_()
    module.zero_grad()
    module(x).square().sum().backward()
    return {name: p.grad for name, p in module.named_parameters()} | {"x": x.grad}


@each_module
def test_grad(module, x):
    parameters = {name: p.detach() for name, p in module.named_parameters()}
    found, x_grad = torch.func.grad(
        lambda parameters, x: loss(module, parameters, x), argnums=(0, 1)
    )(parameters, x)
    torch.testing.assert_close(found | {"x": x_grad}, gradients(module, x))


@each_module
def test_vmap_is_the_batch(module, x):
    torch.testing.assert_close(torch.func.vmap(module)(x), module(x))
    images = x.unsqueeze(1)
    torch.testing.assert_close(torch.func.vmap(module)(images).squeeze(1), module(x))


@each_module
def test_gradients_of_each_image(module, x):
    parameters = {name: p.detach() for name, p in module.named_parameters()}
    each = torch.func.vmap(
        torch.func.grad(lambda parameters, x: loss(module, parameters, x)), in_dims=(None, 0)
    )(parameters, x)
    for index, image in enumerate(x):
        expected = gradients(module, image.unsqueeze(0))
        for name, value in each.items():
            torch.testing.assert_close(value[index], expected[name])


@each_module
def test_jacobians_and_forward_mode_agree(module, x):
    jacobian = torch.autograd.functional.jacobian(module, x)
    torch.testing.assert_close(torch.func.jacrev(module)(x), jacobian)
    torch.testing.assert_close(torch.func.jacfwd(module)(x), jacobian)
    vectorized = torch.autograd.functional.jacobian(module, x, vectorize=True)
    torch.testing.assert_close(vectorized, jacobian)
    direction = torch.randn_like(x)
    with forward_ad.dual_level():
        dual = module(forward_ad.make_dual(x.clone().requires_grad_(), direction))
        tangent = forward_ad.unpack_dual(dual).tangent
    expected = torch.tensordot(jacobian, direction, 4)
    torch.testing.assert_close(tangent, expected)
    torch.testing.assert_close(torch.func.jvp(module, (x,), (direction,))[1], expected)


@each_module
def test_forward_mode_for_a_parameter_alone(module, x):
    name, parameter = list(module.named_parameters())[-1]
    direction = torch.randn_like(parameter)

    def run(value):
        return torch.func.functional_call(module, {name: value}, (x.clone().requires_grad_(),))

    with forward_ad.dual_level():
        dual = run(forward_ad.make_dual(parameter.detach(), direction))
        tangent = forward_ad.unpack_dual(dual).tangent
    jacobian = torch.autograd.functional.jacobian(run, parameter.detach())
    torch.testing.assert_close(tangent, torch.tensordot(jacobian, direction, parameter.dim()))


@each_module
def test_hessian(module, x):
    x = x[:1, :, :2, :1]
    expected = torch.autograd.functional.hessian(lambda x: module(x).square().sum(), x)
    found = torch.func.hessian(lambda x: module(x).square().sum())(x)
    torch.testing.assert_close(found, expected)


@each_module
def test_symbolic_trace(module, x):
    traced = torch.fx.symbolic_trace(module)
    torch.testing.assert_close(traced(x), module(x))


@each_module
def test_script(module, x):
    scripted = torch.jit.script(module)
    torch.testing.assert_close(scripted(x), module(x))
    torch.testing.assert_close(scripted(x[0]), module(x[0]))
    found = gradients(scripted, x)
    torch.testing.assert_close(found, gradients(module, x))


@each_module
def test_one_image_without_a_batch(module, x):
    for image in x:
        torch.testing.assert_close(module(image), module(image.unsqueeze(0)).squeeze(0))
        with torch.no_grad():
            torch.testing.assert_close(module(image), module(image.unsqueeze(0)).squeeze(0))
    torch.testing.assert_close(
        gradients(module, x[0]), gradients(module, x[:1]) | {"x": gradients(module, x[:1])["x"][0]}
    )


@pytest.mark.parametrize("squeeze", ["gap", "ghp"])
@pytest.mark.parametrize("shape", [(8,), (8, 3), (1, 2, 8, 3, 3)])
def test_another_number_of_dimensions_is_refused(squeeze, shape):
    module = SqueezeReasoning(8, num_nodes=2, squeeze=squeeze)
    with pytest.raises(RuntimeError, match=r"Expected 3D \(unbatched\) or 4D \(batched\) input"):
        module(torch.randn(shape))


class Pair(nn.Module):
    """SR that is folded into a convolution."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.context = SqueezeReasoning(8, num_nodes=2)
        nn.init.normal_(self.context.conv_r.weight)
        self.conv = nn.Conv2d(8, 4, 3, padding=1)
        self.context_conv = ContextConv(fold=True)
        self.double().eval()

    def forward(self, x):
        if torch.jit.is_scripting():
            return self.conv(self.context(x))
        return self.context_conv(x, self.context, self.conv)


def test_the_folded_form_under_transforms(x):
    pair = Pair()

    def plain(x):
        return pair.conv(pair.context(x))

    assert pair.context_conv.folds(x, pair.context, pair.conv)
    expected = torch.autograd.functional.jacobian(plain, x)
    torch.testing.assert_close(torch.func.jacrev(pair)(x), expected)
    torch.testing.assert_close(torch.func.jacfwd(pair)(x), expected)
    torch.testing.assert_close(torch.func.vmap(pair)(x), plain(x))
    torch.testing.assert_close(torch.func.vmap(pair)(x.unsqueeze(1)).squeeze(1), plain(x))
    torch.testing.assert_close(pair(x[0]), plain(x)[0])
    torch.testing.assert_close(torch.fx.symbolic_trace(pair)(x), plain(x))
    torch.testing.assert_close(torch.jit.script(pair)(x), plain(x))
    assert torch.autograd.gradgradcheck(pair, x.requires_grad_(), fast_mode=True)
