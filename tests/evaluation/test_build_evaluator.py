"""The table of evaluators."""

import pytest
from detectron2.data import MetadataCatalog
from detectron2.evaluation import SemSegEvaluator
from srnet import get_cfg
from srnet.evaluation import build_evaluator


def test_an_unknown_type_lists_the_known_ones():
    MetadataCatalog.get("nobody_evaluates_this").evaluator_type = "telepathy"
    with pytest.raises(ValueError, match=r"nobody_evaluates_this.*'telepathy'.*sem_seg"):
        build_evaluator(get_cfg(), "nobody_evaluates_this")


def test_sem_seg_names_the_label_that_is_out_of_range(tmp_path):
    import numpy as np
    import torch
    from detectron2.data import DatasetCatalog
    from PIL import Image

    label = tmp_path / "label.png"
    Image.fromarray(np.full((4, 4), 7, np.uint8)).save(label)
    name = "evaluation_test"
    record = {"file_name": "image.png", "sem_seg_file_name": str(label)}
    DatasetCatalog.register(name, lambda: [record])
    metadata = {"stuff_classes": ["a", "b"], "ignore_label": 255, "evaluator_type": "sem_seg"}
    MetadataCatalog.get(name).set(**metadata)
    evaluator = build_evaluator(get_cfg(), name, str(tmp_path))
    assert isinstance(evaluator, SemSegEvaluator)
    evaluator.reset()
    with pytest.raises(ValueError, match=r"label.png has the label 7"):
        evaluator.process([record], [{"sem_seg": torch.zeros(2, 4, 4)}])
    DatasetCatalog.remove(name)
