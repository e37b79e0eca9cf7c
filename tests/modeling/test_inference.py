"""Inference modes against plain loops over windows, scales and flips."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from srnet import build_model, get_cfg
from srnet.modeling import SemanticInference
from srnet.modeling.inference import window_starts
from torch import nn


class Network(nn.Module):
    """Depends on the position within its input, as networks with padding do; counts its calls."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 5, 7, padding=3)
        self.batches = []

    def forward(self, x):
        self.batches.append(tuple(x.shape))
        return 3 * torch.tanh(self.conv(x))


@pytest.fixture
def network():
    return Network().eval()


def plain_windows(network, view, window, stride):
    """Mean logits over the windows, one at a time on maps of the whole view."""
    height, width = view.shape[-2:]
    view = F.pad(view, (0, max(0, window[1] - width), 0, max(0, window[0] - height)))
    total, count = 0, 0
    y = -stride[0]
    while y + window[0] < view.shape[2]:
        y = min(y + stride[0], view.shape[2] - window[0])
        x = -stride[1]
        while x + window[1] < view.shape[3]:
            x = min(x + stride[1], view.shape[3] - window[1])
            logits = network(view[:, :, y : y + window[0], x : x + window[1]])
            place = (
                x,
                view.shape[3] - x - window[1],
                y,
                view.shape[2] - y - window[0],
            )
            total = total + F.pad(logits, place)
            count = count + F.pad(torch.ones_like(logits), place)
    return (total / count)[:, :, :height, :width]


def plain(network, image, size, window, stride, scales, flip):
    """Mean probabilities over the views, every step written out."""
    probabilities = []
    for scale, mirror in itertools.product(scales, (False, True) if flip else (False,)):
        view = image[None]
        if scale != 1:
            to = [round(n * scale) for n in image.shape[1:]]
            view = F.interpolate(view, to, mode="bilinear", align_corners=False, antialias=True)
        view = view.flip(3) if mirror else view
        logits = network(view) if window is None else plain_windows(network, view, window, stride)
        logits = logits.flip(3) if mirror else logits
        if logits.shape[2:] != size:
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        probabilities.append(logits[0] if len(scales) == 1 and not flip else logits[0].softmax(0))
    return sum(probabilities) / len(probabilities)


@pytest.mark.parametrize("budget", [1, 900, 10**6])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 1.75)])
@pytest.mark.parametrize(
    "window, stride",
    [
        (None, None),
        ((16, 20), (9, 13)),
        ((16, 16), (16, 16)),
        ((32, 80), (32, 1)),
        ((99, 99), None),
    ],
)
@torch.no_grad()
def test_agrees_with_the_plain_loop(network, window, stride, scales, flip, budget):
    image = torch.randn(3, 40, 63)
    predict = SemanticInference(
        network, window=window, stride=stride, scales=scales, flip=flip, max_batch_pixels=budget
    )
    for size in ((40, 63), (55, 47)):
        expected = plain(network, image, size, window, stride or window, scales, flip)
        torch.testing.assert_close(predict(image, size), expected, rtol=1e-5, atol=1e-5)


def test_batches_stay_within_the_budget(network):
    predict = SemanticInference(
        network, window=(16, 16), stride=(8, 8), flip=True, max_batch_pixels=5 * 256
    )
    predict(torch.randn(3, 32, 32))
    assert [b[0] for b in network.batches] == [5, 5, 5, 3]  # 9 windows of two views
    assert {b[2:] for b in network.batches} == {(16, 16)}


def test_whole_views_share_a_batch_where_the_budget_allows(network):
    image = torch.randn(3, 32, 32)
    SemanticInference(network, flip=True, max_batch_pixels=2 * 32 * 32)(image)
    SemanticInference(network, flip=True, max_batch_pixels=2 * 32 * 32 - 1)(image)
    assert [b[0] for b in network.batches] == [2, 1, 1]


def test_the_last_window_ends_with_the_image():
    assert window_starts(2048, 769, 513) == [0, 513, 1026, 1279]
    assert window_starts(769, 769, 513) == window_starts(700, 769, 513) == [0]


def test_sums_of_half_precision_windows_are_not_rounded():
    def network(x):
        return torch.full((len(x), 2, *x.shape[2:]), 3.0039, dtype=torch.bfloat16)

    result = SemanticInference(network, window=(64, 64), stride=(1, 1))(torch.zeros(3, 90, 90))
    assert result.unique().tolist() == [3.0]


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"window": (0, 8)}, "window"),
        ({"window": (8, 8), "stride": (9, 8)}, "stride"),
        ({"window": (8, 8), "stride": (0, 8)}, "stride"),
        ({"scales": ()}, "scales"),
        ({"scales": (1.0, 0.0)}, "scales"),
        ({"max_batch_pixels": 0}, "max_batch_pixels"),
    ],
)
def test_bad_arguments_are_named(network, arguments, name):
    with pytest.raises(ValueError, match=name):
        SemanticInference(network, **arguments)


def model_of(root, **test):
    cfg = get_cfg()
    cfg.merge_from_file(str(root / "configs/CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    for key, value in test.items():
        cfg.TEST.SEM_SEG[key] = value
    return build_model(cfg).eval()


def test_the_model_follows_its_config(root):
    torch.manual_seed(0)
    keys = {"MODE": "slide", "WINDOW": [64, 64], "STRIDE": [40, 40], "SCALES": [0.5, 1.0]}
    model = model_of(root, **keys, FLIP=True)
    image = torch.randint(0, 255, (3, 72, 96)).float()
    found = model([{"image": image, "height": 100, "width": 120, "file_name": "a.png"}])[0]
    normalised = (image - model.pixel_mean) / model.pixel_std
    with torch.no_grad():
        expected = plain(model.logits, normalised, (100, 120), (64, 64), (40, 40), (0.5, 1.0), True)
    torch.testing.assert_close(found["sem_seg"], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["sem_seg"].sum(0), torch.ones(100, 120))


def test_whole_images_are_the_default(root):
    model = model_of(root)
    image = torch.randint(0, 255, (3, 50, 66)).float()
    with torch.no_grad():
        expected = model.logits(((image - model.pixel_mean) / model.pixel_std)[None])[0]
    torch.testing.assert_close(model([{"image": image}])[0]["sem_seg"], expected)


def test_an_unknown_mode_is_named(root):
    with pytest.raises(ValueError, match=r"TEST.SEM_SEG.MODE='tiles'.*whole, slide"):
        model_of(root, MODE="tiles")


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_names_the_image_and_the_sliding_mode(root, monkeypatch, error):
    model = model_of(root)

    def fail(features):
        raise error

    monkeypatch.setattr(model.backbone, "forward", fail)
    with pytest.raises(RuntimeError, match=r"big.png of 50 x 66.*TEST.SEM_SEG.MODE slide"):
        model([{"image": torch.zeros(3, 50, 66), "file_name": "big.png"}])
    model.inference.window = (32, 32)
    model.inference.stride = (32, 32)
    with pytest.raises(RuntimeError, match=r"big.png.*MAX_BATCH_PIXELS"):
        model([{"image": torch.zeros(3, 50, 66), "file_name": "big.png"}])


def test_memory_that_really_runs_out(network):
    def greedy(x):
        return torch.empty(1 << 62, dtype=torch.uint8)

    with pytest.raises(RuntimeError, match="sliding windows"):
        SemanticInference(greedy)(torch.zeros(3, 8, 8))


def test_other_errors_pass(network):
    with pytest.raises(RuntimeError, match="channels"):
        SemanticInference(network)(torch.zeros(4, 8, 8))
