"""Predictions of the test images of Cityscapes, zipped for the test server."""

import os
import shutil
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.evaluation import inference_on_dataset
from detectron2.utils import comm

from srnet.checkpoint import load_for_evaluation
from srnet.data.datasets.cityscapes import IMAGES
from srnet.evaluation.cityscapes_labels import LabelIdWriter, check_predictions, write_archive
from srnet.modeling import build_model

from .trainer import Trainer


def predict_and_archive(cfg: CfgNode, dataset: str, output: str | os.PathLike | None) -> None:
    """Predict the images of a dataset, in one of the processes; the first checks and zips.

    Args:
        cfg: the config of a semantic model.
        dataset: the name of a registered dataset of Cityscapes.
        output: the archive; None for `OUTPUT_DIR/submission.zip`.

    The predictions are left in `OUTPUT_DIR/submission`.
    """
    folder = os.path.join(cfg.OUTPUT_DIR, "submission")
    if comm.is_main_process():
        # What an earlier run left may be another model's.
        shutil.rmtree(folder, ignore_errors=True)
    comm.synchronize()
    model = build_model(cfg)
    load_for_evaluation(cfg, model)
    loader = Trainer.build_test_loader(cfg, dataset)
    inference_on_dataset(model, loader, LabelIdWriter(folder))
    comm.synchronize()
    if comm.is_main_process():
        archive(folder, dataset, output or os.path.join(cfg.OUTPUT_DIR, "submission.zip"))


def archive(folder: str | os.PathLike, dataset: str, output: str | os.PathLike) -> None:
    """Check predictions in a folder, zip them, and print what the archive holds.

    Args:
        folder: images of label ids, one for each image of the dataset.
        dataset: the name of a registered dataset of Cityscapes.
        output: the archive.

    Raises:
        FileNotFoundError: the folder or a prediction is missing.
        ValueError: a prediction does not fit its image; the message names it.
    """
    images = [record["file_name"] for record in DatasetCatalog.get(dataset)]
    paths = check_predictions(str(folder), images)
    write_archive(paths, str(output))
    size = Path(output).stat().st_size / 2**20
    print(f"{output}: {len(paths)} predictions, {size:.1f} MiB")
    split = dataset.rpartition("_")[2]
    if len(paths) != IMAGES.get(split, len(paths)):
        print(f"The complete split has {IMAGES[split]} images: the test server refuses a part.")
