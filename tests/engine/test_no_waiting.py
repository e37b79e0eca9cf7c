"""Forward pass, loss, backward pass and step never need a value of a tensor on the host.

On a GPU such an operation waits for all kernels before it. Here it is an error on a CPU.
Detectron2's detectors are left out: they choose anchors and boxes by such operations.
"""

import pytest
import torch
from detectron2.solver import build_optimizer
from detectron2.structures import ImageList
from srnet import get_cfg
from srnet.analysis.latency import labelled_image
from srnet.engine.iteration import IterationTrainer, read_losses
from srnet.modeling import build_model
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

WAITING = {
    torch.ops.aten._local_scalar_dense,
    torch.ops.aten.nonzero,
    torch.ops.aten.masked_select,
    torch.ops.aten.unique_dim,
    torch.ops.aten._unique2,
    torch.ops.aten.equal,
    torch.ops.aten.is_nonzero,
    torch.ops.aten.repeat_interleave,
}
BYTES = torch.bool, torch.uint8


class NoWaiting(TorchDispatchMode):
    """Refuses operations whose result, or its size, the host has to know."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        indices = args[1] if operation.overloadpacket == torch.ops.aten.index else ()
        masks = [x for x in indices if x is not None and x.dtype in BYTES]
        if operation.overloadpacket in WAITING or masks:
            raise AssertionError(f"{operation} waits for the device")
        return operation(*args, **(kwargs or {}))


FAMILIES = {
    "fcn": ("CamVid-SemanticSegmentation/srnet_R_50.yaml", []),
    "ohem": (
        "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml",
        ["MODEL.SEM_SEG_HEAD.LOSS_TYPE", "ohem", "SOLVER.AMP.ENABLED", True],
    ),
    "classifier": ("ImageNet-Classification/resnet_18_SR.yaml", ["SOLVER.ACCUMULATE", 2]),
}


def trainer_of(config, opts):
    cfg = get_cfg(config, ["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu", *opts])
    torch.manual_seed(0)
    model = build_model(cfg)
    batch = [labelled_image(cfg, (64, 64), seed) for seed in range(2)]
    optimizer = build_optimizer(cfg, model)
    amp, parts = cfg.SOLVER.AMP.ENABLED, cfg.SOLVER.ACCUMULATE
    return IterationTrainer(model, [batch], optimizer, parts=parts, amp=amp), batch


@pytest.fixture
def images_batched(monkeypatch):
    """Detectron2's ImageList reckons with sizes in tensors that are on the CPU on a GPU, too."""
    stacked = ImageList.from_tensors

    def undisturbed(*args, **kwargs):
        with _disable_current_modes():
            return stacked(*args, **kwargs)

    monkeypatch.setattr(ImageList, "from_tensors", staticmethod(undisturbed))


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_waits_between_the_batch_and_the_step(images_batched, family):
    trainer, batch = trainer_of(*FAMILIES[family])
    before = [p.clone() for p in trainer.model.parameters()]
    with NoWaiting():
        losses = trainer.compute_gradients(batch)
        trainer.grad_scaler.step(trainer.optimizer)
        with pytest.raises(AssertionError, match=r"_local_scalar_dense.* waits"):
            read_losses(losses)
    assert any((p != q).any() for p, q in zip(trainer.model.parameters(), before, strict=True))
    assert all(value > 0 for value in read_losses(losses).values())


def test_the_mode_sees_boolean_indices():
    with NoWaiting(), pytest.raises(AssertionError, match=r"index.* waits"):
        torch.rand(3)[torch.tensor([True, False, True])]
