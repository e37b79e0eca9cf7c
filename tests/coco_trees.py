"""COCO folders as Detectron2 expects them: drawn, or from the small samples of real COCO."""

import json
from pathlib import Path

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from detectron2.structures import Boxes, Instances
from panopticapi.utils import rgb2id
from PIL import Image
from pycocotools.coco import COCO

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


class Truth:
    """What a model that makes no mistake predicts for the images of a dataset.

    Args:
        name: a registered dataset with `json_file`, and `panoptic_json` for a panoptic truth.
    """

    def __init__(self, name: str):
        self.metadata = MetadataCatalog.get(name)
        self.api = COCO(self.metadata.json_file)
        self.segments = {}
        if self.metadata.get("panoptic_json"):
            content = json.loads(Path(self.metadata.panoptic_json).read_text())
            self.segments = {a["image_id"]: a for a in content["annotations"]}

    def __call__(self, inputs: list[dict]) -> list[dict]:
        return [self.predict(record) for record in inputs]

    def predict(self, record: dict) -> dict:
        """The outputs for one image."""
        outputs = {"instances": self.instances(record)}
        if self.segments:
            segments, info = self.panoptic(record)
            outputs["panoptic_seg"] = segments, info
            stuff = torch.zeros_like(segments)
            for segment in info:
                if not segment["isthing"]:
                    stuff[segments == segment["id"]] = segment["category_id"]
            count = len(self.metadata.stuff_classes)
            outputs["sem_seg"] = torch.eye(count)[stuff].permute(2, 0, 1)
        return outputs

    def instances(self, record: dict) -> Instances:
        """Boxes and masks, each with the score 1."""
        annotations = self.api.loadAnns(self.api.getAnnIds(imgIds=record["image_id"]))
        boxes = torch.tensor([a["bbox"] for a in annotations]).float().reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        size = record["height"], record["width"]
        found = Instances(size, pred_boxes=Boxes(boxes), scores=torch.ones(len(boxes)))
        contiguous = self.metadata.thing_dataset_id_to_contiguous_id
        found.pred_classes = torch.tensor([contiguous[a["category_id"]] for a in annotations])
        masks = [self.api.annToMask(a) for a in annotations]
        found.pred_masks = torch.from_numpy(np.stack(masks)).bool()
        return found

    def panoptic(self, record: dict) -> tuple[torch.Tensor, list[dict]]:
        """The segments (H, W) of an image, and what they are."""
        annotation, info = self.segments[record["image_id"]], []
        with Image.open(Path(self.metadata.panoptic_root) / annotation["file_name"]) as image:
            segments = torch.from_numpy(rgb2id(np.asarray(image)).astype(np.int64))
        things = self.metadata.thing_dataset_id_to_contiguous_id
        stuff = self.metadata.stuff_dataset_id_to_contiguous_id
        for segment in annotation["segments_info"]:
            isthing = segment["category_id"] in things
            category = (things if isthing else stuff)[segment["category_id"]]
            info.append({"id": segment["id"], "isthing": isthing, "category_id": category})
        return segments, info


def link_coco_part(data_root: Path, base: Path, count: int) -> Path:
    """Lay out the first images of both splits of `coco_2017` under `base`, with panoptic truth."""
    source, coco = data_root / "coco", base / "coco"
    (coco / "annotations").mkdir(parents=True)
    for split in SPLITS:
        for folder in ("{}2017", "panoptic_{}2017", "panoptic_stuff_{}2017"):
            (coco / folder.format(split)).symlink_to(source / folder.format(split))
        for kind in ("instances", "panoptic"):
            name = f"annotations/{kind}_{split}2017.json"
            content = json.loads((source / name).read_text())
            content["images"] = sorted(content["images"], key=lambda image: image["id"])[:count]
            kept = {image["id"] for image in content["images"]}
            content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
            (coco / name).write_text(json.dumps(content))
    return base
