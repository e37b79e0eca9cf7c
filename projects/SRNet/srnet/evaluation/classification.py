"""Top-1 and top-5 accuracy of an image classifier."""

import logging

import numpy as np
import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

_MISSING, _WRONG, _TOP5, _TOP1 = range(4)


class ClassificationEvaluator(DatasetEvaluator):
    """Count the images whose class has the highest score, or one of the five highest.

    What is kept is one byte an image of the dataset, at the place of its "image_id". So each image
    counts once, whatever the number of processes and however they share the images: also where one
    image came to two of them.

    Args:
        dataset_name: for the log.
        num_images: size of the dataset.
    """

    def __init__(self, dataset_name: str, num_images: int):
        self.dataset_name = dataset_name
        self.num_images = num_images
        self.reset()

    def reset(self) -> None:
        """Forget all predictions."""
        self._results = np.full(self.num_images, _MISSING, np.uint8)

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Compare predictions with classes.

        A class counts by how many others have a higher score; of equal scores the classes that come
        first are ahead. A score that is not a number is the lowest.

        Args:
            inputs: dicts with "image_id", the place in the dataset, and "class_index".
            outputs: dicts with "logits" (classes,).
        """
        if not inputs:
            return
        scores = torch.stack([x["logits"] for x in outputs]).float().nan_to_num(nan=-torch.inf)
        target = torch.tensor([x["class_index"] for x in inputs], device=scores.device)
        own = scores.gather(1, target[:, None])
        before = torch.arange(scores.shape[1], device=scores.device) < target[:, None]
        rank = ((scores > own) | ((scores == own) & before)).sum(1).cpu().numpy()
        results = np.select([rank == 0, rank < 5], [_TOP1, _TOP5], _WRONG)
        self._results[[x["image_id"] for x in inputs]] = results

    def evaluate(self) -> dict | None:
        """Compute the accuracy over all processes.

        Returns:
            On the main process ``{"classification": {"top1", "top5", "images"}}``, the accuracies
            in percent of the images that were predicted; None on the others.

        Raises:
            RuntimeError: no image was predicted.
        """
        gathered = comm.gather(self._results)
        if not comm.is_main_process():
            return None
        results = np.max(gathered, axis=0)
        images = int((results != _MISSING).sum())
        if not images:
            raise RuntimeError(f"no image of {self.dataset_name} was predicted")
        if images < self.num_images:
            logging.getLogger(__name__).warning(
                "%d of the %d images of %s are not in the result: they could not be read",
                self.num_images - images,
                self.num_images,
                self.dataset_name,
            )
        top1, top5 = ((results >= least).sum() * 100.0 / images for least in (_TOP1, _TOP5))
        return {"classification": {"top1": float(top1), "top5": float(top5), "images": images}}
