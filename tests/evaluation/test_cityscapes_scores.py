"""Cityscapes' scores, counted image by image, against cityscapesscripts on files: every bit."""

import copy

import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as official
import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import labels
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from PIL import Image
from srnet.evaluation import CityscapesEvaluator
from srnet.evaluation.cityscapes_labels import label_ids
from srnet.evaluation.cityscapes_scores import OfficialScores

SIZE = 40, 60
THINGS = [label.id for label in labels if label.hasInstances and label.id >= 0]


def write_truth(folder, number, rng):
    """A label image of every label id, and instances of all sizes, single pixels too."""
    truth = rng.integers(0, 34, SIZE).astype(np.uint8)
    instances = truth.astype(np.uint16)
    for place in range(rng.integers(0, 30)):
        thing = int(rng.choice(THINGS))
        y, x = rng.integers(0, SIZE[0]), rng.integers(0, SIZE[1])
        area = np.s_[y : y + rng.integers(1, 20), x : x + rng.integers(1, 20)]
        truth[area], instances[area] = thing, thing * 1000 + place
    path = str(folder / f"city_000000_{number:06d}_gtFine_labelIds.png")
    Image.fromarray(truth).save(path)
    Image.fromarray(instances).save(path.replace("labelIds", "instanceIds"))
    return path


@pytest.fixture
def trees(tmp_path):
    """Truths, and predictions of them as files and as arrays; the third has no instance."""
    rng = np.random.default_rng(0)
    targets, paths, predictions = [], [], []
    for number in range(7):
        targets.append(write_truth(tmp_path, number, rng))
        truth = np.array(Image.open(targets[-1]))
        wrong = (rng.random(SIZE) < 0.4) | ~np.isin(truth, label_ids())
        predictions.append(np.where(wrong, rng.choice(label_ids(), SIZE), truth).astype(np.uint8))
        paths.append(str(tmp_path / f"{number}_pred.png"))
        Image.fromarray(predictions[-1]).save(paths[-1])
    empty = np.full(SIZE, 7, np.uint16)
    Image.fromarray(empty).save(targets[2].replace("labelIds", "instanceIds"))
    return targets, paths, predictions


def evaluate_files(paths, targets):
    arguments = copy.copy(official.args)
    arguments.quiet, arguments.JSONOutput = True, False
    return official.evaluateImgLists(paths, targets, arguments)


def test_the_scores_are_the_official_ones_to_the_last_bit(trees):
    targets, paths, predictions = trees
    scores = OfficialScores()
    counts = [scores.count(p, "i", t) for p, t in zip(predictions, targets, strict=True)]
    expected = evaluate_files(paths, targets)
    np.testing.assert_equal(scores.scores(counts), expected)  # NaN is NaN
    assert 0 < expected["averageScoreInstClasses"] < 1
    # An image without a class changes what is not a number.
    np.testing.assert_equal(scores.scores(counts[2:3]), evaluate_files(paths[2:3], targets[2:3]))


def test_processes_share_the_images_and_find_the_same(trees, tmp_path, monkeypatch):
    """Any two of them, in any order, on any machine: nothing but counts is exchanged."""
    targets, paths, predictions = trees
    records = [
        {
            "file_name": f"image{i}.png",
            "sem_seg_file_name": target.replace("labelIds", "labelTrainIds"),
        }
        for i, target in enumerate(targets)
    ]
    DatasetCatalog.register("shared", lambda: records)
    classes = MetadataCatalog.get("cityscapes_fine_sem_seg_val").stuff_classes
    MetadataCatalog.get("shared").set(stuff_classes=classes)
    try:
        parts = [CityscapesEvaluator("shared"), CityscapesEvaluator("shared")]
    finally:
        DatasetCatalog.remove("shared")
    for part, numbers in zip(parts, ([6, 1, 4, 0], [5, 3, 2]), strict=True):
        part.reset()
        for number in numbers:
            train_ids = np.searchsorted(label_ids(), predictions[number])
            one_hot = np.eye(19, dtype=np.float32)[train_ids].transpose(2, 0, 1)
            part.process([records[number]], [{"sem_seg": torch.from_numpy(one_hot)}])
    monkeypatch.setattr(comm, "gather", lambda counts: [part._counts for part in parts])
    found = parts[0].evaluate()["sem_seg"]
    expected = evaluate_files(paths, targets)
    assert found["IoU"] == 100 * expected["averageScoreClasses"]
    assert found["iIoU"] == 100 * expected["averageScoreInstClasses"]
    assert found["IoU_sup"] == 100 * expected["averageScoreCategories"]
    assert found["iIoU_sup-vehicle"] == 100 * expected["categoryInstScores"]["vehicle"]
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert parts[1].evaluate() is None


def test_wrong_truths_are_named(trees):
    (target, *_), _, (prediction, *_) = trees
    scores = OfficialScores()
    with pytest.raises(ValueError, match=r"its label .*000000_gtFine_labelIds.png 60 x 40"):
        scores.count(prediction[:-1], "image.png", target)
    Image.fromarray(np.full(SIZE, 34, np.uint8)).save(target)
    with pytest.raises(ValueError, match=r"labelIds.png has the label 34; Cityscapes has 0 to 33"):
        scores.count(prediction, "image.png", target)
