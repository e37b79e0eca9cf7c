"""`srnet predict`: what it writes, read back by others, and how it meets bad input."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from PIL import Image
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from srnet.prediction import Predictor, pipeline, predict
from srnet.prediction.inputs import Source


@pytest.fixture(scope="module")
def predictor(trained):
    """The predictor of a family, made once."""
    made = {}

    def make(family):
        if family not in made:
            t = trained(family)
            made[family] = Predictor(t.config, weights=t.weights, opts=t.options, device="cpu")
        return made[family]

    return make


@pytest.fixture
def folder(tmp_path, pixels):
    """Five pictures of two sizes in a folder: 0.png to 4.png."""
    (tmp_path / "in").mkdir()
    for i in range(5):
        height, width = (48, 64) if i % 2 else (40, 56)
        cv2.imwrite(str(tmp_path / "in" / f"{i}.png"), pixels(height, width, i))
    return tmp_path / "in"


@pytest.fixture
def command(srnet, trained, tmp_path):
    """Run `srnet predict` on a model of a family: command(family, *words)."""

    def run(family, *words):
        t = trained(family)
        given = ["--config-file", t.config, "--weights", t.weights, "--device", "cpu"]
        return srnet("predict", *given, "--output", tmp_path / "out", *words)

    return run


def files_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def read(path):
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_labels_are_the_classes_of_the_model(predictor, folder, tmp_path, batch):
    """Each file gets the labels of its own picture, whatever the sizes around it."""
    ours = predictor("semantic")
    summary = predict(ours, [folder], tmp_path / "out", save=["labels"], batch_size=batch)
    assert (summary.done, summary.failed) == (5, 0)
    names = [f"labels/{i}.png" for i in range(5)]
    assert files_in(tmp_path / "out") == [*names, "labels/classes.json"]
    for i in range(5):
        expected = ours(folder / f"{i}.png")["sem_seg"].argmax(0).numpy()
        assert len(np.unique(expected)) > 1
        # Logits of batches differ by rounding.
        assert (read(tmp_path / "out" / names[i]) == expected).mean() > (
            0.99 if batch > 1 else 0.999
        )
    classes = json.loads((tmp_path / "out/labels/classes.json").read_text())["classes"]
    known = MetadataCatalog.get("camvid_sem_seg_val").stuff_classes
    assert [(c["id"], c["name"]) for c in classes] == list(enumerate(known))


def test_pictures_have_the_size_and_the_colours_of_the_classes(predictor, folder, tmp_path):
    ours = predictor("semantic")
    predict(ours, [folder], tmp_path / "out")
    for i in range(5):
        given, drawn = read(folder / f"{i}.png"), read(tmp_path / f"out/pictures/{i}.jpg")
        assert drawn.shape == given.shape and np.abs(drawn.astype(int) - given).mean() > 5


def test_instances_are_coco_results_with_the_data_sets_ids(predictor, folder, tmp_path, capsys):
    ours = predictor("instances")
    predict(ours, [folder], tmp_path / "out", save=["coco"], batch_size=2)
    assert files_in(tmp_path / "out") == ["coco_images.json", "coco_results.json"]
    images = COCO(str(tmp_path / "out/coco_images.json"))
    results = images.loadRes(str(tmp_path / "out/coco_results.json"))  # as pycocotools reads them
    own = MetadataCatalog.get("coco_2017_val").thing_dataset_id_to_contiguous_id
    assert set(images.cats) == set(own) and max(images.cats) == 90
    for image_id, entry in images.imgs.items():
        assert entry["file_name"] == str(folder / f"{image_id - 1}.png")
        alone = ours(entry["file_name"])["instances"]
        found = results.loadAnns(results.getAnnIds(image_id))
        assert len(found) == len(alone) > 0
        best = max(found, key=lambda x: x["score"])
        assert best["score"] == pytest.approx(alone.scores[0].item(), abs=1e-4)
        k = int(np.argmin([abs(s - best["score"]) for s in alone.scores.tolist()]))
        assert own[best["category_id"]] == alone.pred_classes[k]
        assert mask_api.decode(best["segmentation"]).shape == (entry["height"], entry["width"])


def test_panoptic_files_are_cocos(predictor, folder, tmp_path):
    from panopticapi.utils import rgb2id

    ours = predictor("panoptic")
    predict(ours, [folder], tmp_path / "out", save=["panoptic"])
    content = json.loads((tmp_path / "out/panoptic.json").read_text())
    known = {c["id"]: c for c in content["categories"]}
    assert len(known) == 80 + 53 and sum(c["isthing"] for c in known.values()) == 80
    metadata = MetadataCatalog.get("coco_2017_val_panoptic_separated")
    stuff = {v: k for k, v in metadata.stuff_dataset_id_to_contiguous_id.items()}
    assert [x["id"] for x in content["images"]] == [1, 2, 3, 4, 5]
    drawn = 0
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        assert annotation["image_id"] == image["id"]
        ids = rgb2id(read(tmp_path / "out/panoptic" / annotation["file_name"]))
        segments, info = ours(image["file_name"])["panoptic_seg"]
        kept = [x for x in info if x["isthing"] or x["category_id"]]  # stuff 0 is all things
        assert {x["id"] for x in annotation["segments_info"]} == {x["id"] for x in kept}
        assert set(np.unique(ids)) - {0} == {x["id"] for x in kept}
        for ours_, theirs in zip(annotation["segments_info"], kept, strict=True):
            mask = segments.numpy() == theirs["id"]
            assert (ids == theirs["id"]).tolist() == mask.tolist()
            assert ours_["area"] == mask.sum()
            box = mask_api.toBbox(mask_api.encode(np.asfortranarray(mask.astype(np.uint8))))
            assert ours_["bbox"] == box.tolist()
            if not theirs["isthing"]:
                assert ours_["category_id"] == stuff[theirs["category_id"]]
                assert not known[ours_["category_id"]]["isthing"]
            drawn += 1
    assert drawn


def test_the_best_classes_of_a_classifier(predictor, folder, tmp_path):
    ours = predictor("classifier")
    predict(ours, [folder], tmp_path / "out", save=["csv", "pictures"], batch_size=2)
    with open(tmp_path / "out/top5.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = ours.classes.classes
    assert len(names) == 1000 and names[0] == "n01440764 tench"
    assert [r["file"] for r in rows] == [str(folder / f"{i}.png") for i in range(5)]
    for row in rows:
        best = ours(row["file"])["logits"].softmax(0).topk(5)
        assert [row[f"class{i}"] for i in range(1, 6)] == [names[i] for i in best.indices]
        given = [float(row[f"probability{i}"]) for i in range(1, 6)]
        assert given == pytest.approx(best.values.tolist(), abs=1e-5)
    assert len(list((tmp_path / "out/pictures").glob("*.jpg"))) == 5


def test_a_video_becomes_a_video(predictor, tmp_path):
    """With odd sizes, two videos in one run, and label files for each frame."""
    for name, size, fps in (("a", (64, 48), 10), ("b", (51, 37), 5)):
        writer = cv2.VideoWriter(
            str(tmp_path / f"{name}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), fps, size
        )
        for i in range(4):
            writer.write(np.full((size[1], size[0], 3), 60 * i, np.uint8))
        writer.release()
    inputs = [tmp_path / "a.avi", tmp_path / "b.avi"]
    save = ["pictures", "labels"]
    summary = predict(predictor("semantic"), inputs, tmp_path / "out", save=save, batch_size=3)
    assert summary.done == 8
    frames = [f"labels/{name}/00000{i}.png" for name in "ab" for i in (1, 2, 3, 4)]
    videos = ["pictures/a.mp4", "pictures/b.mp4"]
    assert files_in(tmp_path / "out") == sorted([*frames, *videos, "labels/classes.json"])
    for path, width, fps in zip(videos, (64, 51), (10, 5), strict=True):
        capture = cv2.VideoCapture(str(tmp_path / "out" / path))
        assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(fps)
        assert abs(capture.get(cv2.CAP_PROP_FRAME_WIDTH) - width) <= 1
        read_back = [capture.read()[0] for _ in range(5)]
        assert read_back == [True] * 4 + [False]


def test_bad_files_are_skipped_and_counted(command, folder, tmp_path, tried):
    tried("picture that does not decode")
    (folder / "bad.jpg").write_text("no image")
    content = (folder / "1.png").read_bytes()
    (folder / "cut.png").write_bytes(content[: len(content) // 2])
    result = command("semantic", "--input", folder, "--save", "labels", "--batch-size", 2)
    assert result.status == 1
    assert "5 images in" in result.out
    assert result.err.count("skipped: cannot read the image") == 2
    assert "bad.jpg" in result.err and "cut.png" in result.err
    assert result.err.splitlines()[-1] == (
        "srnet: error: 2 of 7 inputs could not be read: the messages above name them"
    )
    assert len(list((tmp_path / "out/labels").glob("*.png"))) == 5


def test_forms_may_be_named_with_commas(command, folder, tmp_path):
    result = command("semantic", "--input", folder / "0.png", "--save", "pictures,labels")
    assert result.status == 0, result.err
    assert files_in(tmp_path / "out") == ["labels/0.png", "labels/classes.json", "pictures/0.jpg"]


@pytest.mark.parametrize(
    ("family", "words", "message"),
    [
        ("semantic", ["--save", "coco"], "cannot save 'coco' of the model SRSemanticSegmentor"),
        ("classifier", ["--save", "labels"], "it has pictures, csv"),
        ("semantic", ["--save", "masks"], "--save masks: the forms are pictures, labels"),
        ("semantic", ["MODEL.WEIGHTS", "x.pth"], "give one of them"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(
    command, folder, tmp_path, family, words, message, tried
):
    tried(f"predict {' '.join(words)}")
    result = command(family, "--input", folder, *words)
    assert result.status == 1 and message in result.err and len(result.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_inputs_are_checked_before_the_model_is_read(srnet, tmp_path):
    words = ["--config-file", "no.yaml", "--input", tmp_path, "--output", tmp_path / "out"]
    result = srnet("predict", *words)
    assert result.status == 1 and f"the folder {tmp_path} has no images" in result.err


@pytest.mark.parametrize("value", ["2", "-0.1", "high", "nan"])
def test_a_confidence_is_a_share(command, folder, value):
    result = command("instances", "--input", folder, "--confidence", value)
    assert result.status == 2 and "no number from 0 to 1" in result.err


def test_confidence_leaves_out_instances(command, folder, tmp_path):
    found = {}
    for score in (0, 0.95):
        result = command("instances", "--input", folder, "--save", "coco", "--confidence", score)
        assert result.status == 0, result.err
        results = json.loads((tmp_path / "out/coco_results.json").read_text())
        found[score] = [(x["image_id"], x["category_id"], x["score"]) for x in results]
    assert found[0.95] == [x for x in found[0] if x[2] > 0.95]
    assert 0 < len(found[0.95]) < len(found[0])


class Slow:
    """A predictor without a network, that notes how many pictures are alive."""

    def __init__(self, predictor):
        self.cfg, self.classes, self.alive, self.most = predictor.cfg, predictor.classes, 0, 0
        self.lock = threading.Lock()

    def prepare(self, image, name=""):
        return {"image": torch.zeros(3, 8, 8), "name": name}

    def predict(self, inputs):
        return [{"sem_seg": torch.zeros(11, 8, 8)} for _ in inputs]


def test_few_pictures_wait_whatever_their_number(predictor):
    """A source of a thousand pictures: none is read long before it is written."""
    alive, most = set(), 0
    lock = threading.Lock()

    def source(i):
        def load():
            nonlocal most
            with lock:
                alive.add(i)
                most = max(most, len(alive))
            return Image.new("RGB", (8, 8 + i % 3))

        return Source(f"{i}", f"{i}", load)

    class Writer:
        order = []

        def render(self, result):
            time.sleep(0.0005)  # writing is slower than all before it

        def append(self, result, rendered):
            self.order.append(result.index)
            with lock:
                alive.discard(result.index)

        def close(self):
            pass

    writer = Writer()
    run = pipeline.Pipeline(
        Slow(predictor("semantic")), [writer], ["sem_seg"], 2, 2, lambda n: None, lambda text: None
    )
    assert run(source(i) for i in range(1000)).done == 1000
    assert writer.order == list(range(1000))
    assert most < 40


def test_an_error_of_the_network_leaves_what_is_done(predictor, folder, tmp_path, monkeypatch):
    ours = predictor("instances")
    calls = []

    def fail(inputs):
        calls.append(inputs)
        if len(calls) == 4:
            raise RuntimeError("out of memory")
        return ours.model(inputs)

    monkeypatch.setattr(ours, "predict", torch.no_grad()(fail))
    with pytest.raises(RuntimeError, match="out of memory"):
        predict(ours, [folder], tmp_path / "out", save=["pictures", "coco"])
    done = len(list((tmp_path / "out/pictures").glob("*.jpg")))
    assert done == 3
    assert len(json.loads((tmp_path / "out/coco_images.json").read_text())["images"]) == 3
    assert not [p for p in files_in(tmp_path / "out") if "partial" in p]


@pytest.mark.parametrize("broken", ["labels", "labels/0.png"])
def test_a_folder_that_cannot_be_written(command, folder, tmp_path, broken):
    path = tmp_path / "out" / broken
    if broken == "labels":
        path.parent.mkdir()
        path.touch()  # a file where a folder should be
    else:
        path.mkdir(parents=True)
    result = command("semantic", "--input", folder, "--save", "labels")
    assert result.status == 1 and str(path) in result.err.splitlines()[-1]
    assert not [p for p in files_in(tmp_path / "out") if "partial" in p]


def test_ctrl_c_keeps_what_is_done(trained, tmp_path):
    """In a process of its own, in the middle of a long video."""
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for i in range(2000):
        writer.write(np.full((48, 64, 3), i % 255, np.uint8))
    writer.release()
    t = trained("semantic")
    words = ["predict", "--config-file", t.config, "--weights", t.weights, "--device", "cpu"]
    words += ["--input", tmp_path / "v.avi", "--output", tmp_path / "out"]
    words += ["--save", "pictures", "labels"]
    process = subprocess.Popen(
        [sys.executable, "-m", "srnet", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    labels = tmp_path / "out" / "labels" / "v"
    for _ in range(1200):
        if labels.is_dir() and len(list(labels.glob("0*.png"))) >= 5:
            break
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and b"Traceback" not in err
    capture = cv2.VideoCapture(str(tmp_path / "out/pictures/v.mp4"))
    frames = 0
    while capture.read()[0]:
        frames += 1
    assert 5 <= frames < 2000
    assert frames == len(list(labels.glob("0*.png")))
    assert not [p for p in files_in(tmp_path / "out") if "partial" in p]
