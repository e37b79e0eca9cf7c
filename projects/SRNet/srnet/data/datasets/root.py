"""Where the datasets are."""

import os


def datasets_root() -> str:
    """The folder of all datasets, as Detectron2 finds it."""
    return os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))
