"""Pascal Context (Mottaghi et al., CVPR 2014) with its 59 most frequent classes."""

import os
from functools import partial

from detectron2.data import DatasetCatalog, MetadataCatalog

from .semantic_folders import load_semantic_folders

# Name, and label in the 459 classes of the release. The order is that of the release, which is
# alphabetical, and which mmsegmentation has too.
CLASSES = (
    ("aeroplane", 2),
    ("bag", 9),
    ("bed", 18),
    ("bedclothes", 19),
    ("bench", 22),
    ("bicycle", 23),
    ("bird", 25),
    ("boat", 31),
    ("book", 33),
    ("bottle", 34),
    ("building", 44),
    ("bus", 45),
    ("cabinet", 46),
    ("car", 59),
    ("cat", 65),
    ("ceiling", 68),
    ("chair", 72),
    ("cloth", 80),
    ("computer", 85),
    ("cow", 98),
    ("cup", 104),
    ("curtain", 105),
    ("dog", 113),
    ("door", 115),
    ("fence", 144),
    ("floor", 158),
    ("flower", 159),
    ("food", 162),
    ("grass", 187),
    ("ground", 189),
    ("horse", 207),
    ("keyboard", 220),
    ("light", 232),
    ("motorbike", 258),
    ("mountain", 259),
    ("mouse", 260),
    ("person", 284),
    ("plate", 295),
    ("platform", 296),
    ("pottedplant", 308),
    ("road", 324),
    ("rock", 326),
    ("sheep", 347),
    ("shelves", 349),
    ("sidewalk", 354),
    ("sign", 355),
    ("sky", 360),
    ("snow", 366),
    ("sofa", 368),
    ("table", 397),
    ("track", 415),
    ("train", 416),
    ("tree", 420),
    ("truck", 424),
    ("tvmonitor", 427),
    ("wall", 440),
    ("water", 445),
    ("window", 454),
    ("wood", 458),
)
VOID = 255
IMAGES = {"train": 4998, "val": 5105}
FOLDER = "pascal_context"
PREPARE = "srnet prepare pascal-context VOC2010 LABELS"


def register_all_pascal_context(root: str) -> None:
    """Register `pascal_context_sem_seg_{train,val}` under `root`."""
    for split, count in IMAGES.items():
        name = f"pascal_context_sem_seg_{split}"
        load = partial(
            load_semantic_folders,
            os.path.join(root, FOLDER, split),
            os.path.join(root, FOLDER, f"{split}annot"),
            prepare=PREPARE,
            expected=count,
        )
        DatasetCatalog.register(name, load)
        MetadataCatalog.get(name).set(
            stuff_classes=[name for name, _ in CLASSES],
            ignore_label=VOID,
            evaluator_type="sem_seg",
        )
