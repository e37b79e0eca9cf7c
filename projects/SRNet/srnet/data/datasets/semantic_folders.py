"""Semantic datasets of two folders: images, and label images with the same names."""

import logging
import os
from collections.abc import Container, Iterable

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def list_files(folder: str | os.PathLike, suffixes: str | tuple[str, ...]) -> list[str]:
    """The names in a folder that end so, in small or capital letters, sorted; no hidden ones.

    macOS leaves a hidden `._NAME` beside each NAME on file systems that are not its own.
    """
    names = (n for n in os.listdir(folder) if not n.startswith("."))
    return sorted(n for n in names if n.lower().endswith(suffixes))


def preparation_advice(prepare: str) -> str:
    """The end of an error message about missing data, with the command that prepares it."""
    return (
        f"Prepare it with `{prepare}`, or point DETECTRON2_DATASETS (now "
        f"{os.environ.get('DETECTRON2_DATASETS', 'unset, meaning ./datasets')}) to where it is."
    )


def load_semantic_folders(
    image_dir: str, label_dir: str, *, prepare: str, expected: int | None = None
) -> list[dict]:
    """List the images of a folder with their labels, as Detectron2's standard dataset dicts.

    Args:
        image_dir: images, `.jpg` or `.png`.
        label_dir: label images `STEM.png`.
        prepare: the command that prepares the dataset, for the error messages.
        expected: images a complete split has; another number is logged.

    Returns:
        Dicts with "file_name", "sem_seg_file_name" and "image_id", sorted by name.

    Raises:
        FileNotFoundError: a folder is missing or empty, or images have no label; the message says
            what was looked for and how it is prepared.
        ValueError: two images have one name but for its suffix, so one label.
    """
    advice = preparation_advice(prepare)
    for folder in (image_dir, label_dir):
        if not os.path.isdir(folder):
            raise FileNotFoundError(
                f"the dataset folder {os.path.abspath(folder)} is missing. {advice}"
            )
    names, labels = list_files(image_dir, IMAGE_SUFFIXES), set(os.listdir(label_dir))
    dicts, missing = pair_with_labels(image_dir, names, label_dir, labels)
    if missing or not dicts:
        what = (
            f"{len(missing)} of {len(names)} images have no label, the first is {missing[0]}"
            if missing
            else "no image"
        )
        raise FileNotFoundError(
            f"the dataset in {os.path.abspath(image_dir)} and {os.path.abspath(label_dir)} is "
            f"incomplete: {what}. {advice}"
        )
    if expected is not None and len(dicts) != expected:
        logging.getLogger(__name__).warning(
            "%s holds %d images, the complete split has %d", image_dir, len(dicts), expected
        )
    return dicts


def pair_with_labels(
    image_dir: str,
    names: Iterable[str],
    label_dir: str,
    labels: Container[str],
    suffix: str = ".png",
) -> tuple[list[dict], list[str]]:
    """Find the label of each image: STEM and a suffix.

    Args:
        image_dir: the folder of the images.
        names: of the images, relative to it.
        label_dir: the folder of the labels.
        labels: the names that are there, relative to it.
        suffix: what stands in a label's name for the suffix of its image.

    Returns:
        Detectron2's dicts, with "file_name", "sem_seg_file_name" and "image_id", the stem; and the
        names of the images without a label.

    Raises:
        ValueError: two images have one name but for its suffix, so one label.
    """
    dicts, missing = [], []
    by_stem: dict[str, str] = {}
    for name in names:
        stem = os.path.splitext(name)[0]
        if stem in by_stem:
            raise ValueError(
                f"{os.path.join(image_dir, by_stem[stem])} and {name} are two images with the one "
                f"label {stem}{suffix}: remove one of them"
            )
        by_stem[stem] = name
        if f"{stem}{suffix}" not in labels:
            missing.append(name)
            continue
        dicts.append(
            {
                "file_name": os.path.join(image_dir, name),
                "sem_seg_file_name": os.path.join(label_dir, f"{stem}{suffix}"),
                "image_id": stem,
            }
        )
    return dicts, missing
