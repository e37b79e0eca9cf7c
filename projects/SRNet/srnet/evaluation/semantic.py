"""The official semantic evaluators with a table of the classes in the dataset's order.

The order is that of the paper's Tables I and VI for Cityscapes.
"""

import json
import logging
import os
from collections import OrderedDict

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, SemSegEvaluator
from detectron2.utils import comm
from numpy.typing import DTypeLike
from tabulate import tabulate

from srnet.data.paths import inside, written_to
from srnet.data.read import check_label_size, read_label

from .cityscapes_labels import label_ids
from .cityscapes_scores import ImageCounts, OfficialScores
from .class_map import class_map
from .results import Confusion, write_confusion


class SemanticEvaluator(SemSegEvaluator):
    """Detectron2's evaluator, on labels that are checked; it logs and writes the classes' IoU.

    Detectron2's `process` (0.6) encodes the mask of each class of each image, which takes longer
    than all the rest of it, and its `evaluate` gathers them on every process. Here that is done
    where it is asked for.

    Args:
        dataset_name: a registered dataset with the metadata `stuff_classes` and `ignore_label`.
        output_folder: where `DATASET_iou.json`, `DATASET_confusion.json` and Detectron2's files are
            written; None for none.
        write_predictions: whether `sem_seg_predictions.json` is one of them: the masks of all
            classes in COCO's result format.
    """

    _output_dir: str | None

    def __init__(
        self, dataset_name: str, output_folder: str | None = None, write_predictions: bool = False
    ):
        metadata = MetadataCatalog.get(dataset_name)

        def load(path: str, dtype: DTypeLike) -> np.ndarray:
            classes, mapping = len(metadata.stuff_classes), metadata.get("label_mapping")
            return read_label(path, classes, metadata.ignore_label, mapping).astype(dtype)

        super().__init__(dataset_name, output_dir=output_folder, sem_seg_loading_fn=load)
        self._write_predictions = write_predictions

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Count the pixels of a batch.

        Raises:
            ValueError: a prediction has another size than the label of its image.
        """
        for image, output in zip(inputs, outputs, strict=True):
            predicted = class_map(output["sem_seg"])
            path = self.input_file_to_gt_file[image["file_name"]]
            label = self.sem_seg_loading_fn(path, dtype=np.int64)
            check_label_size(image["file_name"], predicted.shape, path, label.shape)
            label[label == self._ignore_label] = self._num_classes
            self._conf_matrix += self._count(predicted, label)
            if self._compute_boundary_iou:
                edges = (self._mask_to_boundary(x.astype(np.uint8)) for x in (predicted, label))
                self._b_conf_matrix += self._count(*edges)
            if self._write_predictions:
                self._predictions += self.encode_json_sem_seg(predicted, image["file_name"])

    def _count(self, predicted: np.ndarray, label: np.ndarray) -> np.ndarray:
        """The pixels of each pair, a row for each prediction; the last of both is for void."""
        pairs = predicted.astype(np.int64) * (self._num_classes + 1) + label
        counts = np.bincount(pairs.ravel(), minlength=self._conf_matrix.size)
        return counts.reshape(self._conf_matrix.shape)

    def evaluate(self) -> dict | None:
        """Return Detectron2's results on the main process, None on the others."""
        folder = self._output_dir
        if not self._write_predictions:
            self._output_dir = None  # or Detectron2 writes an empty list of predictions
        try:
            results = super().evaluate()
        finally:
            self._output_dir = folder
        if results:
            if folder and not self._write_predictions:
                os.makedirs(folder, exist_ok=True)
                path = inside(folder, "sem_seg_evaluation.pth")
                with written_to(path):
                    torch.save(results["sem_seg"], path)
            _report(results["sem_seg"], "mIoU", self._dataset_name, self._output_dir)
            if self._output_dir:
                # Detectron2's has a row for each prediction; the last of both is for void.
                pixels = self._conf_matrix[:-1, :-1].T
                classes = list(self._class_names)
                write_confusion(self._output_dir, Confusion(self._dataset_name, classes, pixels))
        return results


class CityscapesEvaluator(DatasetEvaluator):
    """The evaluation of cityscapesscripts: IoU and iIoU of classes and categories.

    It compares predictions with the `labelIds` beside the dataset's training labels, on any number
    of processes and machines; no environment variable is needed. Nothing of Detectron2's evaluator
    (0.6) is used: that one writes predictions to files and reads them again, in the main process.

    Args:
        dataset_name: a registered dataset whose records have `sem_seg_file_name`.
        output_folder: where `DATASET_iou.json` and `DATASET_confusion.json` are written; None for
            none.
        allow_missing: leave out images without a prediction; they are an error otherwise.

    Raises:
        ValueError: the dataset has no labels.
        FileNotFoundError: `labelIds` or `instanceIds` of an image are missing.
    """

    def __init__(
        self, dataset_name: str, output_folder: str | None = None, allow_missing: bool = False
    ):
        self._allow_missing = allow_missing
        self._dataset_name = dataset_name
        self._output_folder = output_folder
        self._metadata = MetadataCatalog.get(dataset_name)
        records = DatasetCatalog.get(dataset_name)
        if any("sem_seg_file_name" not in record for record in records):
            raise ValueError(
                f"{dataset_name} has no public labels: 'srnet submit cityscapes' writes what the "
                "test server takes"
            )
        self._targets = {
            r["file_name"]: r["sem_seg_file_name"].replace("TrainIds", "Ids") for r in records
        }
        for path in self._targets.values():
            for needed in (path, path.replace("labelIds", "instanceIds")):
                if not os.path.isfile(needed):
                    raise FileNotFoundError(
                        f"{needed} is missing, and the official evaluation needs it: unzip "
                        "gtFine_trainvaltest.zip again"
                    )

    def reset(self) -> None:
        """Forget all counts."""
        self._official = OfficialScores()
        self._counts: dict[str, ImageCounts] = {}

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Count the pixels of a batch.

        Raises:
            ValueError: a prediction has another size than the label of its image, or the label is
                wrong.
        """
        for image, output in zip(inputs, outputs, strict=True):
            name = image["file_name"]
            predicted = label_ids()[class_map(output["sem_seg"])]
            self._counts[name] = self._official.count(predicted, name, self._targets[name])

    def evaluate(self) -> OrderedDict | None:
        """Return the results (%) on the main process, None on the others.

        Returns:
            {"sem_seg": ...} with Detectron2's names, IoU, iIoU, IoU_sup and iIoU_sup (of the
            categories), and `IoU-CLASS`, `iIoU-CLASS`, `IoU_sup-CATEGORY`, `iIoU_sup-CATEGORY`.

        Raises:
            RuntimeError: an image has no prediction.
        """
        gathered = comm.gather(self._counts)
        if not comm.is_main_process():
            return None
        counts = {name: found for part in gathered for name, found in part.items()}
        missing = [name for name in self._targets if name not in counts]
        if missing and not self._allow_missing:
            raise RuntimeError(
                f"{len(missing)} of the {len(self._targets)} images of {self._dataset_name} have "
                f"no prediction, the first is {missing[0]}; the official evaluation takes all"
            )
        found = self._official.scores(counts[name] for name in self._targets if name in counts)
        results: OrderedDict[str, float] = OrderedDict()
        for name, whole, single in (
            ("IoU", "averageScoreClasses", "classScores"),
            ("iIoU", "averageScoreInstClasses", "classInstScores"),
            ("IoU_sup", "averageScoreCategories", "categoryScores"),
            ("iIoU_sup", "averageScoreInstCategories", "categoryInstScores"),
        ):
            results[name] = 100 * found[whole]
            wanted = found[single]
            if "_sup" not in name:
                wanted = {c: wanted[c] for c in self._metadata.stuff_classes}
            # Not a number: what the labels do not have, or has no instances.
            values = {f"{name}-{c}": 100 * v for c, v in wanted.items() if v == v}
            results.update(values)
        _report(results, "IoU", self._dataset_name, self._output_folder)
        if self._output_folder:
            ids = label_ids()
            pixels = np.array(found["confMatrix"], np.int64)[np.ix_(ids, ids)]
            classes = list(self._metadata.stuff_classes)
            write_confusion(self._output_folder, Confusion(self._dataset_name, classes, pixels))
        return OrderedDict(sem_seg=results)


def _report(results: dict, mean: str, dataset_name: str, folder: str | None) -> None:
    """Log the IoU of classes and categories, and write it for `srnet compare`."""
    classes = {c: results.get(f"IoU-{c}") for c in MetadataCatalog.get(dataset_name).stuff_classes}
    rows = [(c, *(results.get(f"{m}-{c}") for m in ("IoU", "iIoU"))) for c in classes]
    rows.append(("mean", results[mean], results.get("iIoU")))
    categories = [name.split("-", 1)[1] for name in results if name.startswith("IoU_sup-")]
    rows += [(c, *(results.get(f"{m}_sup-{c}") for m in ("IoU", "iIoU"))) for c in categories]
    if categories:
        rows.append(("mean of categories", results["IoU_sup"], results["iIoU_sup"]))
    columns = ["class", "IoU", "iIoU"] if categories else ["class", "IoU"]
    rows = [row[: len(columns)] for row in rows]
    table = tabulate(rows, columns, tablefmt="pipe", floatfmt=".1f", missingval="-")
    logging.getLogger(__name__).info("%s (%%):\n%s", dataset_name, table)
    if folder:
        os.makedirs(folder, exist_ok=True)
        path = inside(folder, f"{dataset_name}_iou.json")
        with written_to(path), open(path, "w") as file:
            values = {"dataset": dataset_name, "mean": results[mean], "classes": classes}
            json.dump({key: _plain(value) for key, value in values.items()}, file, indent=1)


def _plain(value: dict | str | float | None) -> dict | str | float | None:
    """NumPy's numbers as Python's, and null for what is not a number."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if value is None or isinstance(value, str):
        return value
    return float(value) if value == value else None
