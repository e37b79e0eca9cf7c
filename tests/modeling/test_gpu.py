"""Every family on a real GPU: its losses beside a CPU's, all precisions, no waits, both forms."""

import copy

import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.events import EventStorage
from gpu_models import CLASSIFIERS, DETECTORS, PRECISIONS, SEMANTIC
from srnet import get_cfg
from srnet.analysis.latency import labelled_image
from srnet.data.transfer import DeviceBatches
from srnet.engine.iteration import IterationTrainer
from srnet.layers import SqueezeReasoning
from srnet.layers import squeeze_autograd as forms
from srnet.modeling.context import ContextConv
from torch import nn

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
ALL = SEMANTIC | CLASSIFIERS | DETECTORS
WITHOUT_CHOICES = SEMANTIC | CLASSIFIERS  # detectors sample boxes by values
each_precision = pytest.mark.parametrize("precision", PRECISIONS.values(), ids=list(PRECISIONS))


def model_and_batch(config, *opts):
    """A model on the CPU whose SR modules are not the identity, and a batch of two images."""
    torch.manual_seed(0)
    cfg = get_cfg(config, ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", *map(str, opts)])
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    for module in model.modules():
        if isinstance(module, SqueezeReasoning):
            nn.init.normal_(module.conv_r.weight, std=0.01)
    return model, [labelled_image(cfg, (128, 160), seed) for seed in range(2)]


def on_gpu(batch):
    """A batch as the loader's pinned memory brings it."""
    pinned = [
        {k: v.pin_memory() if isinstance(v, torch.Tensor) else v for k, v in sample.items()}
        for sample in batch
    ]
    return next(iter(DeviceBatches([pinned], "cuda")))


def losses_of(model, batch):
    torch.manual_seed(0)
    with EventStorage():
        return model(batch)


@pytest.fixture
def no_tf32():
    """fp32 is fp32."""
    backends = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    yield
    for backend, value in zip(backends, before, strict=True):
        backend.allow_tf32 = value


@pytest.mark.parametrize("name", WITHOUT_CHOICES)
def test_losses_and_gradients_are_those_of_a_cpu(no_tf32, name):
    model, batch = model_and_batch(WITHOUT_CHOICES[name])
    twin = copy.deepcopy(model).cuda()
    losses = losses_of(model, batch), losses_of(twin, on_gpu(batch))
    for of_model in losses:
        sum(of_model.values()).backward()
    for key, value in losses[0].items():
        assert losses[1][key].item() == pytest.approx(value.item(), rel=1e-3), key
    # Of the last layers: what lies deeper has passed many batch norms of two small images.
    weights = [p for p in model.parameters() if p.grad is not None][-2:]
    twins = [p for p in twin.parameters() if p.grad is not None][-2:]
    for weight, other in zip(weights, twins, strict=True):
        error = (weight.grad - other.grad.cpu()).norm() / weight.grad.norm()
        assert error < 1e-2


@pytest.mark.parametrize("name", ALL)
@each_precision
def test_training_steps(name, precision):
    model, batch = model_and_batch(ALL[name])
    model = model.cuda()
    half = precision != torch.float32
    names = {torch.float16: "float16", torch.bfloat16: "bfloat16"}
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    trainer = IterationTrainer(
        model, [on_gpu(batch)] * 3, optimizer, amp=half, precision=names.get(precision, "")
    )
    before = [p.detach().clone() for p in model.parameters()]
    with EventStorage() as storage:
        for trainer.iter in range(3):
            trainer.run_step()
    assert storage.latest()["total_loss"][0] > 0
    assert all(p.isfinite().all() for p in model.parameters())
    changed = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    trainable = [p.requires_grad for p in model.parameters()]
    assert sum(changed) > 0.5 * sum(trainable)


@pytest.mark.parametrize("name", WITHOUT_CHOICES)
@each_precision
def test_nothing_waits_from_the_images_to_the_gradients(name, precision):
    model, batch = model_and_batch(WITHOUT_CHOICES[name])
    model, batch = model.cuda(), on_gpu(batch)
    half = precision != torch.float32
    for run in range(2):  # the first chooses algorithms
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error" if run else "default")
        try:
            with torch.autocast("cuda", precision if half else torch.float16, enabled=half):
                losses = losses_of_without_seed(model, batch)
            sum(losses.values()).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")


def losses_of_without_seed(model, batch):
    with EventStorage():
        return model(batch)


@pytest.mark.parametrize("name", SEMANTIC)
def test_predictions_are_those_of_a_cpu(no_tf32, name):
    model, batch = model_and_batch(SEMANTIC[name])
    model.eval()
    twin = copy.deepcopy(model).cuda()
    with torch.inference_mode():
        expected = model(batch)[0]["sem_seg"]
        found = twin(batch)[0]["sem_seg"].cpu()
    assert (found - expected).norm() / expected.norm() < 1e-3


@pytest.mark.parametrize("name", DETECTORS)
@each_precision
def test_detectors_predict(name, precision):
    model, batch = model_and_batch(DETECTORS[name])
    model = model.cuda().eval()
    half = precision != torch.float32
    with (
        torch.inference_mode(),
        torch.autocast("cuda", precision if half else torch.float16, enabled=half),
    ):
        results = model(batch)
    assert all(r["instances"].pred_boxes.tensor.isfinite().all() for r in results)


@pytest.mark.parametrize("squeeze", ["ghp", "gap"])
@pytest.mark.parametrize("is_dense", [True, False], ids=["dense", "low rank"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_both_forms_of_the_training_step(monkeypatch, no_tf32, squeeze, is_dense, memory_format):
    """fp64 on the CPU is the judge."""
    monkeypatch.setattr("srnet.layers.squeeze_reasoning.takes_dense", lambda *a, **k: is_dense)
    monkeypatch.setattr("srnet.layers.squeeze_reasoning.saves_enough", lambda x: True)
    torch.manual_seed(0)
    module = SqueezeReasoning(64, squeeze=squeeze)
    nn.init.normal_(module.conv_r.weight, std=0.1)
    x, grad = torch.randn(2, 2, 64, 24, 20).unbind()

    def gradients(module, x, grad):
        module.zero_grad()
        x = x.clone().requires_grad_()
        module(x).backward(grad)
        return [x.grad, *(p.grad for p in module.parameters())]

    judge = gradients(copy.deepcopy(module).double(), x.double(), grad.double())
    x = x.cuda().contiguous(memory_format=memory_format)
    found = gradients(module.cuda(), x, grad.cuda().contiguous(memory_format=memory_format))
    for value, expected in zip(found, judge, strict=True):
        assert (value.cpu() - expected).norm() <= 1e-4 * expected.norm()


@pytest.mark.parametrize("squeeze", ["ghp", "gap"])
def test_folded_inference(no_tf32, squeeze):
    torch.manual_seed(0)
    module, conv = SqueezeReasoning(64, squeeze=squeeze), nn.Conv2d(64, 32, 3, padding=1)
    nn.init.normal_(module.conv_r.weight, std=0.1)
    module, conv = module.cuda().eval(), conv.cuda().eval()
    x = torch.randn(2, 64, 40, 48, device="cuda")
    with torch.inference_mode():
        plain = ContextConv(False)(x, module, conv)
        folded = ContextConv(True)(x, module, conv)
    assert (plain - folded).norm() < 1e-4 * plain.norm()


def test_the_dense_form_is_not_taken_in_half_precision():
    x = torch.randn(2, 512, 96, 96, device="cuda")
    assert not forms.takes_dense(x.half(), 256, is_ghp=True)
