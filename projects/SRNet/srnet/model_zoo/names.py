"""The names of the configs that this project ships."""

import difflib
import os
from pathlib import Path

CONFIGS = Path(__file__).parent / "configs"


def config_names() -> list[str]:
    """All names, relative to `configs/`, sorted, without the Base files others build on."""
    paths = (path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.yaml"))
    return sorted(path.as_posix() for path in paths if not path.name.startswith("Base-"))


def find_config(name_or_path: str | os.PathLike) -> Path:
    """Find a config file.

    Args:
        name_or_path: the path of a file, or a name relative to `configs/`. An existing file wins.

    Raises:
        FileNotFoundError: there is neither; the message lists the nearest names.
        IsADirectoryError: it is a folder.
    """
    path = Path(os.path.expanduser(name_or_path))
    if path.is_file():
        return path
    inside = CONFIGS / path
    if not inside.resolve().is_relative_to(CONFIGS.resolve()):
        inside = path  # a name of the zoo does not lead out of it
    if inside.is_file():
        return inside
    if path.is_dir() or inside.is_dir():
        raise IsADirectoryError(
            f"{name_or_path} is a folder, not a config file; configs with such names are "
            f"{', '.join(nearest_names(str(name_or_path)))}"
        )
    raise FileNotFoundError(
        f"there is no config file {name_or_path}, and no config of that name in the model zoo; "
        f"the nearest names are {', '.join(nearest_names(str(name_or_path)))}"
    )


def zoo_name(path: Path) -> str:
    """The name of a config file in the model zoo; of another file, its name without the folder."""
    path = path.resolve()
    inside = path.is_relative_to(CONFIGS.resolve())
    return path.relative_to(CONFIGS.resolve()).as_posix() if inside else path.name


def nearest_names(name: str) -> list[str]:
    """Up to five names that resemble `name`; where none does, the folders, as "FOLDER/..."."""
    names = config_names()
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.3)
    return near or sorted({f"{folder}/..." for folder, _ in (n.split("/") for n in names)})
