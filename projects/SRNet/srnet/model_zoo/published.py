"""The trained weights that are published: where they lie, their hashes and their results."""

from pathlib import Path
from typing import Any, NamedTuple

from .yaml_files import read_with_bases

TRAINED = Path(__file__).parent / "trained"
TABLE = TRAINED / "table.yaml"
# `MODEL.WEIGHTS: srnet://NAME` names the published weights of a config.
SCHEME = "srnet://"
# For images of streets.
DEFAULT = "CamVid-SemanticSegmentation/lite0_SR.yaml"


class Published(NamedTuple):
    """Weights that training a config gave."""

    place: str  # a file, a URL or package://MODULE/PATH
    sha256: str  # of the file
    results: dict[str, float]  # dataset -> mIoU in %, as the evaluator prints it

    @property
    def url(self) -> str:
        """What to give as `MODEL.WEIGHTS`: the place and the hash that loading checks."""
        return f"{self.place}#sha256={self.sha256}"


def read_table(table: Path | None = None) -> dict[str, Published]:
    """Read the table of published weights.

    Each line has the name of a config without ".yaml", and of its weights the `place`, the `sha256`
    of the file, and `results`. A place without "://" is a file beside the table, or an absolute
    path.

    Args:
        table: the file; None for that of this package.

    Returns:
        The weights by the name of their config.

    Raises:
        ValueError: a line is incomplete; the message names it.
    """
    table = table or TABLE
    if not table.is_file():
        return {}
    ((_, content),) = read_with_bases(table)
    return {name: _read_line(name, line, table) for name, line in content.items()}


def _read_line(name: str, line: Any, table: Path) -> Published:
    if not isinstance(line, dict) or not {"place", "sha256"} <= set(line):
        raise ValueError(f"{table}: {name} needs a place and a sha256, and is {line!r}")
    place = str(line["place"])
    if "://" not in place:
        place = str(table.parent / Path(place).expanduser())
    return Published(place, str(line["sha256"]), dict(line.get("results") or {}))


def default_model() -> str:
    """The name of the config with published weights that suits images of streets."""
    return DEFAULT


def checkpoint_url(config_path: str) -> str | None:
    """The published weights of a config, with their hash; None where there are none.

    Args:
        config_path: the name of a config, with or without ".yaml".
    """
    found = read_table().get(config_path.removesuffix(".yaml"))
    return found.url if found else None


def resolve_weights(weights: str) -> str:
    """Replace ``srnet://NAME`` by the published weights of the config NAME.

    Args:
        weights: `MODEL.WEIGHTS`; what begins otherwise is returned as it is.

    Raises:
        FileNotFoundError: nothing is published under the name; the message lists what is.
    """
    if not weights.startswith(SCHEME):
        return weights
    name = weights.removeprefix(SCHEME)
    url = checkpoint_url(name)
    if url is None:
        names = ", ".join(read_table()) or "none"
        raise FileNotFoundError(
            f"MODEL.WEIGHTS={weights}: no weights are published under that name; those that are: "
            f"{names}"
        )
    return url
