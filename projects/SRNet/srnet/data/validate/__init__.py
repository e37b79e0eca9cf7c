"""The one check of annotations, before hours of work.

`coco` and `panoptic` check files in COCO's formats, `classes` compares datasets with the model.
"""

from .classes import check_against_datasets, check_categories, check_mask_format
from .coco import read_coco
from .panoptic import read_panoptic

__all__ = [
    "check_against_datasets",
    "check_categories",
    "check_mask_format",
    "read_coco",
    "read_panoptic",
]
