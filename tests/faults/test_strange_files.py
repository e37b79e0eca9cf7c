"""Files that are none, or that unpack to much more than they are: every reader names them."""

import functools
import gzip
import json
import os
import socket
import struct
import zipfile
import zlib

import numpy as np
import pytest
from bad_inputs import Error, attempt
from detectron2.data import Metadata
from PIL import Image
from srnet.checkpoint.convert import convert
from srnet.checkpoint.files import read_file
from srnet.data.prepare import ade20k, pascal_context
from srnet.data.prepare.conversion import Conversion, check
from srnet.data.read import read_image, read_label, read_rgb
from srnet.data.validate import read_coco, read_panoptic
from srnet.evaluation.cityscapes_labels import _check_prediction
from srnet.evaluation.compare import read
from srnet.evaluation.metrics_table import read_metrics

pytestmark = pytest.mark.fault("strangers: pipes, devices, bombs")
SIDE = 50_000


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as s:
        place = os.getcwd()
        os.chdir(path.parent)  # its name may be short only
        s.bind(path.name)
        os.chdir(place)


@functools.cache
def png_content():
    """A black image of 50000 x 50000 pixels in a third of a megabyte."""

    def chunk(name, data):
        crc = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)

    packer = zlib.compressobj(9)
    line = bytes(1 + SIDE // 8)
    data = b"".join(packer.compress(line) for _ in range(SIDE)) + packer.flush()
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 1, 0, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def png_bomb(path):
    path.write_bytes(png_content())


def zip_bomb(path):
    """A file as torch.save makes it, with many zeros that are compressed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        with archive.open("archive/data/0", "w") as f:
            for _ in range(8):
                f.write(bytes(2**24))


def gzip_bomb(path):
    with gzip.open(path, "wb") as f:
        f.write(bytes(2**24))


def mat_bomb(path):
    """A variable whose header claims 200000 x 200000 numbers."""
    from scipy.io import savemat

    savemat(path, {"LabelMap": np.zeros((7, 9), np.uint16)})
    content = path.read_bytes()
    size = struct.pack("<ii", 7, 9)
    assert content.count(size) == 1
    path.write_bytes(content.replace(size, struct.pack("<ii", 200_000, 200_000)))


def deep(path):
    path.write_text("[" * 10**6)


def huge_rle(path):
    """An RLE of 200000 x 200000, as its image has, too."""
    size = {"height": 200_000, "width": 200_000}
    rle = {"size": [200_000, 200_000], "counts": [0, 4 * 10**10]}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 1, "segmentation": rle}
    content = {"images": [{"id": 1, "file_name": "a.jpg", **size}], "annotations": [annotation]}
    content["categories"] = [{"id": 1, "name": "car"}]
    path.write_text(json.dumps(content))


NO_FILES = {
    "a pipe": os.mkfifo,
    "a socket": make_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
}


def small_image(path):
    image = path.with_name("image.png")
    Image.new("L", (8, 6)).save(image)
    return image


def panoptic(path):
    names = ("thing_dataset_id_to_contiguous_id", "stuff_dataset_id_to_contiguous_id")
    mapping = {name: {1: 0} for name in names}
    return read_panoptic(Metadata(panoptic_json=str(path), panoptic_root=str(path), **mapping))


IMAGES = {
    "an image": lambda path: read_image(path, "BGR"),
    "an image of a classifier": read_rgb,
    "a label": lambda path: read_label(path, 5, 255),
    "an image to prepare": lambda path: check(
        Conversion(path, path, small_image(path)), num_classes=5, void=255
    ),
    "a label of ADE20K": ade20k.shift,
    "a prediction": lambda path: _check_prediction(str(path), str(small_image(path)), [0]),
    "the image of a prediction": lambda path: _check_prediction(
        str(small_image(path)), str(path), [0]
    ),
}
JSON = {
    "annotations": read_coco,
    "panoptic annotations": panoptic,
    "results": lambda path: read(path, None),
    "metrics": read_metrics,
}
CHECKPOINTS = {
    "a checkpoint": read_file,
    "weights to convert": lambda path: convert("resnet", path, path.with_name("out.pth")),
}
BOMBS = {
    "an image bomb": (png_bomb, IMAGES),
    "a zip bomb": (zip_bomb, CHECKPOINTS),
    "a gzip bomb": (gzip_bomb, {**CHECKPOINTS, **JSON}),
    "endless brackets": (deep, JSON),
    "a huge RLE": (huge_rle, {"annotations": read_coco, "panoptic annotations": panoptic}),
}
READERS = {**IMAGES, **JSON, **CHECKPOINTS, "a label of Pascal Context": pascal_context.read_mat}
CASES = {f"{r}: {k}": (READERS[r], NO_FILES[k]) for r in READERS for k in NO_FILES}
CASES |= {f"{r}: {k}": (READERS[r], make) for k, (make, readers) in BOMBS.items() for r in readers}
CASES["a label of Pascal Context: a bomb"] = (pascal_context.read_mat, mat_bomb)
SUFFIX = {**dict.fromkeys(IMAGES, ".png"), **dict.fromkeys(JSON, ".json")}


@pytest.mark.parametrize("name", CASES)
def test_it_is_named(tmp_path, tried, name):
    tried(name)
    if "Pascal" in name:
        pytest.importorskip("scipy")
    reader, make = CASES[name]
    path = tmp_path / f"strange{SUFFIX.get(name.partition(':')[0], '.pth')}"
    small_image(path)
    make(path)
    found = attempt(lambda: reader(path), tmp_path, str(path))
    assert isinstance(found, Error), f"it was read: {found!r}"
