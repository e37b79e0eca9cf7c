"""Panoptic truth: what is completed, and what is refused before inference begins."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from srnet.data.validate import read_panoptic

REMOVE = object()
METADATA = {
    "thing_dataset_id_to_contiguous_id": {1: 0, 3: 1},
    "stuff_dataset_id_to_contiguous_id": {0: 0, 4: 1, 7: 2},
}


def content():
    images = [{"id": 10 + i, "file_name": f"{i}.jpg", "height": 24, "width": 32} for i in range(2)]
    segments = [
        {"id": 5, "category_id": 4, "iscrowd": 0, "area": 6 * 32},
        {"id": 256 * 256 + 2, "category_id": 1, "iscrowd": 1, "area": 14 * 24},
    ]
    return {
        "images": images,
        "annotations": [
            {
                "image_id": 10 + i,
                "file_name": f"{i}.png",
                "segments_info": [dict(s) for s in segments],
            }
            for i in range(2)
        ],
        "categories": [{"id": i, "name": str(i), "isthing": int(i < 4)} for i in (1, 3, 4, 7)],
    }


def colors():
    """Void, the segment 5 and the segment 65538."""
    picture = np.zeros((24, 32, 3), np.uint8)
    picture[4:10] = (5, 0, 0)
    picture[10:, 8:] = (2, 0, 1)
    return picture


@pytest.fixture
def metadata(tmp_path):
    """Right PNG images beside a JSON file that is to be written."""
    for i in range(2):
        Image.fromarray(colors()).save(tmp_path / f"{i}.png")
    paths = {"panoptic_json": str(tmp_path / "p.json"), "panoptic_root": str(tmp_path)}
    return SimpleNamespace(**paths, **METADATA)


def read(metadata, made):
    with open(metadata.panoptic_json, "w") as file:
        json.dump(made, file)
    return read_panoptic(metadata)


def test_a_right_truth_is_left_as_it_is(metadata):
    assert read(metadata, content()) == content()


@pytest.mark.parametrize("value", [REMOVE, None])
def test_a_missing_iscrowd_is_0(metadata, value):
    made = content()
    segment = made["annotations"][1]["segments_info"][0]
    if value is REMOVE:
        del segment["iscrowd"]
    else:
        segment["iscrowd"] = value
    assert read(metadata, made) == content()


def segment(made):
    return made["annotations"][1]["segments_info"][1]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.pop("categories"), "it has no categories"),
        (lambda c: c["images"][0].update(id="10"), "has id '10', not a whole number"),
        (lambda c: c["images"][0].update(height=None), "has height None"),
        (lambda c: c["categories"].pop(), "lacks categories that .* registered with: 7"),
        (lambda c: c["categories"][0].update(id=9), "4 errors:[^$]*registered without: 9"),
        (lambda c: c["annotations"].pop(), r"1 images have no annotation, .* 1.jpg \(id 11\)"),
        (
            lambda c: c["annotations"].append(c["annotations"][0]),
            "2 annotations have the image_id 10",
        ),
        (lambda c: c["annotations"][1].update(image_id=8), "has image_id 8, which is not among"),
        (lambda c: c["annotations"][1].update(file_name=3), "id 11 has file_name 3, not a name"),
        (lambda c: c["annotations"][1].pop("segments_info"), "no list of objects segments_info"),
        (lambda c: segment(c).update(id="2"), "id 11 has a segment with id '2'"),
        (lambda c: segment(c).update(id=0), "id 11 has a segment with id 0"),
        (lambda c: segment(c).update(id=5), "2 segments have the id 5"),
        (
            lambda c: segment(c).update(category_id=2),
            "id 11 has category_id 2 for the segment 65538",
        ),
        (lambda c: segment(c).update(iscrowd=2), "id 11 has iscrowd 2 for the segment 65538"),
        (lambda c: segment(c).update(id=6), r"1.png, .*draws segments .* lacks: 65538\n.*: 6"),
    ],
)
def test_a_wrong_file_is_refused(metadata, change, message):
    made = content()
    change(made)
    with pytest.raises(ValueError, match=message) as error:
        read(metadata, made)
    assert str(error.value).startswith(f"{metadata.panoptic_json}: ")


@pytest.mark.parametrize(
    "picture, message",
    [
        (Image.fromarray(colors()[..., 0]), "1.png, of the image with id 11, is a L image"),
        (Image.fromarray(colors()[..., 0]).convert("P"), "is a P image, and ids are colours"),
        (Image.fromarray(colors()[:20]), "has 32 x 20 pixels, and the image 32 x 24"),
        (Image.fromarray(colors() * 0), "lacks segments of segments_info: 5, 65538"),
        (Image.fromarray(colors() + 1), "draws segments that segments_info lacks"),
    ],
)
def test_a_wrong_picture_is_refused(metadata, tmp_path, picture, message):
    picture.save(tmp_path / "1.png")
    with pytest.raises(ValueError, match=message):
        read(metadata, content())


def test_a_damaged_or_missing_picture_is_named(metadata, tmp_path):
    (tmp_path / "1.png").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=f"cannot read the panoptic PNG {tmp_path}/1.png"):
        read(metadata, content())
    (tmp_path / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1.png of the image with id 11 is missing"):
        read(metadata, content())


@pytest.mark.parametrize("value", [REMOVE, None])
def test_areas_and_isthing_are_filled_in(metadata, value):
    made = content()
    for item, key in ((segment(made), "area"), (made["categories"][2], "isthing")):
        if value is REMOVE:
            del item[key]
        else:
            item[key] = value
    assert read(metadata, made) == content()


def test_wrong_areas_and_isthing_are_refused(metadata):
    """With an area that is too small the official tool gives a PQ beyond 100."""
    made = content()
    segment(made)["area"] = 7
    with pytest.raises(ValueError, match="draws 336 pixels of the segment 65538, whose area is 7"):
        read(metadata, made)
    made = content()
    made["categories"][0]["isthing"] = 0
    with pytest.raises(ValueError, match=r"the category 1 has isthing 0, and the .* with 1"):
        read(metadata, made)


def test_processes_share_the_pictures(metadata, tmp_path):
    """Each looks at every second one."""
    (tmp_path / "1.png").write_bytes(b"damaged")
    with open(metadata.panoptic_json, "w") as file:
        json.dump(content(), file)
    assert read_panoptic(metadata, rank=0, world_size=2) == content()
    with pytest.raises(ValueError, match=r"1\.png"):
        read_panoptic(metadata, rank=1, world_size=2)
