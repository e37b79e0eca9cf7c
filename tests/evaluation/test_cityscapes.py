"""The Cityscapes evaluation and submission against cityscapesscripts' own commands."""

import importlib
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import id2label
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Instances
from PIL import Image
from semantic_trees import write_cityscapes
from srnet import get_cfg
from srnet.data.datasets.cityscapes import load_cityscapes, register_all_cityscapes
from srnet.data.datasets.cityscapes_scripts import provide_cityscapesscripts
from srnet.evaluation import CityscapesEvaluator, SemanticEvaluator, build_evaluator
from srnet.evaluation.cityscapes_labels import (
    LabelIdWriter,
    check_predictions,
    evaluated_ids,
    write_archive,
)


@pytest.fixture
def dataset(small_semantic):
    """The small tree's val split under a name of its own."""
    name = "small_cityscapes_val"
    root = str(small_semantic / "cityscapes")
    DatasetCatalog.register(name, lambda: load_cityscapes(root, "val"))
    MetadataCatalog.get(name).set(
        stuff_classes=MetadataCatalog.get("cityscapes_fine_sem_seg_val").stuff_classes,
        ignore_label=255,
    )
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def outputs(records):
    """Labels with a third of the pixels wrong, as logits."""
    rng = np.random.default_rng(0)
    for record in records:
        label = np.array(Image.open(record["sem_seg_file_name"])).astype(np.int64)
        noise = rng.integers(0, 19, label.shape)
        wrong = (rng.random(label.shape) < 1 / 3) | (label == 255)
        label = torch.as_tensor(np.where(wrong, noise, label))
        logits = torch.nn.functional.one_hot(label, 19).permute(2, 0, 1).float()
        yield [record], [{"sem_seg": logits}]


def run(evaluator, records):
    evaluator.reset()
    for inputs, predicted in outputs(records):
        evaluator.process(inputs, predicted)
    return evaluator.evaluate()["sem_seg"]


def test_scores_are_those_of_the_official_command(dataset, small_semantic, tmp_path, monkeypatch):
    records = DatasetCatalog.get(dataset)
    for variable in [v for v in os.environ if v.startswith("CITYSCAPES")]:
        monkeypatch.delenv(variable)
    results = run(CityscapesEvaluator(dataset, str(tmp_path / "inference")), records)

    writer = LabelIdWriter(str(tmp_path / "results"))
    writer.reset()
    for inputs, predicted in outputs(records):
        writer.process(inputs, predicted)
    environment = {
        **os.environ,
        "CITYSCAPES_DATASET": str(small_semantic / "cityscapes"),
        "CITYSCAPES_RESULTS": str(tmp_path / "results"),
        "CITYSCAPES_EXPORT_DIR": str(tmp_path),
    }
    module = "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"
    subprocess.run([sys.executable, "-m", module], env=environment, check=True, capture_output=True)
    official = json.loads((tmp_path / "resultPixelLevelSemanticLabeling.json").read_text())
    for ours, theirs in (
        ("IoU", "averageScoreClasses"),
        ("iIoU", "averageScoreInstClasses"),
        ("IoU_sup", "averageScoreCategories"),
        ("iIoU_sup", "averageScoreInstCategories"),
    ):
        assert results[ours] == pytest.approx(100 * official[theirs])
    assert results["IoU-car"] == pytest.approx(100 * official["classScores"]["car"])
    assert results["iIoU-person"] == pytest.approx(100 * official["classInstScores"]["person"])
    assert results["IoU_sup-flat"] == pytest.approx(100 * official["categoryScores"]["flat"])
    assert 30 < results["IoU_sup"] < 70


def test_both_evaluators_agree_and_write_their_classes(dataset, tmp_path, caplog):
    records = DatasetCatalog.get(dataset)
    with caplog.at_level("INFO", logger="srnet"):
        found = run(CityscapesEvaluator(dataset, str(tmp_path / "a")), records)
    expected = run(SemanticEvaluator(dataset, str(tmp_path / "b")), records)
    for name in ("road", "building", "sky", "person", "car"):
        assert found[f"IoU-{name}"] == pytest.approx(expected[f"IoU-{name}"])
    written = json.loads((tmp_path / "a" / f"{dataset}_iou.json").read_text())
    assert list(written["classes"]) == MetadataCatalog.get(dataset).stuff_classes
    assert written["classes"]["car"] == pytest.approx(expected["IoU-car"])
    lines = [line.split("|")[1].strip() for line in caplog.text.splitlines() if "|" in line]
    assert lines[2:21] == MetadataCatalog.get(dataset).stuff_classes


def test_compare_results(dataset, tmp_path, srnet):
    def command(*arguments):
        return srnet("compare", *arguments)

    records = DatasetCatalog.get(dataset)
    for name in ("one", "two"):
        run(CityscapesEvaluator(dataset, str(tmp_path / name / "inference")), records)
    path = tmp_path / "two" / "inference" / f"{dataset}_iou.json"
    changed = json.loads(path.read_text())
    changed["classes"]["car"] += 2.5
    path.write_text(json.dumps(changed))
    result = command(tmp_path / "one", tmp_path / "two")
    rows = {r.split("|")[1].strip(): r.split("|")[4].strip() for r in result.out.splitlines()}
    assert (rows["car"], rows["road"], rows["mean"]) == ("+2.5", "+0.0", "+0.0")
    assert list(rows)[2:-1] == MetadataCatalog.get(dataset).stuff_classes
    missing = command(tmp_path / "one", tmp_path)
    assert missing.status == 1 and "srnet eval" in missing.err
    path.with_name("other_iou.json").write_text("{}")
    assert "choose one with --dataset" in command(tmp_path / "one", tmp_path / "two").err
    path.write_text("[1]")
    assert "not the result of an evaluation" in command(path, path).err


def test_datasets_without_labels_or_label_ids_are_refused(dataset, small_semantic, tmp_path):
    root = str(small_semantic / "cityscapes")
    DatasetCatalog.register("small_test", lambda: load_cityscapes(root, "test"))
    MetadataCatalog.get("small_test").set(stuff_classes=[])
    try:
        with pytest.raises(ValueError, match="srnet submit cityscapes"):
            CityscapesEvaluator("small_test")
    finally:
        DatasetCatalog.remove("small_test")
    path = DatasetCatalog.get(dataset)[1]["sem_seg_file_name"].replace("labelTrainIds", "labelIds")
    os.rename(path, tmp_path / "label.png")
    try:
        with pytest.raises(FileNotFoundError, match=r"lindau_000000_000019_gtFine_labelIds.png"):
            CityscapesEvaluator(dataset)
    finally:
        os.rename(tmp_path / "label.png", path)


@pytest.fixture
def submission(tmp_path):
    """Images of a test split and whole predictions of them."""
    write_cityscapes(tmp_path, {"test": ["berlin", "bonn", "mainz"]})
    images = [r["file_name"] for r in load_cityscapes(str(tmp_path / "cityscapes"), "test")]
    writer = LabelIdWriter(str(tmp_path / "submission"))
    writer.reset()
    for i, image in enumerate(images):
        logits = torch.zeros(19, 64, 128)
        logits[i] = 1
        writer.process([{"file_name": image}], [{"sem_seg": logits}])
    return tmp_path / "submission", images


def test_the_archive_holds_label_ids_under_the_right_names(submission, tmp_path):
    folder, images = submission
    write_archive(check_predictions(str(folder), images), str(tmp_path / "out" / "s.zip"))
    with zipfile.ZipFile(tmp_path / "out" / "s.zip") as archive:
        names = [f"{c}_000000_000019_pred_labelIds.png" for c in ("berlin", "bonn", "mainz")]
        assert archive.namelist() == names
        for name, label_id in zip(names, (7, 8, 11), strict=True):  # road, sidewalk, building
            with archive.open(name) as file, Image.open(file) as image:
                assert image.size == (128, 64) and np.unique(image).tolist() == [label_id]
    assert len(evaluated_ids()) == 19


def test_bad_submissions_are_refused(submission, tmp_path):
    folder, images = submission
    path = folder / "bonn_000000_000019_pred_labelIds.png"

    def fails(error, message):
        with pytest.raises(error, match=message):
            check_predictions(str(folder), images)

    path.rename(tmp_path / "kept.png")
    fails(FileNotFoundError, r"1 of 3 predictions are missing.*bonn_000000_000019")
    Image.new("L", (127, 64), 7).save(path)
    fails(ValueError, r"bonn_0.*127 x 64 pixels, its image 128 x 64")
    Image.new("RGB", (128, 64)).save(path)
    fails(ValueError, r"bonn_0.*RGB image")
    Image.new("L", (128, 64), 255).save(path)
    fails(ValueError, r"bonn_0.*label 255")
    path.write_bytes(b"no image")
    fails(ValueError, r"cannot read the prediction .*bonn_0")
    (tmp_path / "kept.png").rename(path)
    Image.new("L", (128, 64), 7).save(folder / "bonn_000000_000019_leftImg8bit.png")
    fails(ValueError, r"two predictions")
    (folder / "bonn_000000_000019_leftImg8bit.png").rename(folder / "bonn_000000_000020_x.png")
    fails(ValueError, r"bonn_000000_000020_x.png belongs to no image")
    with pytest.raises(FileNotFoundError, match="folder of predictions"):
        check_predictions(str(tmp_path / "none"), images)


def test_detectron2s_main_finds_cityscapesscripts():
    """Its import statements, which end at Meta otherwise."""
    provide_cityscapesscripts()
    finders = list(sys.meta_path)
    provide_cityscapesscripts()
    assert sys.meta_path == finders
    import deeplearning.projects.cityscapesApi.cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as elsewhere  # noqa: E501
    from deeplearning.projects.cityscapesApi.cityscapesscripts.helpers.labels import name2label

    name = "cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling"
    assert elsewhere is sys.modules[name]
    assert name2label["car"] is id2label[26]
    with pytest.raises(ModuleNotFoundError, match=r"deeplearning.projects.other"):
        importlib.import_module("deeplearning.projects.other")


def test_importing_the_package_installs_no_finder():
    code = (
        "import sys, detectron2.evaluation; before = list(sys.meta_path); import srnet.data,"
        " srnet.evaluation, srnet.engine; assert sys.meta_path == before, sys.meta_path"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("unread", [0, 1])
def test_the_true_instances_score_100_ap(
    small_semantic, datasets_forgotten, tmp_path, monkeypatch, unread
):
    """Their masks come from the official tool's label images, not from the registered polygons.

    Images that could not be read are left out and counted, and nothing is written beside the
    evaluation.
    """
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    name = "cityscapes_fine_instance_seg_val"
    with datasets_forgotten("cityscapes_fine_instance"):
        register_all_cityscapes(str(small_semantic))
        classes = MetadataCatalog.get(name).thing_classes
        cfg = get_cfg(opts=["DATALOADER.SKIP_BAD_IMAGES", bool(unread)])
        evaluator = build_evaluator(cfg, name, str(tmp_path))
        evaluator.reset()
        for record in DatasetCatalog.get(name)[unread:]:
            path = record["file_name"].replace("leftImg8bit/", "gtFine/")
            ids = np.array(Image.open(path.replace("leftImg8bit", "gtFine_instanceIds")))
            found = [i for i in np.unique(ids) if i >= 1000]
            assert sorted(id2label[i // 1000].name for i in found) == ["car", "person"]
            assert len(record["annotations"]) == 2
            instances = Instances(
                ids.shape,
                pred_masks=torch.stack([torch.from_numpy(ids == i) for i in found]),
                pred_classes=torch.tensor([classes.index(id2label[i // 1000].name) for i in found]),
                scores=torch.ones(2),
            )
            evaluator.process([record], [{"instances": instances}])
        results = evaluator.evaluate()
        assert results["segm"] == {"AP": 100.0, "AP50": 100.0}
        assert results.get("images", {}).get("missing", 0) == unread
    assert list(work.iterdir()) == []
