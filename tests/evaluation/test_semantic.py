"""The evaluator of semantic labels against Detectron2's own, whose results it must have."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import SemSegEvaluator
from PIL import Image
from srnet import get_cfg
from srnet.evaluation import SemanticEvaluator, build_evaluator
from srnet.evaluation.class_map import class_map

CLASSES = 7


@pytest.fixture
def labelled(tmp_path):
    """A data set of three images with void pixels, and predictions of few values: many ties."""
    rng = np.random.default_rng(0)
    name = "few_labels"
    records = []
    for i in range(3):
        label = rng.integers(0, CLASSES, (3, 4)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
        label[:2] = 255
        path = tmp_path / f"{i}.png"
        Image.fromarray(label).save(path)
        records.append({"file_name": f"{i}.jpg", "sem_seg_file_name": str(path)})
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(
        stuff_classes=[f"class{i}" for i in range(CLASSES)],
        ignore_label=255,
        evaluator_type="sem_seg",
    )
    torch.manual_seed(0)
    yield name, records, [torch.randint(3, (CLASSES, 24, 32)).float() for _ in records]
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def evaluate(evaluator, records, predictions):
    evaluator.reset()
    for record, prediction in zip(records, predictions, strict=True):
        evaluator.process([record], [{"sem_seg": prediction}])
    return evaluator.evaluate()["sem_seg"]


@pytest.mark.parametrize("asked", [True, False])
def test_results_and_files_are_detectron2s(labelled, tmp_path, asked):
    name, records, predictions = labelled
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    expected = evaluate(SemSegEvaluator(name, output_dir=str(theirs)), records, predictions)
    cfg = get_cfg("CamVid-SemanticSegmentation/fcn_R_50.yaml", ["TEST.SEM_SEG_PREDICTIONS", asked])
    found = evaluate(build_evaluator(cfg, name, str(ours)), records, predictions)
    assert found == expected and 0 < found["mIoU"] < 100
    assert torch.load(ours / "sem_seg_evaluation.pth", weights_only=False) == expected
    masks = ours / "sem_seg_predictions.json"
    assert masks.exists() == asked
    if asked:
        assert json.loads(masks.read_text()) == json.loads(
            (theirs / "sem_seg_predictions.json").read_text()
        )


def test_nothing_is_written_without_a_folder(labelled, tmp_path, monkeypatch):
    name, records, predictions = labelled
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    evaluate(SemanticEvaluator(name), records, predictions)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", [(0, 1, 2), (2, 0, 1)], ids=["contiguous", "channels last"])
def test_the_class_map_is_argmax(dtype, layout):
    """Of equal values the first, of NaN the first; of infinities, too."""
    torch.manual_seed(0)
    values = torch.tensor([0.0, 1.0, 1.0, 2.0, float("inf"), -float("inf"), float("nan")])
    for choice in (4, 6, 7):
        shape = [(5, 30, 40)[list(layout).index(axis)] for axis in range(3)]
        x = values[:choice][torch.randint(choice, shape)].to(dtype).permute(layout)
        assert x.shape == (5, 30, 40)
        np.testing.assert_array_equal(class_map(x), x.argmax(dim=0).numpy())
