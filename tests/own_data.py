"""Data of a user's own, in the forms of `DATASETS.CUSTOM`: drawn streets with known pixels."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 96, 64
CLASSES = ("sky", "road", "car", "sign")
COLORS = ((128, 128, 128), (128, 64, 128), (64, 0, 128), (192, 128, 128))
VOID = (0, 0, 0)


def draw_label(rng) -> tuple[np.ndarray, list[tuple[int, tuple[int, int, int, int]]]]:
    """Class indices (H, W) with 255 for void, and the boxes (x, y, w, h) of cars and signs."""
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[30:] = 1
    boxes = [
        (2, (int(rng.integers(0, 60)), 34, 28, 22)),
        (3, (int(rng.integers(4, 80)), 8, 12, 18)),
    ]
    for index, (x, y, w, h) in boxes:
        label[y : y + h, x : x + w] = index
    label[:3] = 255
    return label, boxes


def paint(rng, label: np.ndarray) -> np.ndarray:
    """A noisy picture (H, W, 3) of a label."""
    palette = np.zeros((256, 3), int)
    palette[: len(COLORS)] = COLORS
    return (palette[label] + rng.integers(0, 30, (*label.shape, 3))).clip(0, 255).astype(np.uint8)


def colored(label: np.ndarray) -> np.ndarray:
    """The label as colours (H, W, 3)."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(COLORS)] = COLORS
    return palette[label]


def semantic(base: Path, split: str, count: int = 4, form: str = "color") -> tuple[dict, list]:
    """Draw a split; return its entry and its labels.

    Args:
        base: the folder that gets `images/SPLIT` and `labels/SPLIT`.
        split: the name of the split.
        count: images.
        form: of the label PNG images: "color", "palette" or "index".
    """
    rng = np.random.default_rng(len(split))
    images, labels = base / "images" / split, base / "labels" / split
    images.mkdir(parents=True), labels.mkdir(parents=True)
    found = []
    for number in range(count):
        label, _ = draw_label(rng)
        found.append(label)
        Image.fromarray(paint(rng, label)).save(images / f"{number}.jpg")
        if form == "color":
            picture = Image.fromarray(colored(label))
        else:
            picture = Image.fromarray(label)
            if form == "palette":
                picture.putpalette(
                    np.concatenate([*COLORS, np.zeros(3 * 252, int)]).astype(np.uint8)
                )
        picture.save(labels / f"{number}.png")
    entry = {"NAME": f"own_{split}", "KIND": "semantic"}
    entry |= {"IMAGES": str(images), "LABELS": str(labels), "CLASSES": list(CLASSES)}
    if form != "index":
        entry |= {"LABEL_COLORS": [list(color) for color in COLORS], "IGNORED": list(VOID)}
    return entry, found


def instances(base: Path, split: str, count: int = 4, ids=(7, 12, 90)) -> tuple[dict, dict]:
    """Draw a split with cars (the second id) and signs (the third); return entry and content."""
    rng = np.random.default_rng(len(split))
    folder = base / "images" / split
    folder.mkdir(parents=True)
    categories = [{"id": i, "name": n} for i, n in zip(ids, ("bus", "car", "sign"), strict=True)]
    content: dict = {"images": [], "annotations": [], "categories": categories}
    for number in range(count):
        label, boxes = draw_label(rng)
        name = f"{number}.jpg"
        Image.fromarray(paint(rng, label)).save(folder / name)
        image = {"id": 100 + number, "file_name": name, "height": HEIGHT, "width": WIDTH}
        content["images"].append(image)
        for index, (x, y, w, h) in boxes:
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": image["id"],
                    "category_id": ids[index - 1],
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
    path = base / f"{split}.json"
    path.write_text(json.dumps(content))
    entry = {"NAME": f"own_{split}", "KIND": "instances"}
    return {**entry, "IMAGES": str(folder), "JSON": str(path)}, content


def panoptic(base: Path, split: str, count: int = 4, ids=(0, 5, 9, 30)) -> tuple[dict, list]:
    """Draw a split: sky and road are stuff, car and sign things; return its entry and labels."""
    rng = np.random.default_rng(len(split))
    folder, pngs = base / "images" / split, base / "panoptic" / split
    folder.mkdir(parents=True), pngs.mkdir(parents=True)
    categories = [
        {"id": i, "name": name, "isthing": int(place > 1)}
        for place, (i, name) in enumerate(zip(ids, CLASSES, strict=True))
    ]
    content: dict = {"images": [], "annotations": [], "categories": categories}
    labels = []
    for number in range(count):
        label, _ = draw_label(rng)
        labels.append(label)
        Image.fromarray(paint(rng, label)).save(folder / f"{number}.png")
        segments = np.where(label == 255, 0, 1000 * (label.astype(int) + 1))
        rgb = np.stack([segments % 256, segments // 256 % 256, segments // 256**2], axis=-1)
        Image.fromarray(rgb.astype(np.uint8)).save(pngs / f"{number}.png")
        image = {"id": 40 + number, "file_name": f"{number}.png", "height": HEIGHT, "width": WIDTH}
        content["images"].append(image)
        info = [
            {"id": 1000 * (c + 1), "category_id": ids[c], "iscrowd": 0, "area": int(area)}
            for c in range(4)
            if (area := (label == c).sum())
        ]
        annotation = {"image_id": image["id"], "file_name": f"{number}.png", "segments_info": info}
        content["annotations"].append(annotation)
    path = base / f"{split}.json"
    path.write_text(json.dumps(content))
    entry = {"NAME": f"own_{split}", "KIND": "panoptic", "PNGS": str(pngs)}
    return {**entry, "IMAGES": str(folder), "JSON": str(path)}, labels


def write_config(path: Path, base: str, entries: list[dict], **groups) -> Path:
    """Write a config of own data: the first entry to train on, the last to evaluate on.

    Args:
        path: the file.
        base: a name of the model zoo.
        entries: those of `DATASETS.CUSTOM`.
        groups: more keys.
    """
    names = [entry["NAME"] for entry in entries if isinstance(entry, dict)]
    content = {"_BASE_": base, **groups}
    content["DATASETS"] = {"CUSTOM": entries, "TRAIN": names[:-1] or names, "TEST": names[-1:]}
    path.write_text(json.dumps(content))  # JSON is YAML
    return path
