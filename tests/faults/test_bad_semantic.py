"""A semantic data set of two folders, changed in every way: the right mIoU, or refused."""

import contextlib
import io
import os
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from bad_inputs import Error, attempt, file_changes
from detectron2.data import DatasetCatalog, MetadataCatalog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from srnet import get_cfg
from srnet.data import build_mapper, build_train_loader
from srnet.data.datasets.semantic_folders import load_semantic_folders
from srnet.data.records import load_records
from srnet.data.validate import check_against_datasets
from srnet.evaluation import build_evaluator

pytestmark = pytest.mark.fault("strangers: semantic data")
IGNORED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
NAME = "bad_semantic"
HEIGHT, WIDTH, VOID = 24, 32, 3
RANDOM = np.random.default_rng(0)
LABEL = RANDOM.integers(0, 4, (HEIGHT, WIDTH)).astype(np.uint8)  # with VOID
COLORS = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)


class Folder:
    """A registered data set of two images, of which the first and its label are changed."""

    def __init__(self, folder):
        self.folder, self.output = folder, folder.parent / "output"
        self.image, self.label = folder / "images" / "0.png", folder / "labels" / "0.png"
        for i in range(2):
            for place, array in (("images", COLORS), ("labels", LABEL)):
                (folder / place).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(folder / place / f"{i}.png")
        places = str(folder / "images"), str(folder / "labels")
        load = partial(load_semantic_folders, *places, prepare="srnet prepare bad")
        DatasetCatalog.register(NAME, load)
        MetadataCatalog.get(NAME).set(
            stuff_classes=["a", "b", "c"], ignore_label=VOID, evaluator_type="sem_seg"
        )

    def use(self, **options):
        """Train and evaluate."""
        options = {
            "MODEL.META_ARCHITECTURE": "SRSemanticSegmentor",
            "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 3,
            "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": VOID,
            "DATALOADER.NUM_WORKERS": 0,
            "SOLVER.IMS_PER_BATCH": 2,
            "INPUT.MIN_SIZE_TRAIN": (HEIGHT,),
            "INPUT.MIN_SIZE_TEST": 0,
            "INPUT.CROP.ENABLED": False,
            "INPUT.RANDOM_FLIP": "none",
            "DATASETS.TRAIN": (NAME,),
        } | options
        cfg = get_cfg(opts=[word for item in options.items() for word in item])
        return attempt(lambda: self.train_and_evaluate(cfg), self.folder, str(self.folder), NAME)

    def train_and_evaluate(self, cfg):
        check_against_datasets(cfg)
        with contextlib.redirect_stdout(io.StringIO()):
            next(iter(build_train_loader(cfg, build_mapper(cfg, is_train=True))))
            records = load_records(cfg, [NAME], is_train=True)
            training, test = build_mapper(cfg, is_train=True), build_mapper(cfg, is_train=False)
            for record in records:
                sample = training(record)
                assert sample["image"].shape[1:] == sample["sem_seg"].shape
                assert set(np.unique(sample["sem_seg"])) <= {0, 1, 2, VOID}
            evaluator = build_evaluator(cfg, NAME, str(self.output))
            evaluator.reset()
            images = [test(record) for record in records]
            label = torch.from_numpy(np.where(LABEL == VOID, 0, LABEL).astype(np.int64))
            output = {"sem_seg": torch.eye(3)[label].permute(2, 0, 1)}
            evaluator.process(images, [output for _ in images])
            results = evaluator.evaluate()["sem_seg"]
        return images[0]["image"].numpy()[::-1].transpose(1, 2, 0), results["mIoU"]


@pytest.fixture
def fresh(tmp_path, datasets_forgotten):
    with datasets_forgotten("bad_"):
        yield Folder(tmp_path / "data")


def right(found):
    """Whether the values are those of the unchanged files."""
    return not isinstance(found, Error) and found[1] == pytest.approx(100)


def test_the_right_files_are_read(fresh):
    found = fresh.use()
    assert right(found)
    np.testing.assert_array_equal(found[0], COLORS)


def again(change):
    """Change a picture and store it in its place."""
    return lambda path: change(Image.open(path)).save(path)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return lambda path: Image.open(path).save(path, exif=tags)


MAKE = {
    "missing": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a link to nothing": lambda path: (path.unlink(), path.symlink_to("nothing")),
    "of half the size": again(lambda image: image.resize((WIDTH // 2, HEIGHT // 2), 0)),
    "a row less": again(lambda image: image.crop((0, 0, WIDTH, HEIGHT - 1))),
    "turned": again(lambda image: image.transpose(Image.Transpose.ROTATE_90)),
    "turned by its EXIF tag": exif(6),
    "of one pixel": again(lambda image: image.crop((0, 0, 1, 1))),
}
WRONG_LABELS = {
    "in colours": again(lambda image: image.convert("RGB")),
    "with alpha": again(lambda image: image.convert("LA")),
    "a JPEG": lambda path: Image.fromarray(LABEL).save(path, "JPEG"),
    "with a class too many": lambda path: Image.fromarray(LABEL + np.uint8(1)).save(path),
    "with 255": lambda path: Image.fromarray(np.full_like(LABEL, 255)).save(path),
    "of 16 bits with a class too many": lambda path: Image.fromarray(
        LABEL.astype(np.uint16) + 256
    ).save(path),
    "negative": lambda path: Image.fromarray(LABEL.astype(np.int32) - 1).save(path, "TIFF"),
    "of floats": lambda path: Image.fromarray(LABEL.astype(np.float32)).save(path, "TIFF"),
}
RIGHT_LABELS = {
    "of a palette": again(lambda image: image.convert("P")),
    "of 16 bits": lambda path: Image.fromarray(LABEL.astype(np.uint16)).save(path),
    "of 32 bits": lambda path: Image.fromarray(LABEL.astype(np.int32)).save(path, "TIFF"),
}
RIGHT_IMAGES = {
    "with alpha": (again(lambda image: image.convert("RGBA")), COLORS),
    "grey": (again(lambda image: image.split()[0]), COLORS[..., :1].repeat(3, 2)),
    "of 16 bits": (
        lambda path: Image.fromarray(COLORS[..., 0].astype(np.uint16) * 256).save(path),
        COLORS[..., :1].repeat(3, 2),
    ),
    "turned by 180 degrees": (exif(3), COLORS[::-1, ::-1]),
}


@pytest.mark.parametrize("what, name", [(w, n) for w in ("image", "label") for n in MAKE])
def test_a_file_of_another_kind(fresh, tried, what, name):
    tried(f"semantic: the {what} is {name}")
    path = getattr(fresh, what)
    MAKE[name](path)
    found = fresh.use()
    if (what, name) == ("image", "missing"):  # the other image is there
        assert right(found)
    else:
        assert isinstance(found, Error) and str(path.parent) in found


@pytest.mark.parametrize("name", WRONG_LABELS)
def test_a_wrong_label(fresh, tried, name):
    tried(f"semantic: the label is {name}")
    WRONG_LABELS[name](fresh.label)
    found = fresh.use()
    assert isinstance(found, Error) and str(fresh.label) in found


@pytest.mark.parametrize("name", RIGHT_LABELS)
def test_a_label_in_another_form(fresh, tried, name):
    tried(f"semantic: the label is {name}")
    RIGHT_LABELS[name](fresh.label)
    assert right(fresh.use())


@pytest.mark.parametrize("name", RIGHT_IMAGES)
def test_an_image_in_another_form(fresh, tried, name):
    tried(f"semantic: the image is {name}")
    change, shown = RIGHT_IMAGES[name]
    change(fresh.image)
    found = fresh.use()
    assert right(found)
    np.testing.assert_array_equal(found[0], shown)


@pytest.mark.parametrize("name", file_changes(b""))
@pytest.mark.parametrize("what", ["image", "label"])
def test_what_may_become_of_the_files(fresh, tried, what, name):
    tried(f"semantic: the {what} is {name}")
    path = getattr(fresh, what)
    path.write_bytes(file_changes(path.read_bytes())[name])
    found = fresh.use()
    if name in ("twice", "without its last byte") and not isinstance(found, Error):
        assert right(found)  # a PNG ends before its last byte
    else:
        assert isinstance(found, Error) and str(path) in found


@settings(
    max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=IGNORED
)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), label=st.booleans())
def test_flipped_bits(fresh, tried, place, bit, label):
    """Every bit of a PNG file stands under a CRC, or means nothing."""
    tried(f"semantic: bits of the {'label' if label else 'image'} are flipped")
    path = fresh.label if label else fresh.image
    good = path.read_bytes()
    content = bytearray(good)
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    try:
        found = fresh.use()
        assert isinstance(found, Error) or (right(found) and (found[0] == COLORS).all())
    finally:
        path.write_bytes(good)


def _second(folder):
    shutil.copy(folder.image, folder.image.with_suffix(".jpeg"))


FOLDERS = {
    "no images": lambda f: shutil.rmtree(f.image.parent),
    "no labels": lambda f: shutil.rmtree(f.label.parent),
    "a file instead of the images": lambda f: (
        shutil.rmtree(f.image.parent),
        f.image.parent.write_text("text"),
    ),
    "an empty folder of images": lambda f: [p.unlink() for p in f.image.parent.iterdir()],
    "an empty folder of labels": lambda f: [p.unlink() for p in f.label.parent.iterdir()],
    "images with other suffixes": lambda f: [
        p.rename(p.with_suffix(".bmp")) for p in f.image.parent.iterdir()
    ],
    "a second image of one name": _second,
    "an image without a label": lambda f: shutil.copy(f.image, f.image.with_name("9.png")),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_wrong_folders(fresh, tried, name):
    tried(f"semantic: {name}")
    FOLDERS[name](fresh)
    assert isinstance(fresh.use(), Error)


@pytest.mark.parametrize("name", ["._0.png", ".DS_Store", "Thumbs.db", "notes.txt"])
@pytest.mark.parametrize("place", ["images", "labels"])
def test_other_files_beside_them(fresh, tried, place, name):
    tried(f"semantic: {name} among the {place}")
    (fresh.folder / place / name).write_bytes(b"\0\5\26\7")
    assert right(fresh.use())


@pytest.mark.parametrize(
    "key, value, right_value",
    [("NUM_CLASSES", 4, 3), ("NUM_CLASSES", 2, 3), ("IGNORE_VALUE", 255, 3)],
)
def test_a_config_of_other_classes(fresh, tried, key, value, right_value):
    tried(f"semantic: {key} {value}")
    with pytest.raises(ValueError, match=f"{key} is {value}, and .*{NAME} needs {right_value}"):
        fresh.use(**{f"MODEL.SEM_SEG_HEAD.{key}": value})
