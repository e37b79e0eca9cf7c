"""The official panoptic evaluation on a truth that is checked before inference begins."""

import json
import os
import tempfile
from types import SimpleNamespace

from detectron2.data import Metadata
from detectron2.evaluation import COCOPanopticEvaluator
from detectron2.utils import comm

from srnet.data.paths import written_to
from srnet.data.validate import read_panoptic


class PanopticEvaluator(COCOPanopticEvaluator):
    """Detectron2's evaluator. panopticapi gets the completed truth.

    Args:
        dataset_name: a registered dataset in Detectron2's panoptic form.
        output_folder: where Detectron2's files are written; None for none.
        allow_missing: leave out images without a prediction; they are an error otherwise.

    Raises:
        FileNotFoundError: a panoptic PNG is missing.
        ValueError: the truth is wrong; the message has all findings.
    """

    _metadata: Metadata | SimpleNamespace

    def __init__(
        self, dataset_name: str, output_folder: str | None = None, allow_missing: bool = False
    ):
        super().__init__(dataset_name, output_folder)
        self._allow_missing = allow_missing
        self._truth = read_panoptic(self._metadata, comm.get_rank(), comm.get_world_size())

    def evaluate(self) -> dict | None:
        """Return Detectron2's results on the main process, None on the others."""
        truth, registered = self._truth, self._metadata
        if self._allow_missing:
            # panopticapi refuses a truth of other images than were predicted.
            ids = {prediction["image_id"] for prediction in self._predictions}
            predicted = set().union(*comm.all_gather(ids))
            kept = [a for a in truth["annotations"] if a["image_id"] in predicted]
            truth = {**truth, "annotations": kept}
        with tempfile.TemporaryDirectory(prefix="panoptic_truth") as folder:
            path = os.path.join(folder, "panoptic.json")
            with written_to(path), open(path, "w") as file:
                json.dump(truth, file)
            self._metadata = SimpleNamespace(**{**registered.as_dict(), "panoptic_json": path})
            try:
                return super().evaluate()
            finally:
                self._metadata = registered
