"""Top-1 and top-5 against a sort in NumPy, in one process and in several."""

import numpy as np
import pytest
import torch
from detectron2.engine import launch
from srnet.engine import close_process_groups
from srnet.evaluation import ClassificationEvaluator

IMAGES, CLASSES = 103, 12


def predictions():
    """Scores and classes of images; the class is often among the first."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(IMAGES, CLASSES)).round(1).astype(np.float32)
    target = rng.integers(0, CLASSES, IMAGES)
    scores[np.arange(IMAGES), target] += rng.choice([0, 1, 3], IMAGES)
    scores[7] = 0.5  # all equal: the first class wins
    target[7] = 0
    target[8], scores[8] = 11, 0.5
    return scores, target


def expected():
    scores, target = predictions()
    order = np.argsort(-scores, axis=1, kind="stable")
    hits = order == target[:, None]
    return hits[:, 0].mean() * 100, hits[:, :5].any(1).mean() * 100


def feed(evaluator, indices, size=8):
    scores, target = predictions()
    for start in range(0, len(indices), size):
        batch = indices[start : start + size]
        inputs = [{"image_id": int(i), "class_index": int(target[i])} for i in batch]
        evaluator.process(inputs, [{"logits": torch.tensor(scores[i])} for i in batch])


def test_accuracy_in_one_process():
    evaluator = ClassificationEvaluator("set", IMAGES)
    for _ in range(2):  # the second round after a reset
        evaluator.reset()
        feed(evaluator, range(IMAGES))
        evaluator.process([], [])
        results = evaluator.evaluate()["classification"]
        assert (results["top1"], results["top5"]) == pytest.approx(expected())
        assert results["images"] == IMAGES


def test_images_that_were_skipped_are_reported(caplog):
    evaluator = ClassificationEvaluator("set", IMAGES + 2)
    feed(evaluator, range(IMAGES))
    results = evaluator.evaluate()["classification"]
    assert (results["top1"], results["top5"]) == pytest.approx(expected())
    assert "2 of the 105 images of set are not in the result" in caplog.text
    evaluator.reset()
    with pytest.raises(RuntimeError, match="no image of set"):
        evaluator.evaluate()


def test_scores_that_are_no_numbers_are_wrong():
    evaluator = ClassificationEvaluator("set", 1)
    logits = torch.full((9,), float("nan"))
    evaluator.process([{"image_id": 0, "class_index": 8}], [{"logits": logits}])
    assert evaluator.evaluate()["classification"]["top5"] == 0


@close_process_groups
def work(path, processes):
    rank = torch.distributed.get_rank()
    evaluator = ClassificationEvaluator("set", IMAGES)
    # As a sampler that pads would share them: the last process begins again with the first images.
    share = -(-IMAGES // processes)
    indices = [i % IMAGES for i in range(rank * share, (rank + 1) * share)]
    feed(evaluator, indices)
    results = evaluator.evaluate()
    assert (results is None) == (rank != 0)
    if rank == 0:
        torch.save(results, path)


def test_each_image_counts_once_over_processes(tmp_path):
    path = str(tmp_path / "results.pth")
    launch(work, 2, dist_url="auto", args=(path, 2))
    results = torch.load(path)["classification"]
    assert (results["top1"], results["top5"]) == pytest.approx(expected())
    assert results["images"] == IMAGES
