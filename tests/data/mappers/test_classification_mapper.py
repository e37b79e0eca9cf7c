"""From files of all kinds to what a classifier takes."""

import io

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from srnet import get_cfg
from srnet.data.loader import build_train_loader, seeded
from srnet.data.mapped_dataset import MappedDataset
from srnet.data.mappers.classification import ClassificationMapper, read_rgb

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (60, 80, 3)).astype(np.uint8)


def config(*options):
    cfg = get_cfg()
    defaults = ["MODEL.META_ARCHITECTURE", "ImageClassifier", "INPUT.FORMAT", "RGB"]
    cfg.merge_from_list([*defaults, "MODEL.CLASSIFIER.NUM_CLASSES", 3, *options])
    return cfg


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS).save(path)
    return str(path)


def test_evaluation_is_torchvisions_standard(image):
    """Resize 256 and centre crop 224, to within the rounding of a uint8."""
    standard = torchvision.transforms.Compose(
        [
            torchvision.transforms.Resize(256),
            torchvision.transforms.CenterCrop(224),
            torchvision.transforms.ToTensor(),
        ]
    )
    mapper = ClassificationMapper(config(), is_train=False)
    ours = mapper({"file_name": image, "class_index": 2, "image_id": 5})
    assert ours["image"].dtype == torch.uint8 and ours["class_index"] == 2
    torch.testing.assert_close(ours["image"] / 255, standard(Image.fromarray(PIXELS)))


def test_training_is_torchvisions_standard(image):
    standard = torchvision.transforms.v2.Compose(
        [
            torchvision.transforms.v2.RandomResizedCrop(224),
            torchvision.transforms.v2.RandomHorizontalFlip(),
            torchvision.transforms.v2.PILToTensor(),
        ]
    )
    mapper = ClassificationMapper(config(), is_train=True)
    for position in range(5):
        with seeded(7, position):
            ours = mapper({"file_name": image})["image"]
        with seeded(7, position):
            assert torch.equal(ours, standard(Image.fromarray(PIXELS)))
    assert ours.shape == (3, 224, 224)


def test_bgr(image):
    rgb, bgr = (
        ClassificationMapper(config("INPUT.FORMAT", f), is_train=False)({"file_name": image})
        for f in ("RGB", "BGR")
    )
    assert torch.equal(rgb["image"].flip(0), bgr["image"])
    with pytest.raises(ValueError, match=r"INPUT.FORMAT='YUV-BT.601'"):
        ClassificationMapper(config("INPUT.FORMAT", "YUV-BT.601"), is_train=False)


def saved(tmp_path, picture, suffix, **options):
    path = tmp_path / f"picture.{suffix}"
    picture.save(path, **options)
    return np.asarray(read_rgb(str(path)))


def test_greyscale_and_palettes(tmp_path):
    grey = PIXELS[..., 0]
    read = saved(tmp_path, Image.fromarray(grey), "png")
    assert np.array_equal(read, np.stack([grey] * 3, -1))
    read = saved(tmp_path, Image.fromarray(grey > 127), "png")  # one bit
    assert np.array_equal(read[..., 0], np.where(grey > 127, 255, 0))
    palette = Image.fromarray(PIXELS).quantize(256)
    assert np.array_equal(saved(tmp_path, palette, "png"), np.asarray(palette.convert("RGB")))
    alpha = Image.fromarray(np.dstack([PIXELS, grey]))
    assert np.array_equal(saved(tmp_path, alpha, "png"), PIXELS)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    deep = (PIXELS[..., 0].astype(np.uint16) << 8) + 99
    for suffix in ("png", "tiff"):
        read = saved(tmp_path, Image.fromarray(deep), suffix)
        assert np.array_equal(read, np.stack([PIXELS[..., 0]] * 3, -1))


def test_cmyk(tmp_path):
    smooth = Image.fromarray(PIXELS).resize((8, 6)).resize((80, 60))
    read = saved(tmp_path, smooth.convert("CMYK"), "jpg", quality=95)
    assert read.shape == (60, 80, 3)
    assert np.abs(read.astype(int) - np.asarray(smooth)).mean() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    """Turned as the tag says: the corner that is named first and second by the standard."""
    corners = {1: "TL", 2: "TR", 3: "BR", 4: "BL", 5: "LT", 6: "RT", 7: "RB", 8: "LB"}
    stored = np.zeros((60, 80, 3), np.uint8)
    stored[:20, :20] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = saved(tmp_path, Image.fromarray(stored), "jpg", exif=exif, quality=95)
    assert read.shape == ((60, 80, 3) if orientation < 5 else (80, 60, 3))
    place = corners[orientation]
    row = slice(0, 10) if "T" in place else slice(-10, None)
    column = slice(0, 10) if "L" in place else slice(-10, None)
    assert read[row, column].mean() > 240 and read.mean() < 40


def broken_files(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "jpeg")
    whole = buffer.getvalue()
    contents = {
        "cut.jpg": whole[: len(whole) // 2],
        "empty.jpg": b"",
        "text.png": b"not an image",
        "head.jpg": whole[:10],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return [str(tmp_path / name) for name in contents] + [str(tmp_path / "missing.jpg")]


def test_broken_files_are_named(tmp_path):
    mapper = ClassificationMapper(config(), is_train=False)
    for path in broken_files(tmp_path):
        with pytest.raises(ValueError, match="cannot read the image") as error:
            mapper({"file_name": path})
        assert path in str(error.value) and "SKIP_BAD_IMAGES" in str(error.value)


def test_or_skipped_with_a_count(tmp_path, image, caplog):
    mapper = ClassificationMapper(config("DATALOADER.SKIP_BAD_IMAGES", True), is_train=False)
    paths = broken_files(tmp_path)
    assert [mapper({"file_name": path}) for path in paths] == [None] * 5
    assert mapper.skipped == 5 and "number 5 in this process" in caplog.text
    assert all(path in caplog.text for path in paths)
    good = mapper({"file_name": image})
    assert mapper.collate([None, good, None]) == [good]


def test_training_draws_another_image_by_its_position(tmp_path, image):
    mapper = ClassificationMapper(config("DATALOADER.SKIP_BAD_IMAGES", True), is_train=True)
    items = [{"file_name": p} for p in [*broken_files(tmp_path), image]]
    dataset = MappedDataset(items, mapper)
    with seeded(3, 1):
        one = dataset[0]
    with seeded(3, 1):
        assert torch.equal(dataset[0]["image"], one["image"]) and one["file_name"] == image
    with pytest.raises(RuntimeError, match="rejected 100 items"):
        MappedDataset(items[:1], mapper)[0]
    assert MappedDataset(items, mapper, replace=False)[0] is None


@pytest.mark.parametrize("kind", ["MIXUP", "CUTMIX"])
def test_mixing(image, kind):
    mapper = ClassificationMapper(config(f"INPUT.CLASSIFICATION.{kind}", 1.0), is_train=True)
    batch = []
    for position in range(4):
        with seeded(1, position):
            batch.append(mapper({"file_name": image, "class_index": position % 3}))
    mixed, again = mapper.collate(batch), mapper.collate(batch)
    for i, (x, y) in enumerate(zip(mixed, again, strict=True)):
        assert torch.equal(x["image"], y["image"]) and torch.equal(x["target"], y["target"])
        own, other = i % 3, (i - 1) % 4 % 3  # torchvision mixes with the image before
        share = x["target"][own].item()
        assert x["target"].sum().item() == pytest.approx(1)
        if own == other:
            continue
        assert x["target"][other].item() == pytest.approx(1 - share)
        one, two = (batch[j]["image"].float() for j in (i, i - 1))
        if kind == "MIXUP":
            expected = share * one + (1 - share) * two
            torch.testing.assert_close(x["image"].float(), expected, atol=0.51, rtol=0)
        else:
            same = (x["image"] == one).all(0)
            assert ((x["image"] == two).all(0) | same).all()
            assert same.float().mean().item() == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("name", ["trivial", "rand"])
def test_automatic_augmentation_and_erasing(image, name):
    options = ["INPUT.CLASSIFICATION.AUTO_AUGMENT", name, "INPUT.CLASSIFICATION.SIZE", 32]
    mapper = ClassificationMapper(
        config(*options, "INPUT.CLASSIFICATION.RANDOM_ERASING", 1.0), is_train=True
    )
    with seeded(0, 1):
        x = mapper({"file_name": image})["image"]
    assert x.shape == (3, 32, 32) and x.dtype == torch.uint8
    mean = torch.tensor(config().MODEL.PIXEL_MEAN).round().to(torch.uint8)
    assert (x == mean[:, None, None]).all(0).any()
    with pytest.raises(ValueError, match="AUTO_AUGMENT='no'"):
        ClassificationMapper(config("INPUT.CLASSIFICATION.AUTO_AUGMENT", "no"), is_train=True)


def test_the_loader_begins_anywhere_with_and_without_workers(tmp_path, monkeypatch):
    """The order is that of Detectron2's TrainingSampler, the images those of their positions."""
    from detectron2.data import DatasetCatalog
    from detectron2.data.samplers import TrainingSampler
    from srnet.data.datasets.image_folder import load_image_folder
    from srnet.data.loader import ShuffledIndices, start_at_iteration

    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    for name in ("a", "b", "c"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(PIXELS + i).save(tmp_path / "set" / name / f"{i}.png")
    DatasetCatalog.register("test_set", lambda: load_image_folder(str(tmp_path / "set")))
    options = ["DATASETS.TRAIN", ("test_set",), "SEED", 4, "SOLVER.IMS_PER_BATCH", 2]
    options += ["DATALOADER.ASPECT_RATIO_GROUPING", False, "INPUT.CLASSIFICATION.MIXUP", 0.5]

    def batches(workers, start, count):
        cfg = config(*options, "DATALOADER.NUM_WORKERS", workers)
        loader = build_train_loader(cfg, ClassificationMapper(cfg, is_train=True))
        start_at_iteration(loader, start, 2)
        stream = iter(loader)
        return [next(stream) for _ in range(count)]

    try:
        whole = batches(0, 0, 6)
        for one, other in zip(whole[2:], batches(2, 2, 4), strict=True):
            for x, y in zip(one, other, strict=True):
                assert x["file_name"] == y["file_name"] and torch.equal(x["image"], y["image"])
                assert torch.equal(x["target"], y["target"])
    finally:
        DatasetCatalog.remove("test_set")
    sampler = TrainingSampler(5000, seed=3)
    ours, theirs = iter(ShuffledIndices(sampler)), iter(sampler)
    assert [next(ours) for _ in range(12000)] == [next(theirs) for _ in range(12000)]
