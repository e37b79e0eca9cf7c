"""The drawn street scenes of `srnet prepare scenes`: semantic, instance and panoptic."""

import os
from functools import partial

from detectron2.data import DatasetCatalog, MetadataCatalog

from .panoptic_folders import register_instances_and_panoptic
from .semantic_folders import load_semantic_folders

# Name, color, and whether it is a thing: things first. The semantic label is the place in this
# table, the COCO category id one more.
CLASSES = (
    ("person", (220, 20, 60), True),
    ("car", (0, 0, 142), True),
    ("tree", (107, 142, 35), True),
    ("sign", (220, 220, 0), True),
    ("road", (128, 64, 128), False),
    ("pavement", (244, 35, 232), False),
    ("grass", (152, 251, 152), False),
    ("building", (70, 70, 70), False),
    ("sky", (70, 130, 180), False),
)
NUM_THINGS = sum(isthing for _, _, isthing in CLASSES)
VOID = 255
SPLITS = ("train", "val")
PREPARE = "srnet prepare scenes"


def register_all_scenes(root: str) -> None:
    """Register `scenes_{sem_seg,instance,panoptic}_{train,val}` under `root`."""
    folder = os.path.join(root, "scenes")
    for split in SPLITS:
        images = os.path.join(folder, "images", split)
        labels = os.path.join(folder, "labels", split)
        name = f"scenes_sem_seg_{split}"
        load = partial(load_semantic_folders, images, labels, prepare=PREPARE)
        DatasetCatalog.register(name, load)
        MetadataCatalog.get(name).set(
            stuff_classes=[name for name, _, _ in CLASSES],
            stuff_colors=[list(color) for _, color, _ in CLASSES],
            ignore_label=VOID,
            evaluator_type="sem_seg",
        )
        targets = os.path.join(folder, f"panoptic_stuff_{split}")
        register_instances_and_panoptic("scenes", split, CLASSES, images, folder, targets, PREPARE)
