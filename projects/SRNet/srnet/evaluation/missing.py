"""Images that were not predicted: counted, said, and left out of the panoptic evaluation."""

import json
import logging
import os
import tempfile
from types import SimpleNamespace

from detectron2.data import DatasetCatalog
from detectron2.evaluation import COCOPanopticEvaluator, DatasetEvaluator
from detectron2.utils import comm


class MissingImages(DatasetEvaluator):
    """Count the images of a dataset that were not predicted, because they could not be read.

    Args:
        dataset_name: a registered dataset.
    """

    def __init__(self, dataset_name: str):
        self.dataset_name = dataset_name
        self.reset()

    def reset(self) -> None:
        """Forget all predictions."""
        self._predicted: set[str] = set()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Note which images were predicted."""
        self._predicted.update(x["file_name"] for x in inputs)

    def evaluate(self) -> dict | None:
        """Return ``{"images": {"predicted", "missing"}}`` if any is missing, and log it.

        Raises:
            RuntimeError: no image was predicted.
        """
        predicted = set().union(*comm.all_gather(self._predicted))
        known = {record["file_name"] for record in DatasetCatalog.get(self.dataset_name)}
        missing = sorted(known - predicted)
        if len(missing) == len(known):
            raise RuntimeError(f"no image of {self.dataset_name} was predicted")
        if not missing or not comm.is_main_process():
            return None
        logging.getLogger(__name__).warning(
            "%d of the %d images of %s could not be read, the first is %s. The AP of boxes and "
            "masks in COCO's and LVIS's form counts their objects as missed; all other scores are "
            "those of the remaining images",
            len(missing),
            len(known),
            self.dataset_name,
            missing[0],
        )
        return {"images": {"predicted": len(known) - len(missing), "missing": len(missing)}}


class PanopticEvaluator(COCOPanopticEvaluator):
    """Detectron2's evaluator, where it is asked for on the predicted images alone.

    panopticapi refuses a truth with other images, so it gets one without them.

    Args:
        dataset_name: a registered dataset in Detectron2's panoptic form.
        output_folder: where Detectron2's files are written; None for none.
        allow_missing: leave out images without a prediction; they are an error otherwise.
    """

    def __init__(
        self, dataset_name: str, output_folder: str | None = None, allow_missing: bool = False
    ):
        super().__init__(dataset_name, output_folder)
        self._allow_missing = allow_missing

    def evaluate(self) -> dict | None:
        """Return Detectron2's results on the main process, None on the others."""
        if not self._allow_missing:
            return super().evaluate()
        ids = {prediction["image_id"] for prediction in self._predictions}
        predicted = set().union(*comm.all_gather(ids))
        with open(self._metadata.panoptic_json) as file:
            truth = json.load(file)
        kept = [a for a in truth["annotations"] if a["image_id"] in predicted]
        if len(kept) == len(truth["annotations"]):
            return super().evaluate()
        metadata = self._metadata
        with tempfile.TemporaryDirectory(prefix="panoptic_truth") as folder:
            path = os.path.join(folder, "panoptic.json")
            with open(path, "w") as file:
                json.dump({**truth, "annotations": kept}, file)
            self._metadata = SimpleNamespace(**{**metadata.as_dict(), "panoptic_json": path})
            try:
                return super().evaluate()
            finally:
                self._metadata = metadata
