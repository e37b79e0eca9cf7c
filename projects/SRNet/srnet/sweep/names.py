"""The sweeps that this project ships."""

import difflib
import os
from pathlib import Path

SWEEPS = Path(__file__).parents[1] / "model_zoo" / "sweeps"


def sweep_names() -> list[str]:
    """The names of the shipped sweeps, without ".yaml" and the Base files, sorted."""
    names = (path.stem for path in SWEEPS.glob("*.yaml"))
    return sorted(name for name in names if not name.startswith("Base-"))


def find_sweep(name_or_path: str | os.PathLike) -> Path:
    """Find the file of a sweep.

    Args:
        name_or_path: the path of a file, or the name of a shipped sweep with or without ".yaml". An
            existing file wins.

    Raises:
        FileNotFoundError: there is neither; the message lists the nearest names.
    """
    path = Path(os.path.expanduser(name_or_path))
    if path.is_file():
        return path
    name = str(name_or_path).removesuffix(".yaml")
    names = sweep_names()
    if name in names:
        return SWEEPS / f"{name}.yaml"
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names
    raise FileNotFoundError(
        f"there is no file {name_or_path}, and no shipped sweep of that name; the nearest names "
        f"are {', '.join(near)}"
    )
