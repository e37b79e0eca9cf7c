"""The semantic mapper and its augmentation.

Drawn images have 20 x label + 10 in all channels, so that an output says where each of its pixels
came from.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from srnet import get_cfg
from srnet.data import SemanticSegmentationMapper

MEAN = [77.25, 103.53, 12.0]


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return str(path)


def mapper(is_train=True, *, ignore=255, classes=11, **inputs):
    cfg = get_cfg()
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = classes
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = ignore
    cfg.MODEL.PIXEL_MEAN = MEAN
    cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = "range"
    cfg.INPUT.MIN_SIZE_TRAIN = (48, 48)
    cfg.INPUT.RANDOM_FLIP = "none"
    for key, value in inputs.items():
        node, _, name = key.rpartition("__")
        setattr(cfg.INPUT[node] if node else cfg.INPUT, name, value)
    return SemanticSegmentationMapper(cfg, is_train)


def crop(*size):
    return {"CROP__ENABLED": True, "CROP__TYPE": "absolute", "CROP__SIZE": list(size)}


def drawn(folder, label):
    image = np.repeat((20 * label + 10).astype(np.uint8)[..., None], 3, axis=2)
    return {
        "file_name": save(folder / "image.png", image),
        "sem_seg_file_name": save(folder / "label.png", label),
    }


@pytest.fixture
def blocks(tmp_path):
    """A 48 x 60 image of 12 x 10 blocks without symmetry, of labels 0 to 10."""
    label = np.random.default_rng(0).integers(0, 11, (4, 6), np.uint8)
    return drawn(tmp_path, np.kron(label, np.ones((12, 10), np.uint8)))


@pytest.fixture(autouse=True)
def seeded():
    np.random.seed(0)


def test_image_and_label_differ_in_size(tmp_path):
    image = save(tmp_path / "i.png", np.zeros((4, 6, 3), np.uint8))
    label = save(tmp_path / "l.png", np.zeros((6, 4), np.uint8))
    with pytest.raises(ValueError, match=f"{image} is 6 x 4 pixels, its label {label} 4 x 6"):
        mapper()({"file_name": image, "sem_seg_file_name": label})


def test_bad_label_in_training_only(tmp_path):
    image = save(tmp_path / "i.png", np.zeros((4, 6, 3), np.uint8))
    label = save(tmp_path / "l.png", np.full((4, 6), 99, np.uint8))
    record = {"file_name": image, "sem_seg_file_name": label}
    with pytest.raises(ValueError, match=f"{label} has the label 99"):
        mapper()(record)
    assert "sem_seg" not in mapper(is_train=False)(record)


def test_output_equals_the_input_without_augmentation(blocks):
    out = mapper()(blocks)
    label = np.array(Image.open(blocks["sem_seg_file_name"]))
    assert (out["image"].dtype, out["sem_seg"].dtype) == (torch.uint8, torch.int64)
    np.testing.assert_array_equal(out["sem_seg"].numpy(), label)
    np.testing.assert_array_equal(out["image"].numpy(), np.stack([20.0 * label + 10] * 3))
    assert "sem_seg_file_name" in blocks  # the record is the dataset's


def test_image_format(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    record = {"file_name": save(tmp_path / "i.png", rgb)}
    read = {f: mapper(False, FORMAT=f, MIN_SIZE_TEST=0)(record)["image"] for f in ("RGB", "BGR")}
    np.testing.assert_array_equal(read["RGB"].numpy(), rgb.transpose(2, 0, 1))
    np.testing.assert_array_equal(read["BGR"].numpy(), rgb[..., ::-1].transpose(2, 0, 1))


def test_test_size(blocks):
    assert mapper(False, MIN_SIZE_TEST=0)(blocks)["image"].shape == (3, 48, 60)
    assert mapper(False, MIN_SIZE_TEST=24)(blocks)["image"].shape == (3, 24, 30)


def test_flip_turns_image_and_label_together(blocks):
    label = np.array(Image.open(blocks["sem_seg_file_name"]))
    flipping = mapper(RANDOM_FLIP="horizontal")
    flips = 0
    for _ in range(30):
        out = flipping(blocks)
        found = out["sem_seg"].numpy()
        np.testing.assert_array_equal(out["image"][0].numpy(), 20 * found + 10)
        flipped = np.array_equal(found, label[:, ::-1])
        assert flipped or np.array_equal(found, label)
        flips += flipped
    assert 5 < flips < 25


def test_scale_stays_in_its_range(blocks):
    scaling = mapper(MIN_SIZE_TRAIN=(24, 96))
    sides = []
    for _ in range(100):
        out = scaling(blocks)
        height, width = out["sem_seg"].shape
        assert out["image"].shape == (3, height, width)
        assert abs(width - height * 60 / 48) <= 1
        sides.append(height)
    assert 24 <= min(sides) < 34
    assert 86 < max(sides) <= 96


@pytest.mark.parametrize("classes", [11, 300])  # labels beyond uint8 take another way
def test_labels_keep_their_classes_when_scaled(blocks, classes):
    """Nearest neighbour: of the image's interior pixels, each has its label; none is invented."""
    scaling = mapper(MIN_SIZE_TRAIN=(24, 96), classes=classes)
    for _ in range(10):
        out = scaling(blocks)
        expected = (out["image"][0].numpy() - 10) / 20
        interior = np.isin(expected, np.arange(11))
        assert (out["sem_seg"].numpy() == expected)[interior].mean() > 0.95
        assert out["sem_seg"].max() <= 10


def test_scaled_label_lies_on_the_scaled_image(tmp_path):
    """Over random scales an edge of the label is where the image has it, half a pixel not aside."""
    edges = []
    for position in range(40, 80):
        label = np.zeros((60, 120), np.uint8)
        label[:, position:] = 10
        out = mapper(MIN_SIZE_TRAIN=(30, 120))(drawn(tmp_path, label))
        width = out["sem_seg"].shape[1]
        of_image = width - ((out["image"][0, 0] - 10) / 200).sum()
        of_label = width - (out["sem_seg"][0] / 10).sum()
        edges.append(float(of_label - of_image))
    assert abs(np.mean(edges)) < 0.15


def test_crops_have_the_size_and_reach_everywhere(blocks):
    cropping = mapper(**crop(20, 30))
    label = np.array(Image.open(blocks["sem_seg_file_name"]))
    windows = {
        label[y : y + 20, x : x + 30].tobytes(): (y, x) for y in range(29) for x in range(31)
    }
    corners = []
    for _ in range(100):
        out = cropping(blocks)
        found = out["sem_seg"].numpy()
        assert (out["image"].shape, found.shape) == ((3, 20, 30), (20, 30))
        np.testing.assert_array_equal(out["image"][0].numpy(), 20 * found + 10)
        corners.append(windows[found.astype(np.uint8).tobytes()])
    y, x = np.transpose(corners)
    assert y.max() - y.min() > 20
    assert x.max() - x.min() > 20
    assert abs(np.corrcoef(y, x)[0, 1]) < 0.4  # the axes are drawn independently


@pytest.mark.parametrize("area", [1.0, 0.75])
@pytest.mark.parametrize("ignore", [255, 11])
def test_small_images_are_padded_to_the_crop(blocks, ignore, area):
    padding = mapper(
        MIN_SIZE_TRAIN=(24, 96),
        ignore=ignore,
        CROP__SINGLE_CATEGORY_MAX_AREA=area,
        **crop(64, 72),
    )
    padded = 0
    for _ in range(30):
        out = padding(blocks)
        image, label = out["image"].numpy(), out["sem_seg"].numpy()
        assert (image.shape, label.shape) == ((3, 64, 72), (64, 72))
        rows, columns = (label != ignore).any(1), (label != ignore).any(0)
        height, width = rows.sum(), columns.sum()
        assert (label[:height, :width] != ignore).all()
        mean = np.float32(MEAN)[:, None, None]
        assert (image[:, height:] == mean).all()
        assert (image[:, :, width:] == mean).all()
        source = image[:, :height, :width].round(3)
        np.testing.assert_array_equal(source, source.round())  # the image's own pixels
        padded += height < 64
    assert padded > 5


def test_without_padding_small_images_stay_small(blocks):
    out = mapper(MIN_SIZE_TRAIN=(24, 24), CROP__PAD=False, **crop(64, 72))(blocks)
    assert out["sem_seg"].shape == (24, 30)
