"""COCO folders as Detectron2 expects them: drawn, or from the small samples of real COCO."""

import json
from pathlib import Path

import numpy as np
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from panopticapi.utils import rgb2id
from PIL import Image

SPLITS = ("train", "val")


def link_tinycoco(data_root: Path, base: Path) -> Path:
    """Lay out `tinycoco` as `coco_2017_{train,val}` under `base`; its instances alone."""
    coco = base / "coco"
    coco.mkdir(parents=True)
    (coco / "annotations").symlink_to(data_root / "tinycoco" / "annotations")
    for split in SPLITS:
        images = data_root / "tinycoco" / "images" / f"{split}2017"
        (coco / f"{split}2017").symlink_to(images)
    return base


def draw_coco(base: Path, count: int = 4) -> Path:
    """Lay out both splits of `coco_2017` under `base`: drawn images with two boxes in each."""
    random = np.random.default_rng(0)
    categories = [{"id": c["id"], "name": c["name"]} for c in COCO_CATEGORIES if c["isthing"]]
    (base / "coco" / "annotations").mkdir(parents=True)
    for split in SPLITS:
        folder = base / "coco" / f"{split}2017"
        folder.mkdir()
        images, annotations = [], []
        for image_id in range(1, count + 1):
            pixels = random.integers(0, 60, (96, 128, 3), np.uint8)
            for side, (x, y) in enumerate(random.integers(4, 30, (2, 2)).tolist()):
                x, width, height = x + 64 * side, 24, 40
                pixels[y : y + height, x : x + width] = random.integers(120, 255, 3)
                outline = [x, y, x + width, y, x + width, y + height, x, y + height]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": categories[side]["id"],
                        "bbox": [x, y, width, height],
                        "area": width * height,
                        "segmentation": [outline],
                        "iscrowd": 0,
                    }
                )
            name = f"{image_id:012d}.jpg"
            Image.fromarray(pixels).save(folder / name)
            images.append({"id": image_id, "file_name": name, "height": 96, "width": 128})
        content = {"images": images, "annotations": annotations, "categories": categories}
        path = base / "coco" / "annotations" / f"instances_{split}2017.json"
        path.write_text(json.dumps(content))
    return base


def make_panoptic_coco(data_root: Path, base: Path) -> Path:
    """Lay out the panoptic sample as both splits of `coco_2017_*_panoptic_separated`."""
    sample, coco = data_root / "coco_panoptic_sample", base / "coco"
    (coco / "annotations").mkdir(parents=True)
    panoptic = json.loads((sample / "panoptic_examples.json").read_text())
    instances = json.loads((sample / "panoptic_coco_detection_format.json").read_text())
    things = [c for c in panoptic["categories"] if c["isthing"]]
    stuff = [c["id"] for c in panoptic["categories"] if not c["isthing"]]
    ids = {c["id"] for c in things}
    instances["categories"] = things
    instances["annotations"] = [a for a in instances["annotations"] if a["category_id"] in ids]
    targets = {c["id"]: 0 for c in things} | {c: i for i, c in enumerate(stuff, start=1)}
    for split in SPLITS:
        folder = coco / "annotations"
        (folder / f"panoptic_{split}2017.json").write_text(json.dumps(panoptic))
        (folder / f"instances_{split}2017.json").write_text(json.dumps(instances))
        (coco / f"{split}2017").symlink_to(sample / "input_images")
        (coco / f"panoptic_{split}2017").symlink_to(sample / "panoptic_examples")
        labels = coco / f"panoptic_stuff_{split}2017"
        labels.mkdir()
        for annotation in panoptic["annotations"]:
            with Image.open(sample / "panoptic_examples" / annotation["file_name"]) as image:
                segments = rgb2id(np.asarray(image))
            label = np.full(segments.shape, 255, np.uint8)
            for segment in annotation["segments_info"]:
                label[segments == segment["id"]] = targets[segment["category_id"]]
            Image.fromarray(label).save(labels / annotation["file_name"])
    return base
