"""Predictions as Cityscapes wants them: images of label ids, one for each image, checked."""

import os
import zipfile
from collections.abc import Sequence

import numpy as np
import torch
from detectron2.evaluation import DatasetEvaluator
from PIL import Image

from srnet.data.datasets.cityscapes import IMAGE_SUFFIX
from srnet.data.datasets.semantic_folders import list_files
from srnet.data.paths import inside, written_to
from srnet.data.read import decode, stored_size
from srnet.extras import require_extra

from .class_map import class_map

PREDICTION_SUFFIX = "_pred_labelIds.png"
NUM_CLASSES = 19


def label_ids() -> np.ndarray:
    """The label id of each train id, (19,) of uint8. Other label ids are never predicted."""
    require_extra("cityscapesscripts", "writing Cityscapes' label ids")
    from cityscapesscripts.helpers.labels import trainId2label

    return np.array([trainId2label[i].id for i in range(NUM_CLASSES)], np.uint8)


def evaluated_ids() -> list[int]:
    """The label ids that the official evaluation counts, sorted."""
    require_extra("cityscapesscripts", "checking Cityscapes' label ids")
    from cityscapesscripts.helpers.labels import labels

    return sorted(label.id for label in labels if not label.ignoreInEval)


def write_label_ids(sem_seg: torch.Tensor, file_name: str, folder: str) -> str:
    """Write a prediction as an image of label ids.

    Args:
        sem_seg: (19, H, W) logits or probabilities.
        file_name: the image predicted, `CITY_123456_123456_leftImg8bit.png`.
        folder: where to write.

    Returns:
        The path of what was written, `CITY_123456_123456_pred_labelIds.png`.
    """
    name = os.path.basename(file_name).removesuffix(IMAGE_SUFFIX) + PREDICTION_SUFFIX
    path = str(inside(folder, name))
    label = label_ids()[class_map(sem_seg)]
    with written_to(path):
        Image.fromarray(label).save(path, format="PNG")
    return path


class LabelIdWriter(DatasetEvaluator):
    """Write each prediction of this process into a folder.

    Args:
        folder: it is made if it is missing.
    """

    def __init__(self, folder: str):
        self.folder = folder

    def reset(self) -> None:
        """Make the folder."""
        os.makedirs(self.folder, exist_ok=True)

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Write the predictions of a batch."""
        for image, output in zip(inputs, outputs, strict=True):
            write_label_ids(output["sem_seg"], image["file_name"], self.folder)


def check_predictions(folder: str, images: Sequence[str]) -> list[str]:
    """Check that a folder holds one whole prediction for each image, and nothing else.

    Args:
        folder: PNG files named as their images up to the frame, `CITY_123456_123456*.png`.
        images: paths of the images predicted.

    Returns:
        The paths of the predictions, in the order of `images`.

    Raises:
        FileNotFoundError: the folder or a prediction is missing.
        ValueError: an image has two predictions, a file belongs to no image, or a prediction does
            not decode, has another size than its image, more than one channel, or a label that is
            not evaluated. The message names the file.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"the folder of predictions {folder} is missing")
    found: dict[str, list[str]] = {}
    for name in list_files(folder, ".png"):
        stem = "_".join(name[: -len(".png")].split("_")[:3])
        found.setdefault(stem, []).append(os.path.join(folder, name))
    stems = [os.path.basename(image).removesuffix(IMAGE_SUFFIX) for image in images]
    missing = [stem for stem in stems if stem not in found]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(stems)} predictions are missing in {folder}, the first is "
            f"{missing[0]}*.png"
        )
    foreign = sorted(set(found) - set(stems))
    if foreign:
        raise ValueError(f"{found[foreign[0]][0]} belongs to no image of the split: remove it")
    evaluated = evaluated_ids()
    for stem, image in zip(stems, images, strict=True):
        if len(found[stem]) > 1:
            raise ValueError(f"{image} has two predictions: {' and '.join(found[stem])}")
        _check_prediction(found[stem][0], image, evaluated)
    return [found[stem][0] for stem in stems]


def write_archive(predictions: Sequence[str], archive: str) -> None:
    """Zip predictions, without folders; an interrupted run leaves no archive."""
    partial = f"{archive}.partial"
    os.makedirs(os.path.dirname(os.path.abspath(archive)), exist_ok=True)
    try:
        # PNG is compressed already.
        with written_to(archive), zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as file:
            for path in predictions:
                file.write(path, os.path.basename(path))
        os.replace(partial, archive)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def _check_prediction(path: str, image: str, evaluated: list[int]) -> None:
    size = stored_size(image)
    picture = decode(path, "prediction")
    mode, label = picture.mode, np.asarray(picture)
    if mode != "L":
        raise ValueError(f"{path} is a {mode} image; the test server takes 8-bit label ids")
    if label.shape[::-1] != size:
        raise ValueError(
            f"{path} has {label.shape[1]} x {label.shape[0]} pixels, its image {size[0]} x "
            f"{size[1]}"
        )
    wrong = np.setdiff1d(label, evaluated)
    if wrong.size:
        raise ValueError(
            f"{path} has the label {wrong[0]}, which is not evaluated; the label ids are "
            f"{', '.join(map(str, evaluated))}"
        )
