"""ADE20K with the 150 classes of the scene parsing challenge (Zhou et al., CVPR 2017)."""

import os
from functools import partial

from detectron2.data import DatasetCatalog

from .semantic_folders import load_semantic_folders

FOLDER = "ADEChallengeData2016"
NUM_CLASSES = 150
VOID = 255
# Split -> its folder in the release, and its number of images.
SPLITS = {"train": ("training", 20210), "val": ("validation", 2000)}
PREPARE = "srnet prepare ade20k"


def register_all_ade20k(root: str) -> None:
    """Let Detectron2's `ade20k_sem_seg_{train,val}` say what is missing and how it is made."""
    for split, (folder, count) in SPLITS.items():
        name = f"ade20k_sem_seg_{split}"
        load = partial(
            load_semantic_folders,
            os.path.join(root, FOLDER, "images", folder),
            os.path.join(root, FOLDER, "annotations_detectron2", folder),
            prepare=PREPARE,
            expected=count,
        )
        DatasetCatalog.remove(name)
        DatasetCatalog.register(name, load)
