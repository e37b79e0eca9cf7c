"""The official semantic evaluators with a table of the classes in the dataset's order.

The order is that of the paper's Tables I and VI for Cityscapes.
"""

import copy
import json
import logging
import os
from collections import OrderedDict

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import CityscapesSemSegEvaluator, SemSegEvaluator
from detectron2.utils import comm
from numpy.typing import DTypeLike
from tabulate import tabulate

from srnet.data.paths import inside, written_to
from srnet.data.read import check_label_size, read_label

from .results import Confusion, write_confusion


class SemanticEvaluator(SemSegEvaluator):
    """Detectron2's evaluator, on labels that are checked; it logs and writes the classes' IoU.

    Args:
        dataset_name: a registered dataset with the metadata `stuff_classes` and `ignore_label`.
        output_folder: where `DATASET_iou.json`, `DATASET_confusion.json` and Detectron2's files are
            written; None for none.
    """

    def __init__(self, dataset_name: str, output_folder: str | None = None):
        metadata = MetadataCatalog.get(dataset_name)

        def load(path: str, dtype: DTypeLike) -> np.ndarray:
            classes, mapping = len(metadata.stuff_classes), metadata.get("label_mapping")
            label = read_label(path, classes, metadata.ignore_label, mapping)
            check_label_size(*self._predicted, path, label.shape)
            return label.astype(dtype)

        super().__init__(dataset_name, output_dir=output_folder, sem_seg_loading_fn=load)

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Count the pixels of a batch.

        Raises:
            ValueError: a prediction has another size than the label of its image.
        """
        for image, output in zip(inputs, outputs, strict=True):
            self._predicted = image["file_name"], tuple(output["sem_seg"].shape[-2:])
            super().process([image], [output])

    def evaluate(self) -> dict | None:
        """Return Detectron2's results on the main process, None on the others."""
        results = super().evaluate()
        if results:
            _report(results["sem_seg"], "mIoU", self._dataset_name, self._output_dir)
            if self._output_dir:
                # Detectron2's has a row for each prediction; the last of both is for void.
                pixels = self._conf_matrix[:-1, :-1].T
                classes = list(self._class_names)
                write_confusion(self._output_dir, Confusion(self._dataset_name, classes, pixels))
        return results


class CityscapesEvaluator(CityscapesSemSegEvaluator):
    """The evaluation of cityscapesscripts: IoU and iIoU of classes and categories.

    It compares predictions with the `labelIds` beside the dataset's training labels, on any number
    of processes of a machine; no environment variable is needed.

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
        super().__init__(dataset_name)
        self._allow_missing = allow_missing
        self._dataset_name = dataset_name
        self._output_folder = output_folder
        records = DatasetCatalog.get(dataset_name)
        if any("sem_seg_file_name" not in record for record in records):
            raise ValueError(
                f"{dataset_name} has no public labels: 'srnet submit cityscapes' writes what the "
                "test server takes"
            )
        self._targets = [r["sem_seg_file_name"].replace("TrainIds", "Ids") for r in records]
        for path in self._targets:
            for needed in (path, path.replace("labelIds", "instanceIds")):
                if not os.path.isfile(needed):
                    raise FileNotFoundError(
                        f"{needed} is missing, and the official evaluation needs it: unzip "
                        "gtFine_trainvaltest.zip again"
                    )

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Write the predictions of a batch."""
        from .cityscapes_labels import write_label_ids

        for image, output in zip(inputs, outputs, strict=True):
            write_label_ids(output["sem_seg"], image["file_name"], self._temp_dir)

    def evaluate(self) -> OrderedDict | None:
        """Return the results (%) on the main process, None on the others.

        Returns:
            {"sem_seg": ...} with Detectron2's names, IoU, iIoU, IoU_sup and iIoU_sup (of the
            categories), and `IoU-CLASS`, `iIoU-CLASS`, `IoU_sup-CATEGORY`, `iIoU_sup-CATEGORY`.
        """
        comm.synchronize()
        if comm.get_rank() > 0:
            return None
        import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as official

        arguments = copy.copy(official.args)
        arguments.predictionPath, arguments.predictionWalk = self._temp_dir, None
        arguments.JSONOutput = arguments.colorized = False
        arguments.quiet = True  # the table below says it
        try:
            targets = self._targets
            if self._allow_missing:
                targets = [path for path in targets if self._has_prediction(path)]
            predictions = [official.getPrediction(arguments, path) for path in targets]
            found = official.evaluateImgLists(predictions, targets, arguments)
        except SystemExit as error:  # how cityscapesscripts reports an error it has printed
            raise RuntimeError(
                "cityscapesscripts stopped; its message is on standard output"
            ) from error
        finally:
            self._working_dir.cleanup()
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
            from .cityscapes_labels import label_ids

            ids = label_ids()
            pixels = np.array(found["confMatrix"], np.int64)[np.ix_(ids, ids)]
            classes = list(self._metadata.stuff_classes)
            write_confusion(self._output_folder, Confusion(self._dataset_name, classes, pixels))
        return OrderedDict(sem_seg=results)

    def _has_prediction(self, target: str) -> bool:
        from .cityscapes_labels import PREDICTION_SUFFIX

        name = os.path.basename(target).removesuffix("_gtFine_labelIds.png") + PREDICTION_SUFFIX
        return os.path.isfile(os.path.join(self._temp_dir, name))


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
