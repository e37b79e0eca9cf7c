"""CamVid (Brostow et al., 2009) with the 11 classes of SegNet, in both resolutions in use."""

import os
from functools import partial

from detectron2.data import DatasetCatalog, MetadataCatalog

from .panoptic_folders import register_instances_and_panoptic
from .semantic_folders import load_semantic_folders

CLASSES = (
    ("Sky", (128, 128, 128)),
    ("Building", (128, 0, 0)),
    ("Pole", (192, 192, 128)),
    ("Road", (128, 64, 128)),
    ("Pavement", (60, 40, 222)),
    ("Tree", (128, 128, 0)),
    ("SignSymbol", (192, 128, 128)),
    ("Fence", (64, 64, 128)),
    ("Car", (64, 0, 128)),
    ("Pedestrian", (64, 64, 0)),
    ("Bicyclist", (0, 128, 192)),
)
VOID = 11
# CamVid labels no instances: `srnet prepare camvid-coco` derives them for these classes.
THINGS = ("SignSymbol", "Car", "Pedestrian", "Bicyclist")
IMAGES = {"train": 367, "val": 101, "test": 233}
# Dataset name -> folder under DETECTRON2_DATASETS, and the argument with which the prepare script
# makes it.
LAYOUTS = {
    "camvid": ("camvid", "srnet prepare camvid segnet SEGNET_CAMVID"),
    "camvid_960x720": ("camvid_960x720", "srnet prepare camvid cambridge CAMVID"),
}


def load_camvid(folder: str, splits: tuple[str, ...], prepare: str) -> list[dict]:
    """List one or several splits (``train``, ``val``, ``test``) of a prepared CamVid folder."""
    return [
        record
        for split in splits
        for record in load_semantic_folders(
            os.path.join(folder, split),
            os.path.join(folder, f"{split}annot"),
            prepare=prepare,
            expected=IMAGES[split],
        )
    ]


def register_all_camvid(root: str) -> None:
    """Register CamVid under `root`.

    `camvid_sem_seg_{train,val,test,trainval}`, the same of `camvid_960x720`, and
    `camvid_{instance,panoptic}_{train,val,test}` in the forms of
    :func:`register_instances_and_panoptic`.
    """
    for name, (folder, prepare) in LAYOUTS.items():
        for split, parts in {**{s: (s,) for s in IMAGES}, "trainval": ("train", "val")}.items():
            dataset = f"{name}_sem_seg_{split}"
            DatasetCatalog.register(
                dataset, partial(load_camvid, os.path.join(root, folder), parts, prepare)
            )
            MetadataCatalog.get(dataset).set(
                stuff_classes=[c for c, _ in CLASSES],
                stuff_colors=[list(color) for _, color in CLASSES],
                ignore_label=VOID,
                evaluator_type="sem_seg",
            )
    folder = os.path.join(root, "camvid_coco")
    classes = [(name, color, name in THINGS) for name, color in CLASSES]
    for split in IMAGES:
        images = os.path.join(root, LAYOUTS["camvid"][0], split)
        targets = os.path.join(folder, f"stuff_{split}")
        prepare = "srnet prepare camvid-coco"
        register_instances_and_panoptic("camvid", split, classes, images, folder, targets, prepare)
