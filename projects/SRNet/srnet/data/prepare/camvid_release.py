"""CamVid as Brostow et al. (2009) released it, its labels in colours, and SegNet's split of it."""

from collections import Counter
from pathlib import Path

import numpy as np

from srnet.data.datasets.camvid import CLASSES, VOID
from srnet.data.read import decode

# The 32 colours of Cambridge's label_colors.txt but for Void's (0, 0, 0), grouped as is usual to
# SegNet's 11 classes.
COLORS = {
    "Sky": {"Sky": (128, 128, 128)},
    "Building": {
        "Archway": (192, 0, 128),
        "Bridge": (0, 128, 64),
        "Building": (128, 0, 0),
        "Tunnel": (64, 0, 64),
        "Wall": (64, 192, 0),
    },
    "Pole": {"Column_Pole": (192, 192, 128), "TrafficCone": (0, 0, 64)},
    "Road": {
        "Road": (128, 64, 128),
        "LaneMkgsDriv": (128, 0, 192),
        "LaneMkgsNonDriv": (192, 0, 64),
    },
    "Pavement": {
        "Sidewalk": (0, 0, 192),
        "ParkingBlock": (64, 192, 128),
        "RoadShoulder": (128, 128, 192),
    },
    "Tree": {"Tree": (128, 128, 0), "VegetationMisc": (192, 192, 0)},
    "SignSymbol": {
        "SignSymbol": (192, 128, 128),
        "Misc_Text": (128, 128, 64),
        "TrafficLight": (0, 64, 64),
    },
    "Fence": {"Fence": (64, 64, 128)},
    "Car": {
        "Car": (64, 0, 128),
        "OtherMoving": (128, 64, 64),
        "SUVPickupTruck": (64, 128, 192),
        "Train": (192, 64, 128),
        "Truck_Bus": (192, 128, 192),
    },
    "Pedestrian": {
        "Pedestrian": (64, 64, 0),
        "Animal": (64, 128, 64),
        "CartLuggagePram": (64, 0, 192),
        "Child": (192, 128, 64),
    },
    "Bicyclist": {"Bicyclist": (0, 128, 192), "MotorcycleScooter": (192, 0, 192)},
}


def _frames(name: str, first: int, last: int, step: int = 30) -> tuple[str, ...]:
    return tuple(name.format(i) for i in range(first, last + 1, step))


# SegNet's split: file names without suffix. One frame of the first run of 0016E5 lies off its step.
SPLITS = {
    "train": (
        *_frames("0001TP_{:06d}", 6690, 8520),
        *_frames("0006R0_f{:05d}", 930, 3930),
        *_frames("0016E5_{:05d}", 390, 870),
        "0016E5_00901",
        *_frames("0016E5_{:05d}", 930, 2400),
        *_frames("0016E5_{:05d}", 4350, 7920),
        *_frames("0016E5_{:05d}", 8190, 8640),
    ),
    "val": _frames("0016E5_{:05d}", 7959, 8159, step=2),
    "test": (
        *_frames("0001TP_{:06d}", 8550, 10380),
        *_frames("Seq05VD_f{:05d}", 0, 5100),
    ),
}

UNKNOWN = 255  # in the table from colours to classes


def color_table() -> np.ndarray:
    """Return the class of each colour: (2^24,) of uint8 indexed by red 2^16 + green 2^8 + blue."""
    table = np.full(1 << 24, UNKNOWN, np.uint8)
    table[0] = VOID  # the colour of Void is black
    for index, (name, _) in enumerate(CLASSES):
        for red, green, blue in COLORS[name].values():
            table[red << 16 | green << 8 | blue] = index
    return table


def read_color_label(
    path: Path, table: np.ndarray, max_unknown: float, unknown: Counter[Path]
) -> np.ndarray:
    """Read a colour label of Cambridge's as indices.

    The release has a few stray pixels whose colour is none of the 32. They become void: which class
    was meant is anyone's guess. Many of them mean another file or a lossy copy, and are an error.

    Args:
        path: the label.
        table: what :func:`color_table` returns.
        max_unknown: the share of pixels that may have an unknown colour.
        unknown: gets the number of unknown pixels under `path`, where there are any.

    Returns:
        (H, W) array of uint8.

    Raises:
        ValueError: it does not decode, has no colours, or too many pixels of unknown colours.
    """
    image = decode(path)
    if image.mode not in ("RGB", "RGBA", "P"):
        raise ValueError(
            f"{path} is a {image.mode} image where the 32 colours of CamVid are expected"
        )
    colors = np.array(image.convert("RGB"), np.uint32)
    code = colors @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    label = table[code]
    strange = code[label == UNKNOWN]
    if strange.size > max_unknown * label.size:
        codes, counts = np.unique(strange, return_counts=True)
        red, green, blue = (int(codes[counts.argmax()]) >> shift & 255 for shift in (16, 8, 0))
        raise ValueError(
            f"{path} has {strange.size} of {label.size} pixels in colours that are none of the 32 "
            f"of CamVid, most of them in ({red}, {green}, {blue}); up to {max_unknown:.2%} would "
            "become void (--max-unknown)"
        )
    if strange.size:
        unknown[path] = strange.size
    label[label == UNKNOWN] = VOID
    return label
