"""One reader of images and labels: files of all kinds, for every task."""

import io
import os

import numpy as np
import pytest
from PIL import Image, ImageFile
from srnet import get_cfg
from srnet.data import build_mapper
from srnet.data.read import UnreadableImageError, read_image, read_label, read_rgb


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return str(path)


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_label_modes(tmp_path, mode):
    expected = np.arange(12).reshape(3, 4)
    if mode == "P":
        image = Image.fromarray(expected.astype(np.uint8), mode="L").convert("P")
        image.putpalette(bytes(range(36)))
    else:
        image = Image.fromarray(expected.astype({"L": np.uint8, "I;16": np.uint16}[mode]))
    image.save(tmp_path / "a.png")
    label = read_label(str(tmp_path / "a.png"), 11, 11)
    assert label.dtype == np.int64
    np.testing.assert_array_equal(label, expected)


def test_label_out_of_range(tmp_path):
    path = save(tmp_path / "a.png", np.array([[0, 12]], np.uint8))
    with pytest.raises(ValueError, match=f"{path} has the label 12; 11 classes .* 0 to 10, and 11"):
        read_label(path, 11, 11)
    assert read_label(path, 11, 12).max() == 12


def test_color_label(tmp_path):
    path = save(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match=f"{path} is a RGB image where one channel"):
        read_label(path, 11, 11)


def broken(kind, array):
    """A PNG file that does not decode, in the three ways in which Pillow says so."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", compress_level=0)
    content = file.getvalue()
    if kind == "truncated":
        return content[: len(content) // 2]
    if kind == "no image":
        return b"<html>not found</html>"
    second = content.index(b"IDAT", content.index(b"IDAT") + 4)
    return content[:second] + b"\1\2\3\4" + content[second + 4 :]


@pytest.mark.parametrize("kind", ["truncated", "no image", "bad chunk"])
def test_undecodable(tmp_path, kind):
    side = int(ImageFile.MAXBLOCK**0.5) * 2  # so that there are several chunks
    label, image = np.zeros((side, side), np.uint8), np.zeros((side, side, 3), np.uint8)
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    bad.write_bytes(broken(kind, label))
    with pytest.raises(ValueError, match=f"cannot read the label image {bad}"):
        read_label(str(bad), 11, 11)
    save(good, label)
    bad.write_bytes(broken(kind, image))
    with pytest.raises(ValueError, match=f"cannot read the image {bad}"):
        read_image(bad, "BGR")
    with pytest.raises(ValueError, match=f"cannot read the image {bad}.*SKIP_BAD_IMAGES"):
        mapper("SRSemanticSegmentor")({"file_name": str(bad), "sem_seg_file_name": str(good)})


# Images of all kinds, through the mapper of every task. They are 32 x 32, and none is resized.

TASKS = ("GeneralizedRCNN", "PanopticFPN", "SRSemanticSegmentor", "ImageClassifier")
SIDE = 32
GREY = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE)).astype(np.uint8)
COLORS = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)


def mapper(task, is_train=False, *options):
    sizes = ["INPUT.MIN_SIZE_TEST", 0, "INPUT.RANDOM_FLIP", "none", "MODEL.META_ARCHITECTURE", task]
    if task == "ImageClassifier":
        sizes += ["INPUT.CLASSIFICATION.RESIZE_TEST", SIDE, "INPUT.CLASSIFICATION.SIZE_TEST", SIDE]
    else:
        sizes += ["INPUT.MIN_SIZE_TRAIN", (SIDE,)]
    if task in ("PanopticFPN", "SRSemanticSegmentor"):
        sizes += ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", 11]
    return build_mapper(get_cfg(opts=["INPUT.FORMAT", "RGB", *sizes, *options]), is_train)


def grey(values):
    return np.stack([values] * 3, -1)


def write_kinds(folder):
    """Images by name, with the RGB that they show."""
    pictures = {
        "grey.png": (Image.fromarray(GREY), grey(GREY)),
        "deep.png": (Image.fromarray((GREY.astype(np.uint16) << 8) + 77), grey(GREY)),
        "deep.tiff": (Image.fromarray((GREY.astype(np.uint16) << 8) + 200), grey(GREY)),
        "integers.tiff": (Image.fromarray(GREY.astype(np.int32)), grey(GREY)),
        "float.tiff": (Image.fromarray(GREY + np.float32(0.25)), grey(GREY)),
        "shares.tiff": (Image.fromarray(GREY / np.float32(255)), grey(GREY)),
        "bits.png": (Image.fromarray(GREY > 99), grey(np.where(GREY > 99, 255, 0))),
        "alpha.png": (Image.fromarray(np.dstack([COLORS, GREY])), COLORS),
        "grey_alpha.png": (Image.fromarray(np.dstack([GREY, GREY // 2])), grey(GREY)),
        "cmyk.tiff": (Image.fromarray(COLORS).convert("CMYK"), COLORS),
        "palette.png": (Image.fromarray(GREY // 16).convert("P"), grey(GREY // 16)),
    }
    expected = {}
    for name, (picture, shown) in pictures.items():
        if name == "palette.png":
            picture.putpalette([value for i in range(16) for value in (9 * i, 200 - i, i)])
            index = (GREY // 16).astype(int)
            shown = np.stack([9 * index, 200 - index, index], -1)
        if name == "float.tiff":
            picture = Image.fromarray(np.minimum(GREY + np.float32(0.25), 255))
        picture.save(folder / name)
        expected[name] = shown
    # 16 bits in PGM, which Pillow reads as 32-bit integers.
    deep = (GREY.astype(">u2") << 8).astype(">u2")
    (folder / "deep.pgm").write_bytes(b"P5 32 32 65535\n" + deep.tobytes())
    return {**expected, "deep.pgm": grey(GREY)}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_reads_all_kinds_of_images_alike(tmp_path, task):
    reader = mapper(task)
    for name, shown in write_kinds(tmp_path).items():
        image = reader({"file_name": str(tmp_path / name)})["image"]
        np.testing.assert_array_equal(image.numpy(), shown.transpose(2, 0, 1), err_msg=name)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_task_turns_images_by_their_exif_tag(tmp_path, task, orientation):
    """Where the standard has the first row and column: 0 is the tag's visual top left."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "i.png", COLORS, exif=exif)
    image = mapper(task)({"file_name": path})["image"].numpy().transpose(1, 2, 0)
    shown = {
        1: COLORS,
        2: COLORS[:, ::-1],
        3: COLORS[::-1, ::-1],
        4: COLORS[::-1],
        5: COLORS.swapaxes(0, 1),
        6: COLORS.swapaxes(0, 1)[:, ::-1],
        7: COLORS.swapaxes(0, 1)[::-1, ::-1],
        8: COLORS.swapaxes(0, 1)[::-1],
    }[orientation]
    np.testing.assert_array_equal(image, shown)


def test_a_damaged_exif_tag_turns_nothing(tmp_path):
    path = save(tmp_path / "i.jpg", COLORS, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert read_rgb(path).size == (SIDE, SIDE)


def write_unreadable(folder):
    """Files that are no whole image, with a part of what is said of them."""
    noise = np.random.default_rng(2).random((SIDE, SIDE)).astype(np.float32)
    values = {"nan.tiff": noise * np.float32("nan"), "negative.tiff": noise - 0.5}
    values |= {"large.tiff": noise * 4000, "integers.tiff": (noise * 40000).astype(np.int32)}
    for name, content in values.items():
        save(folder / name, content)
    file = io.BytesIO()
    Image.fromarray(COLORS).save(file, "JPEG")
    (folder / "cut.jpg").write_bytes(file.getvalue()[:-200])
    (folder / "empty.png").touch()
    (folder / "page.jpg").write_text("<html>404</html>")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    said = dict.fromkeys(("nan.tiff", "negative.tiff", "large.tiff"), "floating-point numbers")
    said |= {"integers.tiff": "32-bit integers", "cut.jpg": "truncated", "page.jpg": "no image"}
    said |= dict.fromkeys(("folder.png", "pipe.png"), "not a regular file")
    return {**said, "empty.png": "empty", "missing.png": "No such file"}


@pytest.mark.parametrize("is_train", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_every_task_names_what_it_cannot_read_or_skips_it(tmp_path, task, is_train, caplog):
    skipping = mapper(task, is_train, "DATALOADER.SKIP_BAD_IMAGES", True)
    refusing = mapper(task, is_train)
    for count, (name, said) in enumerate(write_unreadable(tmp_path).items(), start=1):
        record = {"file_name": str(tmp_path / name)}
        with pytest.raises(UnreadableImageError, match=f"{name}.*{said}.*SKIP_BAD_IMAGES True"):
            refusing(record)
        assert skipping(record) is None and skipping.skipped == count
        assert f"{name}, number {count} in this process" in caplog.text


def test_a_decompression_bomb_is_named(tmp_path, monkeypatch):
    path = save(tmp_path / "bomb.png", COLORS)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UnreadableImageError, match=r"bomb\.png.*exceeds limit"):
        mapper("GeneralizedRCNN")({"file_name": path})


# Labels beside images.

LABELLED = ("PanopticFPN", "SRSemanticSegmentor")


@pytest.mark.parametrize("is_train", [False, True])
@pytest.mark.parametrize("task", LABELLED)
def test_a_label_of_another_size_is_refused_before_the_image_is_used(tmp_path, task, is_train):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = save(tmp_path / "turned.jpg", COLORS[:20], exif=exif)
    label = save(tmp_path / "label.png", np.zeros((20, SIDE), np.uint8))
    half = save(tmp_path / "half.png", np.zeros((10, SIDE // 2), np.uint8))
    reader = mapper(task, is_train)
    with pytest.raises(ValueError) as error:
        reader({"file_name": turned, "sem_seg_file_name": label})
    assert f"{turned} is 20 x 32 pixels, its label {label} 32 x 20: does the image's EXIF" in str(
        error.value
    )
    flat = save(tmp_path / "flat.png", COLORS[:20])
    with pytest.raises(ValueError, match=f"{flat} is 32 x 20 pixels, its label {half} 16 x 10$"):
        reader({"file_name": flat, "sem_seg_file_name": half})
    assert reader({"file_name": flat, "sem_seg_file_name": label})["image"].shape[0] == 3


@pytest.mark.parametrize("task", LABELLED)
def test_training_checks_the_labels_of_every_task(tmp_path, task):
    image = save(tmp_path / "i.png", COLORS)
    label = np.zeros((SIDE, SIDE), np.uint8)
    label[3] = 200
    path = save(tmp_path / "l.png", label)
    record = {"file_name": image, "sem_seg_file_name": path}
    with pytest.raises(ValueError, match=f"{path} has the label 200; 11 classes have"):
        mapper(task, True)(record)
    ignoring = mapper(task, True, "MODEL.SEM_SEG_HEAD.IGNORE_VALUE", 200)(record)
    np.testing.assert_array_equal(ignoring["sem_seg"].numpy(), label)
    with pytest.raises(ValueError, match=f"{image} is a RGB image where one channel of class"):
        mapper(task, True)({"file_name": image, "sem_seg_file_name": image})
