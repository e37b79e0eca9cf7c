"""The official scores of Cityscapes' semantic labels, counted image by image.

`evaluateImgLists` of cityscapesscripts (2.3.0) reads all predictions from files, in one process,
and its Cython helper is in no wheel: without it an image takes half a second. Here each process
counts its own images as soon as they are predicted, with histograms. The scores are computed from
the counts by cityscapesscripts' own functions, in the order of its loop, so they are its numbers to
the last bit.
"""

import copy
from collections.abc import Iterable
from types import ModuleType
from typing import NamedTuple

import numpy as np

from srnet.data.read import check_label_size, decode


class InstanceCount(NamedTuple):
    """The pixels of an instance of the truth.

    Attributes:
        label: its label id.
        size: its pixels.
        right: those that are predicted as its class.
        right_category: those that are predicted as a class of its category that has instances.
    """

    label: int
    size: int
    right: int
    right_category: int


class ImageCounts(NamedTuple):
    """What the scores need of an image.

    Attributes:
        pixels: (L, L) of int64, a row for each label id of the truth, a column for the prediction.
        instances: the instances that count, by increasing id.
    """

    pixels: np.ndarray
    instances: list[InstanceCount]


class OfficialScores:
    """Counts of images, and cityscapesscripts' scores of them."""

    def __init__(self) -> None:
        self._official = _official_module()
        self._arguments = copy.copy(self._official.args)
        self._labels = len(self._official.generateMatrix(self._arguments))
        # Categories whose classes all have instances, with the ids of these classes.
        stats = self._official.generateInstanceStats(self._arguments)
        self._of_category = {name: found["labelIds"] for name, found in stats["categories"].items()}

    def count(self, prediction: np.ndarray, image_path: str, label_path: str) -> ImageCounts:
        """Compare a prediction with the truth.

        Args:
            prediction: (H, W) of uint8, label ids.
            image_path: the image predicted, for messages.
            label_path: `labelIds` of the truth; `instanceIds` is beside it.

        Raises:
            UnreadableImageError: a file of the truth does not decode.
            ValueError: a file of the truth has another size than the prediction, or an unknown
                label; the message names it.
        """
        instance_path = label_path.replace("labelIds", "instanceIds")
        truth, instances = (
            np.asarray(decode(p, "label image")) for p in (label_path, instance_path)
        )
        for path, label in ((label_path, truth), (instance_path, instances)):
            check_label_size(image_path, prediction.shape, path, label.shape)
        if truth.max() >= self._labels:
            raise ValueError(
                f"{label_path} has the label {truth.max()}; Cityscapes has 0 to {self._labels - 1}"
            )
        pairs = truth.astype(np.int64) * self._labels + prediction
        pixels = np.bincount(pairs.ravel(), minlength=self._labels**2)
        found = self._count_instances(prediction, instances.astype(np.int64))
        return ImageCounts(pixels.reshape(self._labels, self._labels), found)

    def _count_instances(
        self, prediction: np.ndarray, instances: np.ndarray
    ) -> list[InstanceCount]:
        inside = instances > 1000  # 1000 times the label, plus a number
        ids, predicted = instances[inside], prediction[inside]
        present = np.flatnonzero(np.bincount(ids))
        places = np.zeros(present.max(initial=0) + 1, np.int64)
        places[present] = np.arange(len(present))
        cells = np.bincount(
            places[ids] * self._labels + predicted, minlength=len(present) * self._labels
        ).reshape(len(present), self._labels)
        found = []
        for number, row in zip(present, cells, strict=True):
            label = self._official.id2label[int(number) // 1000]
            if label.ignoreInEval:
                continue
            category = self._of_category.get(label.category, [])
            counts = (row.sum(), row[label.id], row[category].sum())
            found.append(InstanceCount(label.id, *(int(count) for count in counts)))
        return found

    def scores(self, images: Iterable[ImageCounts]) -> dict:
        """Compute the result of `evaluateImgLists` from the counts of all images, in its order."""
        official, arguments = self._official, self._arguments
        matrix = official.generateMatrix(arguments)
        stats = official.generateInstanceStats(arguments)
        for image in images:
            matrix += image.pixels.astype(matrix.dtype)
            for instance in image.instances:
                self._add_instance(stats, instance)
        classes = {official.id2label[label].name: label for label in arguments.evalLabels}
        return official.createResultDict(
            matrix,
            {n: official.getIouScoreForLabel(i, matrix, arguments) for n, i in classes.items()},
            {
                name: official.getInstanceIouScoreForLabel(label, matrix, stats, arguments)
                for name, label in classes.items()
            },
            {
                name: official.getIouScoreForCategory(name, matrix, arguments)
                for name in official.category2labels
            },
            {
                name: official.getInstanceIouScoreForCategory(name, matrix, stats, arguments)
                for name in official.category2labels
            },
            {},
            arguments,
        )

    def _add_instance(self, stats: dict, instance: InstanceCount) -> None:
        """Add the weighted pixels of an instance, rounded as `evaluatePair` rounds them."""
        label = self._official.id2label[instance.label]
        weight = self._arguments.avgClassSize[label.name] / float(instance.size)
        sums = [(stats["classes"][label.name], instance.right)]
        if label.category in stats["categories"]:
            sums.append((stats["categories"][label.category], instance.right_category))
        for found, right in sums:
            found["tpWeighted"] += float(right) * weight
            found["fnWeighted"] += float(instance.size - right) * weight


def _official_module() -> ModuleType:
    import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as official

    return official
