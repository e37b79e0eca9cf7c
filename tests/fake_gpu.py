"""A GPU that is not there: tensors without values which know that they are on `cuda`.

PyTorch's FakeTensorMode runs the shape, dtype and device rules of each operation. An operation on
tensors of two devices is an error, as is one whose Python code needs a value (`.item()`, `nonzero`,
a mask as an index): on a GPU it would wait for it. What is computed is not looked at.
"""

from contextlib import contextmanager

import torch
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList
from srnet import get_cfg
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode


def pad_to_one_size(tensors, size_divisibility=0, pad_value=0.0, padding_constraints=None):
    """ImageList.from_tensors without its tensors of sizes, which it reads back from the CPU."""
    sizes = [tuple(t.shape[-2:]) for t in tensors]
    divisor = max(size_divisibility, 1)
    height, width = (-(-max(s[i] for s in sizes) // divisor) * divisor for i in range(2))
    padded = [
        nn.functional.pad(t, (0, width - w, 0, height - h), value=pad_value)
        for t, (h, w) in zip(tensors, sizes, strict=True)
    ]
    return ImageList(torch.stack(padded), sizes)


@contextmanager
def fake_gpu(monkeypatch, precision=torch.float32):
    """Run on the GPU that is not there, with autocast where the precision is lower than fp32."""
    with monkeypatch.context() as patch, FakeTensorMode():
        patch.setattr(ImageList, "from_tensors", staticmethod(pad_to_one_size))
        # Autocast switches itself off where there is no GPU.
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *args: True)
        enabled = precision != torch.float32
        dtype = precision if enabled else torch.float16
        with torch.autocast("cuda", dtype=dtype, enabled=enabled):
            yield


def build_on_cpu(config, *opts):
    """The model of a config, before Detectron2 would move it to its device.

    `get_cfg` makes MODEL.DEVICE the CPU where there is no GPU. That model has plain batch norms in
    place of SyncBN, and is otherwise the same.
    """
    words = ["MODEL.DEVICE", "cuda", "MODEL.WEIGHTS", "", *opts]
    cfg = get_cfg(config, [str(word) for word in words])
    return META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)


def move(model):
    """Move parameters and buffers to the GPU, as `Module.to` does; nothing else of a module."""

    def moved(value):
        return torch.empty(value.shape, dtype=value.dtype, device="cuda")

    for module in model.modules():
        for name, value in module._parameters.items():
            if value is not None:
                module._parameters[name] = nn.Parameter(moved(value), value.requires_grad)
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = moved(value)
    return model
