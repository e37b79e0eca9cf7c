"""SqueezeReasoning and its gate, against NumPy transcriptions of Eq. 3-7 and the paper's counts."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from srnet.layers import SqueezeReasoning, SqueezeReasoningGate
from torch import nn

TABLE_III = [(s, r) for s in ("gap", "ghp") for r in ("none", "fc", "gcn", "sa")]


def weights(module):
    return {name: p.detach().double().numpy() for name, p in module.named_parameters()}


def eq_3_to_7(x, w, squeeze, reasoning, num_nodes):
    """One image (C, H, W) through Eq. 4-7 as printed, but for the mean in place of Eq. 4's sum."""
    positions = x.reshape(x.shape[0], -1)
    b = w["conv_b.weight"][:, :, 0, 0] @ positions
    if squeeze == "ghp":
        c = w["conv_c.weight"][:, :, 0, 0] @ positions
        # The diagonal of Eq. 3's bilinear pooling is Eq. 4's Hadamard pooling.
        g = np.diagonal(b @ c.T) / positions.shape[1]
    else:
        g = b.mean(axis=1)
    # (d x K): column k holds the channels of group k.
    nodes = np.stack(np.split(g, num_nodes), axis=1)
    if reasoning == "gcn":
        graph = np.eye(num_nodes) - w["reasoning.adjacency"]
        nodes = np.maximum(w["reasoning.weight"] @ nodes @ graph, 0)
    elif reasoning == "sa":
        phi, theta, rho = (w[f"reasoning.{n}.weight"] @ nodes for n in ("query", "key", "value"))
        nodes = np.maximum(rho @ (phi.T @ theta), 0)
    elif reasoning == "fc":
        vector = nodes.T.reshape(-1)
        hidden = w["reasoning.reduce.weight"] @ vector + w["reasoning.reduce.bias"]
        out = w["reasoning.expand.weight"] @ np.maximum(hidden, 0) + w["reasoning.expand.bias"]
        nodes = (1 / (1 + np.exp(-out))).reshape(num_nodes, -1).T
    scales = np.concatenate(list(nodes.T))
    y = w["conv_r.weight"][:, :, 0, 0] @ (b * scales[:, None]) + positions
    return y.reshape(x.shape)


def trained(channels=24, **options):
    torch.manual_seed(0)
    module = SqueezeReasoning(channels, **options)
    nn.init.normal_(module.conv_r.weight)
    return module


@pytest.mark.parametrize(("squeeze", "reasoning"), TABLE_III)
@pytest.mark.parametrize(("reduction", "num_nodes"), [(2, 4), (1, 6), (4, 1)])
def test_every_row_of_table_iii_is_its_equation(squeeze, reasoning, reduction, num_nodes):
    options = {"squeeze": squeeze, "reasoning": reasoning}
    module = trained(reduction=reduction, num_nodes=num_nodes, **options).double()
    x = torch.randn(3, 24, 5, 7, dtype=torch.float64)
    expected = [eq_3_to_7(i.numpy(), weights(module), squeeze, reasoning, num_nodes) for i in x]
    np.testing.assert_allclose(module(x).detach().numpy(), np.stack(expected), atol=1e-10)


def test_norm_works_on_the_node_vector():
    module = trained(num_nodes=4, squeeze="gap", reasoning="none", norm=nn.LayerNorm).double()
    x = torch.randn(2, 24, 5, 5, dtype=torch.float64)
    b = nn.functional.conv2d(x, module.conv_b.weight)
    g = b.mean((2, 3))
    g = (g - g.mean(1, keepdim=True)) / (g.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    y = nn.functional.conv2d(b * g[:, :, None, None], module.conv_r.weight) + x
    torch.testing.assert_close(module(x), y)


@pytest.mark.parametrize(("squeeze", "reasoning"), TABLE_III)
def test_fresh_module_is_the_identity(squeeze, reasoning):
    x = torch.randn(2, 32, 6, 6)
    module = SqueezeReasoning(32, num_nodes=4, squeeze=squeeze, reasoning=reasoning)
    assert torch.equal(module(x), x)
    # and still learns
    module(x).square().sum().backward()
    assert module.conv_r.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("squeeze", "reasoning"), TABLE_III)
def test_gradients(squeeze, reasoning):
    module = trained(8, num_nodes=2, squeeze=squeeze, reasoning=reasoning).double()
    parameters = tuple(module.parameters())
    x = torch.randn(2, 8, 3, 2, dtype=torch.float64, requires_grad=True)

    def run(x, *values):
        names = [name for name, _ in module.named_parameters()]
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *parameters), fast_mode=True)


@pytest.mark.parametrize("shape", [(1, 24, 1, 1), (1, 24, 1, 9), (2, 24, 7, 3)])
@pytest.mark.parametrize("squeeze", ["gap", "ghp"])
def test_small_maps_and_batch_one_train(shape, squeeze):
    module = trained(num_nodes=4, squeeze=squeeze, norm=nn.LayerNorm).train()
    x = torch.randn(shape)
    y = module(x)
    y.sum().backward()
    assert y.shape == x.shape
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("squeeze", ["gap", "ghp"])
def test_half_precision_follows_fp32(dtype, squeeze):
    module = trained(32, num_nodes=4, squeeze=squeeze)
    x = torch.randn(2, 32, 16, 16)
    expected = module(x)
    y = module.to(dtype)(x.to(dtype))
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), expected, rtol=0.05, atol=0.05)


def test_half_precision_sums_do_not_overflow():
    # b * c is 90 000 at one position, above fp16's 65 504; the mean of all is 89.
    module = SqueezeReasoning(2, reduction=1, num_nodes=1, squeeze="ghp", reasoning="none").half()
    for conv in (module.conv_b, module.conv_c):
        nn.init.eye_(conv.weight[:, :, 0, 0].data)
    x = torch.ones((1, 2, 32, 32), dtype=torch.float16)
    x[:, :, 0, 0] = 300
    nn.init.constant_(module.conv_r.weight, 1e-3)
    assert torch.isfinite(module(x)).all()


def test_autocast():
    module = trained(32, num_nodes=4)
    x = torch.randn(2, 32, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = module(x)
    torch.testing.assert_close(y.float(), module(x), rtol=0.05, atol=0.05)


def test_channels_last_is_kept():
    module = trained(32, num_nodes=4)
    x = torch.randn(2, 32, 8, 8)
    y = module.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, module(x))


@pytest.mark.parametrize("squeeze", ["gap", "ghp"])
@torch.no_grad()
def test_compiles_in_one_graph(squeeze):
    module = trained(32, num_nodes=4, squeeze=squeeze)
    x = torch.randn(2, 32, 8, 8)
    # The operations that the default backend makes code of, without waiting for a C++ compiler.
    backend = "aot_eager_decomp_partition"
    compiled = torch.compile(module, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(x), module(x))


@pytest.mark.parametrize(("squeeze", "reasoning"), TABLE_III)
def test_exports_for_any_size(squeeze, reasoning):
    module = trained(32, num_nodes=4, squeeze=squeeze, reasoning=reasoning).eval()
    dims = {i: torch.export.Dim.DYNAMIC for i in (0, 2, 3)}
    program = torch.export.export(module, (torch.randn(2, 32, 8, 9),), dynamic_shapes=(dims,))
    x = torch.randn(3, 32, 5, 6)
    torch.testing.assert_close(program.module()(x), module(x))


def printed(value, decimals):
    """Within 1 % of a value printed with so many decimals: its half unit comes on top."""
    return pytest.approx(value, abs=0.01 * value + 0.5 * 10**-decimals)


@pytest.mark.parametrize(
    ("squeeze", "millions", "giga"), [("gap", 0.26, 2.43), ("ghp", 0.40, 3.64)]
)
def test_counts_of_the_paper(squeeze, millions, giga):
    module = SqueezeReasoning(512, reduction=2, num_nodes=16, squeeze=squeeze)
    flops = FlopCountAnalysis(module, torch.randn(1, 512, 96, 96)).unsupported_ops_warnings(False)
    assert sum(p.numel() for p in module.parameters()) / 1e6 == printed(millions, 2)
    assert flops.total() / 1e9 == printed(giga, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"channels": 30, "reduction": 4}, ["reduction=4", "channels=30"]),
        ({"channels": 32, "reduction": 0}, ["reduction=0"]),
        ({"channels": 32, "num_nodes": 5}, ["num_nodes=5", "32 / 2"]),
        ({"channels": 32, "num_nodes": 0}, ["num_nodes=0"]),
        ({"channels": 32, "squeeze": "max"}, ["squeeze='max'", "gap", "ghp"]),
        ({"channels": 32, "reasoning": "mlp"}, ["reasoning='mlp'", "none", "fc", "gcn", "sa"]),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError) as error:
        SqueezeReasoning(arguments.pop("channels"), **arguments)
    assert all(word in str(error.value) for word in words)


def test_gate_is_eq_5_with_a_sigmoid():
    torch.manual_seed(0)
    gate = SqueezeReasoningGate(24, num_nodes=4).double()
    x = torch.randn(2, 24, 3, 5, dtype=torch.float64)
    w = weights(gate)
    for image, y in zip(x.numpy(), gate(x).detach().numpy(), strict=True):
        nodes = np.stack(np.split(image.mean((1, 2)), 4), axis=1)
        z = w["reasoning.weight"] @ nodes @ (np.eye(4) - w["reasoning.adjacency"])
        scales = 1 / (1 + np.exp(-np.concatenate(list(z.T))))
        np.testing.assert_allclose(y, image * scales[:, None, None], atol=1e-12)


def test_gate_adds_the_parameters_of_table_x():
    blocks = [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3
    gates = [SqueezeReasoningGate(c) for c in blocks]
    added = sum(p.numel() for gate in gates for p in gate.parameters())
    assert added / 1e6 == pytest.approx(25.64 - 25.56, abs=0.01)


def test_gate_names_bad_nodes():
    with pytest.raises(ValueError, match="num_nodes=5 must be a divisor of channels = 24"):
        SqueezeReasoningGate(24, num_nodes=5)


def test_layers_import_pytorch_alone():
    others = ("detectron2", "fvcore", "yacs", "torchvision", "srnet.modeling", "srnet.config")
    code = f"import sys, srnet.layers; print([m for m in {others} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
