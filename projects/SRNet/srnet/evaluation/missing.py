"""Images that were not predicted: counted, and said."""

import logging

from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from srnet.data.records import load_dataset


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
        records = load_dataset(self.dataset_name, labelled=False)
        known = {records[i]["file_name"] for i in range(len(records))}
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
