"""Files in COCO's instance format: what is completed, and what is refused with all findings."""

import copy
import json

import numpy as np
import pytest
from coco_trees import link_tinycoco
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json, register_coco_instances
from pycocotools import mask as mask_api
from srnet import get_cfg
from srnet.data.records import load_dataset, load_records
from srnet.data.validate import read_coco
from srnet.evaluation import build_evaluator

NAME = "coco_json_test"
SQUARE = [20.0, 20.0, 60.0, 20.0, 60.0, 50.0, 20.0, 50.0]
TRIANGLE = [10.0, 5.0, 30.0, 5.0, 10.0, 25.0]
REMOVE = object()


def content():
    shared = {"image_id": 7, "category_id": 1, "iscrowd": 0}
    crowd = {"size": [96, 128], "counts": [0, 100, 96 * 128 - 100]}
    return {
        "images": [
            {"id": 7, "file_name": "a.jpg", "height": 96, "width": 128},
            {"id": 9, "file_name": "b.jpg", "height": 96, "width": 128},
        ],
        "annotations": [
            {"id": 1, "bbox": [20, 20, 40, 30], "area": 1200, "segmentation": [SQUARE], **shared},
            {"id": 2, "bbox": [10, 5, 20, 20], "area": 200, "segmentation": [TRIANGLE], **shared},
            {"id": 3, "bbox": [0, 0, 2, 96], "area": 100, **shared, "segmentation": crowd},
        ],
        "categories": [{"id": 1, "name": "box"}, {"id": 4, "name": "ring"}],
    }


def write(folder, value):
    path = folder / "instances.json"
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return path


def changed(part, index, key, value):
    """The content with one key of one item set, or removed."""
    made = content()
    if value is REMOVE:
        del made[part][index][key]
    else:
        made[part][index][key] = value
    return made


def test_a_right_file_is_left_as_it_is(tmp_path):
    assert read_coco(write(tmp_path, content()), masks=True) == content()


@pytest.mark.parametrize("value", [REMOVE, None])
@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("key", ["iscrowd", "area", "bbox"])
def test_what_has_one_meaning_is_filled_in(tmp_path, key, index, value):
    path = write(tmp_path, changed("annotations", index, key, value))
    found = read_coco(path, masks=True)["annotations"][index]
    annotation = content()["annotations"][index]
    if key == "iscrowd":
        assert found == annotation
        return
    # Against NumPy's count of the pixels that pycocotools draws.
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, list):
        mask = mask_api.decode(mask_api.frPyObjects(segmentation, 96, 128))[..., 0]
    else:
        mask = np.arange(96 * 128).reshape(128, 96).T < 100
    rows, columns = np.nonzero(mask)
    if key == "area":
        assert found["area"] == len(rows)
    else:
        x, y = columns.min(), rows.min()
        box = [x, y, columns.max() - x + 1, rows.max() - y + 1]
        np.testing.assert_allclose(found["bbox"], box, atol=1)


def test_without_a_mask_the_area_is_that_of_the_box(tmp_path):
    made = changed("annotations", 0, "segmentation", REMOVE)
    del made["annotations"][0]["area"]
    assert read_coco(write(tmp_path, made))["annotations"][0]["area"] == 1200
    with pytest.raises(
        ValueError, match=r"annotation 1 of the image a.jpg \(id 7\) has segm.*MASK_ON"
    ):
        read_coco(write(tmp_path, made), masks=True)


RLE = {"size": [96, 128], "counts": "abc"}
WRONG = [
    ("categories", 0, "id", "1", "a category has id '1', not a whole number"),
    ("categories", 0, "id", REMOVE, "a category has id None"),
    ("categories", 1, "id", 1, "2 categories have the id 1"),
    ("categories", 1, "name", "box", "2 categories have the name 'box'"),
    ("categories", 1, "name", None, "the category 4 has name None"),
    ("images", 0, "id", "7", "the image 'a.jpg' has id '7', not a whole number"),
    ("images", 1, "id", 7, "2 images have the id 7"),
    ("images", 0, "file_name", 7, "the image with id 7 has file_name 7, not a name"),
    ("images", 0, "height", REMOVE, r"'a.jpg' \(id 7\) has height None, not a number of pixels"),
    ("images", 0, "width", None, r"'a.jpg' \(id 7\) has width None"),
    ("images", 0, "width", -3, r"'a.jpg' \(id 7\) has width -3"),
    ("annotations", 1, "id", "2", "annotation '2' .* has id '2', not a whole number"),
    ("annotations", 1, "id", REMOVE, "annotation None .* has id None"),
    ("annotations", 1, "id", 1, "2 annotations have the id 1"),
    ("annotations", 1, "image_id", 8, "annotation 2 has image_id 8, which is not among"),
    ("annotations", 1, "image_id", "7", "annotation 2 has image_id '7'"),
    ("annotations", 1, "image_id", REMOVE, "annotation 2 has image_id None"),
    ("annotations", 1, "image_id", [7], r"annotation 2 has image_id \[7\]"),
    ("annotations", 1, "category_id", 2, "has category_id 2, which is not among the file's cat"),
    ("annotations", 1, "category_id", REMOVE, "has category_id None"),
    ("annotations", 1, "iscrowd", 2, "has iscrowd 2, not 0 or 1"),
    ("annotations", 1, "iscrowd", "no", "has iscrowd 'no'"),
    ("annotations", 1, "area", "200", "has area '200', not a number of pixels"),
    ("annotations", 1, "area", -1, "has area -1"),
    ("annotations", 1, "bbox", ["1", "2", "3", "4"], "has bbox .*not the four numbers"),
    ("annotations", 1, "bbox", [1, 2, 3], "has bbox .*not the four numbers"),
    ("annotations", 1, "bbox", [], "has bbox .*not the four numbers"),
    ("annotations", 1, "bbox", [1, float("nan"), 3, 4], "has bbox .*not the four numbers"),
    ("annotations", 1, "bbox", [1, 2, float("inf"), 4], "has bbox .*not the four numbers"),
    ("annotations", 1, "bbox", [10, 5, -20, 20], "has bbox .*width or height is negative"),
    ("annotations", 1, "bbox", [-10, 5, 20, 20], "has bbox .*beyond the image's 128 x 96 pixels"),
    ("annotations", 1, "bbox", [100, 5, 200, 20], "has bbox .*beyond the image's"),
    ("annotations", 1, "segmentation", TRIANGLE, r"has segmentation .*not a list of polygons"),
    ("annotations", 1, "segmentation", [["a"] * 6], "has a polygon .*not a number"),
    ("annotations", 1, "segmentation", [[float("nan")] * 6], "has a polygon .*not a number"),
    ("annotations", 1, "segmentation", "mask.png", "neither polygons nor an RLE"),
    ("annotations", 1, "segmentation", [], "MODEL.MASK_ON needs the masks"),
    ("annotations", 1, "segmentation", None, "MODEL.MASK_ON needs the masks"),
    ("annotations", 2, "segmentation", {"size": [128, 96], "counts": [1]}, "an RLE of the size"),
    ("annotations", 2, "segmentation", {"size": [96, 128], "counts": [5, 7]}, "RLE whose counts"),
    ("annotations", 2, "segmentation", RLE, "an RLE whose counts are invalid"),
]


@pytest.mark.parametrize("part, index, key, value, message", WRONG)
def test_the_rest_is_refused_with_file_id_key_and_value(tmp_path, part, index, key, value, message):
    path = write(tmp_path, changed(part, index, key, value))
    with pytest.raises(ValueError, match=message) as error:
        read_coco(path, masks=True)
    assert str(error.value).startswith(f"{path}: ")


def test_all_findings_come_at_once(tmp_path):
    made = content()
    made["annotations"][0]["category_id"] = 3
    made["annotations"][1]["bbox"] = None
    made["annotations"][1]["segmentation"] = None
    made["annotations"][2]["iscrowd"] = 5
    with pytest.raises(ValueError) as error:
        read_coco(write(tmp_path, made))
    lines = str(error.value).splitlines()
    assert lines[0].endswith("instances.json: 3 errors:") and len(lines) == 4
    made["annotations"] = [{"id": i} for i in range(50)]
    with pytest.raises(ValueError, match=r"100 errors:[^$]*and 80 more$"):
        read_coco(write(tmp_path, made))


@pytest.mark.parametrize(
    "value, message",
    [
        (b"", "is not JSON, or cut off"),
        (b"\xef\xbb\xbf" + json.dumps(content()).encode(), "begins with a byte order mark"),
        (json.dumps(content()).encode()[:-40], "is not JSON, or cut off"),
        (b"<html>404</html>", "is not JSON.*begins with '<html>"),
        (json.dumps(content()).encode("utf-16"), "is not JSON"),
        ([1, 2], "it is a list, not an object .*form of results"),
        ({"images": content()["images"]}, "2 errors:\n  it has no annotations\n  it has no categ"),
        ({**content(), "images": {}}, "images is a dict, not a list"),
        ({**content(), "images": [1]}, "images holds something that is not an object"),
        ({**content(), "categories": []}, "categories is empty"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, value, message):
    with pytest.raises(ValueError, match=message):
        read_coco(write(tmp_path, value))


def test_ids_of_cocos_minival_may_be_there_twice(tmp_path):
    path = write(tmp_path, changed("annotations", 1, "id", 1))
    with pytest.raises(ValueError, match="2 annotations have the id 1"):
        read_coco(path)
    read_coco(path.rename(tmp_path / "instances_minival2014.json"))


def test_test_sets_have_no_annotations(tmp_path):
    made = content()
    del made["annotations"]
    assert read_coco(write(tmp_path, made), labelled=False) == made


@pytest.fixture
def registered(tmp_path):
    def register(value, name=NAME, **metadata):
        register_coco_instances(name, metadata, str(write(tmp_path, value)), str(tmp_path))
        return name

    yield register
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def test_the_records_are_detectron2s(registered, tmp_path):
    made = content()
    made["annotations"].append(copy.deepcopy(made["annotations"][0]))
    made["annotations"][-1].update(id=4, image_id=9, category_id=4)
    made["annotations"][0]["keypoints"] = [3, 4, 2, 5, 6, 1]
    registered(made)
    expected = load_coco_json(str(tmp_path / "instances.json"), str(tmp_path), "another_name")
    assert load_dataset(NAME) == expected
    metadata = MetadataCatalog.get(NAME)
    assert metadata.thing_classes == ["box", "ring"]
    assert metadata.thing_dataset_id_to_contiguous_id == {1: 0, 4: 1}
    MetadataCatalog.remove("another_name")


@pytest.mark.data
def test_the_records_of_real_coco_are_detectron2s(data_root, tmp_path):
    coco = link_tinycoco(data_root, tmp_path) / "coco"
    for split in ("train2017", "val2017"):
        paths = str(coco / f"annotations/instances_{split}.json"), str(coco / split)
        register_coco_instances(NAME, {}, *paths)
        try:
            assert load_dataset(NAME, masks=True) == load_coco_json(*paths, "another_name")
        finally:
            DatasetCatalog.remove(NAME)
            MetadataCatalog.remove(NAME)
    MetadataCatalog.remove("another_name")


def test_own_categories_under_a_registered_name(registered):
    registered(content(), thing_classes=["person", "bicycle", "car"])
    message = f"has 2 categories, and the dataset {NAME} is registered with 3; they differ in box"
    with pytest.raises(ValueError, match=message):
        load_dataset(NAME)


def test_other_ids_under_a_registered_name(registered):
    mapping = {"thing_dataset_id_to_contiguous_id": {1: 0, 2: 1}}
    registered(content(), thing_classes=["box", "ring"], **mapping)
    with pytest.raises(ValueError, match="the id 2 is the class None there and 1 here"):
        load_dataset(NAME)


def test_crowds_alone_cannot_be_trained_on(registered):
    made = content()
    made["annotations"] = made["annotations"][2:]
    made["annotations"][0]["iscrowd"] = 1
    registered(made)
    cfg = get_cfg(opts=["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"])
    with pytest.raises(ValueError, match=r"none of the 2 images .*FILTER_EMPTY_ANNOTATIONS"):
        load_records(cfg, [NAME], is_train=True)
    assert len(load_records(cfg, [NAME], is_train=False)) == 2


@pytest.mark.parametrize("key", ["iscrowd", "area", "bbox"])
def test_an_evaluation_gets_what_is_filled_in(registered, tmp_path, key):
    """pycocotools ends in KeyError without these, after all inference."""
    made = content()
    for annotation in made["annotations"]:
        annotation.pop(key)
    registered(made)
    cfg = get_cfg(opts=["MODEL.MASK_ON", True])
    evaluator = build_evaluator(cfg, NAME, str(tmp_path / "out"))
    load_dataset(NAME)
    evaluator.reset()
    found = [
        {
            "image_id": 7,
            "instances": [
                {
                    "image_id": 7,
                    "category_id": 0,
                    "bbox": [20, 20, 40, 30],
                    "score": 1.0,
                    "segmentation": rle(SQUARE),
                }
            ],
        }
    ]
    evaluator._predictions = found
    results = evaluator.evaluate()
    assert results["bbox"]["AP"] > 0 and results["segm"]["AP"] > 0


def rle(polygon):
    encoded = mask_api.frPyObjects([polygon], 96, 128)[0]
    return {**encoded, "counts": encoded["counts"].decode()}


def test_an_evaluation_refuses_a_wrong_file_before_it_begins(registered, tmp_path):
    registered(changed("annotations", 0, "image_id", REMOVE))
    with pytest.raises(ValueError, match="annotation 1 has image_id None"):
        build_evaluator(get_cfg(), NAME, str(tmp_path / "out"))
