"""The crop that is resized alone, beside Detectron2's crop of the resized image."""

import numpy as np
import pytest
from detectron2.data import transforms as T
from PIL import Image
from srnet import get_cfg
from srnet.data import build_semantic_augmentation
from srnet.data.resized_crop import ResizedCrop

SIZE = (96, 200)
CROPS = {
    "absolute": (48, 64),
    "absolute_range": (20, 90),
    "relative": (0.4, 0.7),
    "relative_range": (0.3, 0.3),
}


def drawn(seed, size=SIZE, labels=19, dtype=np.uint8):
    """An image with edges, slopes and noise, as a view with its channels turned, and a label."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (size[0] // 16 + 1, size[1] // 16 + 1, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(blocks).resize(size[::-1]), int)
    image = (smooth + rng.integers(-20, 20, smooth.shape)).clip(0, 255).astype(np.uint8)
    label = rng.integers(0, labels, size).astype(dtype)
    label[: size[0] // 2] = 3  # half of one class, for the crops that are drawn by their labels
    return image[:, :, ::-1], label


def both(resize, crop, image, label, seed):
    """Results of the two augmentations in turns and at once, and the next random number."""
    found = []
    for augmentations in ([resize, crop], [ResizedCrop(resize, crop)]):
        np.random.seed(seed)
        augmented = T.AugInput(image, sem_seg=label, boxes=np.array([[20.0, 10.0, 150.0, 80.0]]))
        T.AugmentationList(augmentations)(augmented)
        found.append((augmented, np.random.rand()))
    return found


def differing(resize, crop, image, label, seed):
    """The share of pixels that differ; everything else is compared."""
    (plain, drawn_before), (ours, drawn_after) = both(resize, crop, image, label, seed)
    assert drawn_before == drawn_after  # as many random numbers, so all of them
    np.testing.assert_array_equal(ours.sem_seg, plain.sem_seg)
    assert ours.sem_seg.dtype == plain.sem_seg.dtype
    np.testing.assert_allclose(ours.boxes, plain.boxes)
    assert (ours.image.shape, ours.image.dtype) == (plain.image.shape, plain.image.dtype)
    difference = np.abs(ours.image.astype(np.float64) - plain.image)
    assert difference.max() <= 2
    return (difference > 0).mean()


@pytest.mark.parametrize("area", [1.0, 0.6])
@pytest.mark.parametrize("kind", CROPS)
def test_equals_the_crop_of_the_resized_image(kind, area):
    image, label = drawn(0)
    resize = T.ResizeShortestEdge((30, 240), 600, "range")
    crop = T.RandomCrop(kind, CROPS[kind])
    if area < 1:
        crop = T.RandomCrop_CategoryAreaConstraint(kind, CROPS[kind], area, 255)
    shares = [differing(resize, crop, image, label, seed) for seed in range(20)]
    assert np.mean(shares) <= 0.003


@pytest.mark.parametrize("short", [24, 48, 60, 72, 96, 120, 144, 168, 192])
def test_simple_scales_differ_no_more(short):
    """There many values lie between two levels, so that any error would show."""
    image, label = drawn(1)
    crop = T.RandomCrop("absolute", (50, 70))
    shares = [
        differing(T.ResizeShortestEdge(short, 10**6), crop, image, label, seed)
        for seed in range(10)
    ]
    assert np.mean(shares) <= 0.003


def test_cityscapes_sizes():
    image, label = drawn(2, size=(1024, 2048))
    resize = T.ResizeShortestEdge((512, 2048), 10**6, "range")
    crop = T.RandomCrop("absolute", (769, 769))
    shares = [differing(resize, crop, image, label, seed) for seed in range(2)]
    assert np.mean(shares) <= 0.003


@pytest.mark.parametrize(
    "case",
    {
        "classes beyond 255": lambda image, label: (image, label.astype(np.float32) + 300),
        "floats": lambda image, label: (image.astype(np.float32) + 0.25, label),
        "grey": lambda image, label: (image[:, :, :1], label),
        "one row": lambda image, label: (image[:1], label[:1]),
        "one column": lambda image, label: (image[:, :1], label[:, :1]),
    }.items(),
    ids=lambda case: case[0],
)
def test_other_images_and_labels(case):
    image, label = case[1](*drawn(3))
    resize, crop = T.ResizeShortestEdge((30, 240), 600, "range"), T.RandomCrop("absolute", (48, 64))
    assert np.mean([differing(resize, crop, image, label, seed) for seed in range(10)]) <= 0.003


def test_an_image_that_keeps_its_size():
    image, label = drawn(4)
    for short in (0, 96):
        resize = T.ResizeShortestEdge(short, 10**6)
        assert differing(resize, T.RandomCrop("absolute", (48, 64)), image, label, 0) == 0


def test_without_a_label():
    image, _ = drawn(5)
    resize = T.ResizeShortestEdge((50, 100), 600, "range")
    (plain, _), (ours, _) = both(resize, T.RandomCrop("absolute", (40, 40)), image, None, 1)
    assert ours.sem_seg is None and ours.image.shape == plain.image.shape


@pytest.mark.parametrize("kind", CROPS)
@pytest.mark.parametrize("area", [1.0, 0.6])
@pytest.mark.parametrize("flip", ["none", "horizontal", "vertical"])
def test_the_whole_augmentation_of_a_config(kind, area, flip):
    """With padding beyond the image and flips: Detectron2's augmentations one after another."""
    cfg = get_cfg()
    node = cfg.INPUT
    node.MIN_SIZE_TRAIN, node.MIN_SIZE_TRAIN_SAMPLING = (30, 150), "range"
    node.RANDOM_FLIP = flip
    node.CROP.merge_from_list(
        ["ENABLED", True, "TYPE", kind, "SIZE", CROPS[kind], "SINGLE_CATEGORY_MAX_AREA", area]
    )
    if kind == "absolute":
        node.CROP.SIZE = (80, 110)  # higher than the smallest of the resized images
    ours = build_semantic_augmentation(cfg, is_train=True)
    plain = [a for x in ours for a in ((x.resize, x.crop) if isinstance(x, ResizedCrop) else (x,))]
    assert len(plain) == len(ours) + 1
    image, label = drawn(6)
    shares, shapes = [], set()
    for seed in range(8):
        found = []
        for augmentations in (plain, ours):
            np.random.seed(seed)
            augmented = T.AugInput(image, sem_seg=label)
            T.AugmentationList(augmentations)(augmented)
            found.append(augmented)
        np.testing.assert_array_equal(found[0].sem_seg, found[1].sem_seg)
        assert found[0].image.shape == found[1].image.shape
        difference = np.abs(found[0].image.astype(np.float32) - found[1].image)
        assert difference.max() <= 2
        shares.append((difference > 0).mean())
        shapes.add(found[0].image.shape)
    assert np.mean(shares) <= 0.003
    assert (kind == "absolute") == (shapes == {(80, 110, 3)})
