"""From a dataset's official release to the layout that srnet.data reads: one file a dataset.

Each has ``add_arguments(parser)`` and ``prepare(arguments)``. ``srnet prepare NAME`` and
``datasets/prepare_NAME.py`` run them.
"""

NAMES = ("ade20k", "camvid", "camvid_coco", "cityscapes", "pascal_context", "scenes")
