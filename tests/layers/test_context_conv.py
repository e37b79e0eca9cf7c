"""Folded inference against the plain form, and the choice between them."""

import copy
import pickle
from functools import partial

import pytest
import torch
from detectron2.layers import Conv2d
from fvcore.nn import FlopCountAnalysis
from srnet import layers
from srnet.layers import NonLocal, SqueezeReasoning, context_conv
from srnet.layers.folding import Cost, reconstruction_costs, total
from srnet.layers.rates import Rates
from srnet.layers.squeeze_autograd import second_moments
from srnet.modeling.context import ContextConv
from torch import nn

each_squeeze = pytest.mark.parametrize("squeeze", ["gap", "ghp"])


class Pair(nn.Module):
    """SR and a convolution with batch norm and ReLU, as in the FCN head."""

    def __init__(self, squeeze="ghp", channels=24, reduction=2, norm=None, **conv):
        super().__init__()
        torch.manual_seed(0)
        self.context = SqueezeReasoning(
            channels, reduction=reduction, num_nodes=3, squeeze=squeeze, norm=norm
        )
        nn.init.normal_(self.context.conv_r.weight)
        conv = {"kernel_size": 3, "padding": 1, "bias": False} | conv
        batch_norm = nn.BatchNorm2d(16)
        for tensor in (batch_norm.weight, batch_norm.bias, batch_norm.running_mean):
            nn.init.normal_(tensor)
        self.conv = Conv2d(channels, 16, norm=batch_norm, activation=nn.ReLU(), **conv)
        self.context_conv = ContextConv()
        self.eval()

    def forward(self, x):
        return self.context_conv(x, self.context, self.conv)


@torch.no_grad()
def both(pair, x):
    pair.context_conv.fold = True
    folded = pair(x)
    pair.context_conv.fold = None
    return folded, pair.conv(pair.context(x))


@each_squeeze
@pytest.mark.parametrize("reduction", [1, 2, 4])
@pytest.mark.parametrize(
    "conv",
    [
        {},
        {"kernel_size": 1, "padding": 0, "bias": True},
        {"dilation": 2, "padding": 2, "stride": 2},
        {"kernel_size": (1, 3), "padding": (0, 1)},
        {"padding": "same"},
    ],
)
@pytest.mark.parametrize("shape", [(1, 24, 9, 13), (3, 24, 5, 4)])
def test_folded_is_plain(squeeze, reduction, conv, shape):
    pair = Pair(squeeze, reduction=reduction, **conv).double()
    folded, plain = both(pair, torch.randn(shape, dtype=torch.double))
    torch.testing.assert_close(folded, plain, rtol=1e-10, atol=1e-10)


@each_squeeze
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1)])
def test_tiny_maps(squeeze, size):
    pair = Pair(squeeze, norm=nn.LayerNorm).double()
    folded, plain = both(pair, torch.randn(2, 24, *size, dtype=torch.double))
    torch.testing.assert_close(folded, plain)


@each_squeeze
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("how", ["autocast", "autocast half input", "module"])
def test_half_precision_is_as_exact_as_plain(squeeze, dtype, how):
    pair = Pair(squeeze)
    x = torch.randn(2, 24, 16, 16)
    expected = both(pair, x)[1]
    if how == "module":
        folded, plain = both(pair.to(dtype), x.to(dtype))
    else:
        with torch.autocast("cpu", dtype):
            folded, plain = both(pair, x.to(dtype) if "half" in how else x)
    assert folded.dtype == plain.dtype
    ours, theirs = ((y.float() - expected).norm() / expected.norm() for y in (folded, plain))
    assert ours < 1.5 * theirs + 1e-3


def test_half_precision_does_not_overflow():
    """The second moments of such a map are beyond fp16, its scales and output are not."""
    pair = Pair("ghp", reduction=1, norm=nn.LayerNorm)
    nn.init.normal_(pair.context.conv_r.weight, std=1e-3)
    x = 300 + torch.randn(1, 24, 8, 8)
    with torch.autocast("cpu", torch.float16):
        folded, _ = both(pair, x)
    assert folded.isfinite().all()


@each_squeeze
def test_channels_last(squeeze):
    pair = Pair(squeeze).to(memory_format=torch.channels_last)
    x = torch.randn(2, 24, 8, 8)
    folded, plain = both(pair, x.to(memory_format=torch.channels_last))
    assert folded.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(folded, both(pair, x)[0], rtol=1e-4, atol=1e-4)


def test_gradients_pass_at_inference():
    pair = Pair("gap").double()
    x = torch.randn(2, 24, 5, 5, dtype=torch.double, requires_grad=True)
    gradients = []
    for fold in (True, False):
        pair.context_conv.fold = fold
        gradients.append(torch.autograd.grad(pair(x).square().sum(), x)[0])
    torch.testing.assert_close(*gradients)


def test_second_moments():
    x = torch.randn(2, 10, 3, 5, dtype=torch.double)
    expected = torch.einsum("nchw,ndhw->ncd", x, x) / 15
    torch.testing.assert_close(second_moments(x), expected)
    torch.testing.assert_close(second_moments(x[:, :3]), expected[:, :3, :3])


def folds(context, conv, x, fold=None):
    return ContextConv(fold).folds(x, context, conv)


def head(squeeze="gap", size=96, images=1):
    """The paper's: 512 channels before a 3x3 convolution; weights that are never computed with."""
    with torch.device("meta"):
        context = SqueezeReasoning(512, squeeze=squeeze).eval()
        conv = nn.Conv2d(512, 512, 3, padding=1)
        return context, conv, torch.empty(images, 512, size, size)


@each_squeeze
def test_the_cheaper_form_is_chosen(squeeze):
    assert folds(*head(squeeze))
    assert not folds(*head(squeeze, size=16))
    # Each image has a weight of its own.
    assert folds(*head(squeeze, images=4))
    assert not folds(*head(squeeze, size=16, images=4))


def test_costs_are_those_of_the_paper():
    """Plain SR is Table IV's 2.43 and 3.64 G; the weight takes 512 x 9 x 512 x 256 an image.

    The product of both weights is as much again, where it is not kept.
    """
    context, conv, x = head("gap")
    plain, folded = reconstruction_costs(context, conv, x.shape)
    assert plain.convolved / 1e9 == pytest.approx(2.43, rel=0.01)
    assert folded.multiplied == 2 * 512 * 9 * 512 * 256
    context, conv, x = head("ghp")
    plain, folded = reconstruction_costs(context, conv, x.shape)
    assert plain.convolved / 1e9 == pytest.approx(3.64, rel=0.01)
    moments = 96 * 96 * 512 * 512 * 10 // 16 + 512 * 512 * 256
    assert folded.multiplied == 2 * 512 * 9 * 512 * 256 + moments
    kept = reconstruction_costs(context, conv, x.shape, keeps_products=True)[1]
    assert folded.multiplied - kept.multiplied == 512 * 9 * 512 * 256
    assert total(Cost(convolved=30, multiplied=4, elements=1), Rates(10, 2)) == 6


def test_the_choice_can_be_made_by_hand():
    context, conv, x = head(size=16)
    assert folds(context, conv, x, fold=True)
    assert not folds(context.train(), conv, x, fold=True)
    context, conv, x = head()
    assert not folds(context, conv, x, fold=False)


def replace(pair):
    pair.conv.weight = nn.Parameter(torch.randn_like(pair.conv.weight))


def step(optimizer, **options):
    """A training step of the convolution alone, with SR in eval mode, or of both."""

    def change(pair):
        with torch.enable_grad():
            pair.context_conv.fold = False
            pair(torch.randn(2, 24, 5, 5, dtype=pair.conv.weight.dtype)).mean().backward()
        optimizer(pair.parameters(), lr=0.1, **options).step()

    return change


def step_of_the_convolution(pair):
    """SR stays in eval mode, and so what it keeps is not given up."""
    pair.conv.train()
    optimizer = torch.optim.Adam(pair.conv.parameters(), lr=0.1, fused=True)
    with torch.enable_grad():
        pair(torch.randn(2, 24, 9, 13)).mean().backward()
    optimizer.step()
    pair.conv.eval()


def compiled_step(pair):
    optimizer = torch.optim.SGD(pair.parameters(), lr=0.1, fused=True)

    @partial(torch.compile, backend="aot_eager")
    def run(x):
        return pair.conv(pair.context(x)).mean()

    with torch.enable_grad():
        run(torch.randn(2, 24, 5, 5)).backward()
    optimizer.step()


def write_data(pair):
    pair.context.conv_r.weight.data.normal_()


def write_data_of_the_convolution(pair):
    pair.conv.weight.data[0, 0, 0, 0] += 10


def write_numpy(pair):
    pair.conv.weight.detach().numpy()[:] += 1


def train(pair):
    pair.train()
    pair(torch.randn(2, 24, 5, 5))
    pair.context.conv_r.weight.data.normal_()
    pair.eval()


def overwrite(pair):
    for weight in (pair.conv.weight, pair.context.conv_r.weight):
        weight.copy_(torch.randn_like(weight))


def write_storage(pair):
    pair.conv.weight.untyped_storage().copy_(torch.randn(16, 24, 3, 3).untyped_storage())


def set_tensor(pair):
    pair.conv.weight.set_(torch.randn_like(pair.conv.weight))


def assign(pair):
    pair.load_state_dict({k: v + 1 for k, v in pair.state_dict().items()}, assign=True)


def swap_tensors(pair):
    other = nn.Parameter(torch.randn_like(pair.conv.weight))
    torch.utils.swap_tensors(pair.conv.weight, other)


def swap(pair):
    one, other = pair.conv.weight.data, pair.conv.weight.data.flip(0)
    one.copy_(other)


FOREACH = [torch.optim.RMSprop, torch.optim.Adadelta, torch.optim.NAdam, torch.optim.ASGD]
FUSED = [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad]
CHANGES = {
    "conv": lambda pair: nn.init.normal_(pair.conv.weight),
    "conv_r": lambda pair: nn.init.normal_(pair.context.conv_r.weight),
    "load_state_dict": lambda pair: pair.load_state_dict(
        {k: v + 1 for k, v in pair.state_dict().items()}
    ),
    "precision": lambda pair: pair.double().float().half().float(),
    "step": step(torch.optim.SGD),
    **{f"fused {o.__name__}": step(o, fused=True) for o in FUSED},
    **{f"foreach {o.__name__}": step(o, foreach=True) for o in (*FUSED, *FOREACH)},
    **{
        function.__name__: function
        for function in (
            *(replace, step_of_the_convolution, compiled_step, write_data),
            *(write_data_of_the_convolution, write_numpy, train, swap),
            *(overwrite, write_storage, set_tensor, assign, swap_tensors),
        )
    },
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@torch.no_grad()
def test_changed_weights_are_noticed(change):
    pair, x = Pair(), torch.randn(2, 24, 9, 13)
    before, _ = both(pair, x)
    assert torch.equal(both(pair, x)[0], before)
    change(pair)
    folded, plain = both(pair, x)
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-3)
    assert not torch.equal(folded, before)


@torch.no_grad()
def test_one_module_serves_several_convolutions():
    pair, x = Pair(), torch.randn(1, 24, 9, 13)
    pair.context_conv.fold = True
    others = [Conv2d(24, 16, 3), nn.Conv2d(24, 5, 1)]
    for conv in (pair.conv, *others, pair.conv):
        expected = conv(pair.context(x))
        found = pair.context_conv(x, pair.context, conv)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_product_is_kept_while_the_weights_stay(monkeypatch):
    made, pair, x = [], Pair(), torch.randn(1, 24, 9, 13)
    multiply = context_conv.multiply_weights
    monkeypatch.setattr(context_conv, "multiply_weights", lambda *w: made.append(w) or multiply(*w))
    pair.context_conv.fold = True
    for _ in range(3):
        pair(x)
    assert len(made) == 1
    pair.context_conv.train().eval()  # which also gives the memory back
    pair(x)
    assert len(made) == 2


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["copy", "pickle"]
)
@torch.no_grad()
def test_a_copy_has_weights_of_its_own(copied):
    pair, x = Pair(), torch.randn(1, 24, 9, 13)
    pair.context_conv.fold = True
    expected, size = pair(x), len(pickle.dumps(Pair()))
    assert len(pickle.dumps(pair)) < 1.1 * size  # what is kept is not saved
    twin = copied(pair)
    assert torch.equal(twin(x), expected)
    nn.init.normal_(twin.conv.weight)
    torch.testing.assert_close(twin(x), both(twin, x)[1], rtol=1e-4, atol=1e-4)
    assert torch.equal(pair(x), expected)


def test_it_adds_nothing_to_a_checkpoint():
    pair = Pair()
    with torch.no_grad():
        both(pair, torch.randn(1, 24, 9, 13))
    assert not list(pair.context_conv.state_dict())
    assert not [name for name in pair.state_dict() if name.startswith("context_conv")]


def test_pytorchs_own_module_leaves_other_convolutions_alone():
    """`srnet.layers` knows no Detectron2, so a convolution with a norm runs as it is."""
    pair, x = Pair(), torch.randn(1, 24, 9, 13)
    module = layers.ContextConv(fold=True)
    assert module.folds(x, pair.context, nn.Conv2d(24, 16, 3))
    assert not module.folds(x, pair.context, pair.conv)
    assert torch.equal(module(x, pair.context, pair.conv), pair.conv(pair.context(x)))


def test_what_inference_mode_computed_serves_elsewhere():
    pair, x = Pair(), torch.randn(1, 24, 9, 13)
    with torch.inference_mode():
        first = both(pair, x)[0].clone()
    assert torch.equal(both(pair, x)[0], first)
    x.requires_grad_()
    pair.context_conv.fold = True
    pair(x).sum().backward()
    assert x.grad.abs().sum() > 0
    assert pair.context.conv_r.weight.grad.abs().sum() > 0


def test_what_cannot_fold_runs_plain():
    context, conv, x = head()
    assert not folds(context.train(), conv, x)
    context.eval()
    assert not folds(context, nn.Conv2d(512, 512, 3, groups=2), x)
    assert not folds(context, nn.Conv2d(512, 512, 3, padding=1, padding_mode="reflect"), x)
    assert not folds(context, conv, x[:0])
    assert not folds(NonLocal(512), conv, x)
    small = torch.randn(1, 8, 3, 3)
    conv, other = nn.Conv2d(8, 4, 1), NonLocal(8)
    assert torch.equal(ContextConv()(small, None, conv), conv(small))
    assert torch.equal(ContextConv()(small, other, conv), conv(other(small)))


def test_flops_are_counted_in_the_plain_form():
    pair = Pair()
    x = torch.randn(1, 24, 256, 256)
    assert pair.context_conv.folds(x, pair.context, pair.conv)
    flops = FlopCountAnalysis(pair, x).unsupported_ops_warnings(False)
    assert flops.by_module()["context"] > 3 * 24 * 12 * 256 * 256


@each_squeeze
def test_compiles_for_several_sizes(squeeze):
    pair = Pair(squeeze)
    compiled = torch.compile(pair, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        # Plain on a small map, folded on a large one.
        for shape in ((2, 24, 4, 4), (2, 24, 40, 50), (2, 24, 48, 31)):
            x = torch.randn(shape)
            torch.testing.assert_close(compiled(x), pair(x), rtol=1e-4, atol=1e-4)


@each_squeeze
def test_exports(squeeze):
    pair = Pair(squeeze)
    convolutions = {}
    for name, free in {"fixed": (), "any size": (2, 3), "any batch": (0, 2, 3)}.items():
        dims = {i: torch.export.Dim.DYNAMIC for i in free}
        x = torch.randn(2, 24, 40, 50)
        program = torch.export.export(pair, (x,), dynamic_shapes=(dims,), strict=False)
        if free:
            x = torch.randn(2, 24, 33, 57)
        if 0 in free:
            x = torch.randn(3, 24, 33, 57)
        with torch.no_grad():
            torch.testing.assert_close(program.module()(x), pair(x), rtol=1e-4, atol=1e-4)
        convolutions[name] = sum("conv2d" in str(node.target) for node in program.graph.nodes)
    # Two images fold to two convolutions; with b, c and W_R there are more.
    assert convolutions == {"fixed": 2, "any size": 2, "any batch": 4 if squeeze == "ghp" else 3}
