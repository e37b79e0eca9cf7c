"""Every family on a GPU that is not there: no mixed devices, no values that Python waits for.

Semantic models and classifiers run whole, from images of the loader on the CPU to losses. There is
no backward pass: PyTorch's engine (2.11) starts a thread for the GPU, which must be there.

Detectors cannot: which boxes are proposals, positives or survivors of the non-maximum suppression
depends on values, and so does the level that ROIAlign pools a box from. The matcher, the sampling
and the suppression wait for the GPU by nature, and so the losses of the RPN and of boxes and masks
are left out. What runs: the backbone with its FPN, the heads of the RPN on all anchors, the box and
the mask head on maps as ROIAlign gives them, and Panoptic FPN's semantic head with its loss.
"""

import pytest
import torch
from fake_gpu import build_on_cpu, fake_gpu, move
from gpu_models import CAMVID, CLASSIFIERS, DETECTORS, PRECISIONS, SEMANTIC
from torch._subclasses.fake_tensor import DataDependentOutputException


def in_precisions(models):
    """Each model in fp32 and fp16, those with SR in bf16 as well."""
    return pytest.mark.parametrize(
        ("name", "precision"),
        [
            pytest.param(name, precision, id=f"{name}-{short}")
            for name in models
            for short, precision in PRECISIONS.items()
            if short != "bf16" or name.endswith("SR")
        ],
    )


def sample(height=64, width=64):
    """An image as the loader hands it over: on the CPU."""
    labels = torch.zeros(height, width, dtype=torch.long)
    return {"image": torch.zeros(3, height, width), "sem_seg": labels, "class_index": 1}


def check_losses(losses):
    """All are on the GPU and in fp32, also under autocast, and depend on parameters."""
    assert losses and all(x.requires_grad for x in losses.values())
    assert {(x.device.type, x.dtype, x.dim()) for x in losses.values()} == {
        ("cuda", torch.float32, 0)
    }


@in_precisions(SEMANTIC)
def test_semantic_models(monkeypatch, name, precision):
    model = build_on_cpu(SEMANTIC[name])
    with fake_gpu(monkeypatch, precision):
        move(model)
        check_losses(model([sample(), sample(64, 96)]))
        model.eval()
        with torch.no_grad():
            logits = model.logits(torch.zeros(1, 3, 65, 96, device="cuda"))
    assert logits.device.type == "cuda" and logits.shape[-2:] == (65, 96)


@in_precisions(CLASSIFIERS)
def test_classifiers(monkeypatch, name, precision):
    model = build_on_cpu(CLASSIFIERS[name])
    with fake_gpu(monkeypatch, precision):
        move(model)
        check_losses(model([sample(), sample()]))


@in_precisions(DETECTORS)
def test_the_parts_of_detectors_that_depend_on_no_values(monkeypatch, name, precision):
    model = build_on_cpu(DETECTORS[name])
    with fake_gpu(monkeypatch, precision):
        move(model)
        images = model.preprocess_image([sample(), sample(64, 96)])
        features = model.backbone(images.tensor)
        # The dtype shows that autocast is on.
        assert {(x.device.type, x.dtype) for x in features.values()} == {("cuda", precision)}
        outputs = rpn_outputs(model, features) + roi_outputs(model.roi_heads, precision)
        losses = {str(i): x.float().mean() for i, x in enumerate(outputs)}
        if name.startswith("Panoptic"):
            labels = torch.zeros(2, *images.tensor.shape[-2:], dtype=torch.long, device="cuda")
            losses |= model.sem_seg_head(features, labels)[1]
        check_losses(losses)


def rpn_outputs(model, features):
    """Scores and decoded boxes of all anchors."""
    rpn = model.proposal_generator
    maps = [features[name] for name in rpn.in_features]
    anchors = rpn.anchor_generator(maps)
    scores, deltas = rpn.rpn_head(maps)
    deltas = [
        d.view(d.shape[0], -1, 4, *d.shape[-2:]).permute(0, 3, 4, 1, 2).flatten(1, -2)
        for d in deltas
    ]
    boxes = rpn._decode_proposals(anchors, deltas)
    assert [b.shape[1] for b in boxes] == [len(a) for a in anchors]
    return [*scores, *boxes]


def roi_outputs(heads, precision):
    """What the box and the mask head make of maps that ROIAlign pooled."""

    channels = heads.mask_head.mask_fcn1.in_channels

    def pooled(pooler):
        return torch.zeros(5, channels, *pooler.output_size, device="cuda", dtype=precision)

    scores, deltas = heads.box_predictor(heads.box_head(pooled(heads.box_pooler)))
    return [scores, deltas, heads.mask_head.layers(pooled(heads.mask_pooler))]


def break_backbone(monkeypatch, model, change):
    """Let the forward pass of a backbone do something with its first map."""
    forward = model.backbone.forward

    def broken(images):
        features = forward(images)
        first = next(iter(features))
        return {**features, first: change(features[first])}

    monkeypatch.setattr(model.backbone, "forward", broken)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: x.cpu(), RuntimeError, "(?i)device"),
        (lambda x: x + torch.zeros(x.shape[-1]), RuntimeError, "(?i)device"),
        (lambda x: x * x.mean().item(), DataDependentOutputException, "_local_scalar_dense"),
        (lambda x: x if x.sum() > 0 else -x, DataDependentOutputException, "local_scalar"),
    ],
    ids=["cpu()", "a tensor of the CPU", "item()", "a condition on a value"],
)
def test_these_tests_can_fail(monkeypatch, change, error, message):
    model = build_on_cpu(f"{CAMVID}/dfnet_v1_SR.yaml")
    break_backbone(monkeypatch, model, change)
    with fake_gpu(monkeypatch), pytest.raises(error, match=message):
        move(model)
        model([sample(), sample()])


def test_a_tensor_that_is_no_buffer_is_found(monkeypatch):
    """`Module.to` leaves it on the CPU."""
    model = build_on_cpu(f"{CAMVID}/dfnet_v1_SR.yaml")
    weight = torch.ones(1)
    break_backbone(monkeypatch, model, lambda x: x * weight.expand(x.shape[-1]))
    with fake_gpu(monkeypatch), pytest.raises((RuntimeError, AssertionError)):
        move(model)
        model([sample(), sample()])
