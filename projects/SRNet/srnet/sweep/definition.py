"""A sweep: the rows of a table, as overrides of a config, and the seeds they are trained with."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from srnet.model_zoo.names import find_config
from srnet.model_zoo.yaml_files import read_with_bases

KEYS = ("title", "note", "base", "common", "rows", "seeds", "metrics", "reference")
ROW_KEYS = ("name", "base", "overrides", "paper", "reference")
# A row is a folder, and is told from a config key on the command line.
NAME = re.compile(r"[a-z0-9][A-Za-z0-9_.+-]*")
METRIC = re.compile(r"[^/\s]+/[^/\s]+")
# What the sweep sets itself.
OWN_KEYS = {"OUTPUT_DIR": "the sweep's --output", "SEED": "the sweep's seeds"}


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: its name, and that of its folder.
        base: the config that it builds on.
        overrides: dotted config keys and values, those of all rows first.
        paper: the paper's numbers by metric.
        reference: the name of the row that it is compared with; "" for none.
    """

    name: str
    base: Path
    overrides: dict[str, Any] = field(default_factory=dict)
    paper: dict[str, float] = field(default_factory=dict)
    reference: str = ""

    def options(self) -> list[str]:
        """The overrides as KEY VALUE pairs of a command line."""
        return [word for key, value in self.overrides.items() for word in (key, repr(value))]


@dataclass(frozen=True)
class Sweep:
    """A table of rows.

    Attributes:
        path: the file that it was read from.
        title: what it is, a line.
        note: what a reader of the table has to know.
        rows: its rows.
        seeds: the seeds that each row is trained with.
        metrics: "TASK/METRIC", as metrics.json names them without the dataset.
    """

    path: Path
    title: str
    note: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of its file without ".yaml"."""
        return self.path.stem

    def row(self, name: str) -> Row:
        """The row of a name.

        Raises:
            ValueError: there is none; the message lists the names.
        """
        for row in self.rows:
            if row.name == name:
                return row
        names = ", ".join(row.name for row in self.rows)
        raise ValueError(f"{self.path} has no row {name!r}; its rows are {names}")


def read_sweep(path: Path) -> Sweep:
    """Read the file of a sweep.

    The file is YAML without tags. It may name files it builds on under `_BASE_`, as configs do: its
    keys replace theirs, and those of `common` are added to theirs.

    Raises:
        FileNotFoundError: the file, one it builds on or the config of a row is missing.
        ValueError: a key is missing, unknown or has a wrong value; the message names the file, the
            key, the value and what is allowed.
    """
    content: dict[str, Any] = {}
    for file, part in read_with_bases(path):
        common = _Reader(file).overrides(part.get("common", {}), "common")
        content |= part | {"common": content.get("common", {}) | common}
    return _Reader(path).sweep(content)


class _Reader:
    """Reads the content of a file; its errors name the file."""

    def __init__(self, path: Path):
        self.path = path

    def fail(self, problem: str) -> NoReturn:
        raise ValueError(f"{self.path}: {problem}")

    def sweep(self, content: dict[str, Any]) -> Sweep:
        self.check_keys(content, KEYS, ("rows", "seeds", "metrics"), "the sweep")
        rows = content["rows"]
        if not isinstance(rows, list) or not rows:
            self.fail(f"rows must be a list of rows, and is {rows!r}")
        common = self.overrides(content.get("common", {}), "common")
        metrics = self.metrics(content["metrics"])
        reference = self.text(content, "reference", "the sweep")
        found = []
        for number, row in enumerate(rows, start=1):
            base = content.get("base", "")
            found.append(self.row(row, f"row {number}", base, common, metrics, reference))
        self.check_names(found)
        return Sweep(
            path=self.path,
            title=self.text(content, "title", "the sweep") or self.path.stem,
            note=self.text(content, "note", "the sweep"),
            rows=tuple(found),
            seeds=self.seeds(content["seeds"]),
            metrics=metrics,
        )

    def row(
        self,
        content: Any,
        where: str,
        base: str,
        common: dict[str, Any],
        metrics: tuple[str, ...],
        reference: str,
    ) -> Row:
        if not isinstance(content, dict):
            self.fail(f"{where} must be keys and values, and is {content!r}")
        self.check_keys(content, ROW_KEYS, ("name",), where)
        name = content["name"]
        if not isinstance(name, str) or not NAME.fullmatch(name):
            self.fail(
                f"{where}: the name {name!r} must begin with a small letter or a digit and have "
                "letters, digits and . _ + - alone, as it names a folder"
            )
        where = f"row {name}"
        overrides = common | self.overrides(content.get("overrides", {}), f"{where}: overrides")
        return Row(
            name=name,
            base=self.config(content.get("base", base), where),
            overrides=overrides,
            paper=self.paper(content.get("paper"), metrics, where),
            reference=self.text(content, "reference", where) or reference,
        )

    def check_keys(
        self, content: dict[str, Any], known: Iterable[str], needed: Iterable[str], where: str
    ) -> None:
        for key in content:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"its keys are {', '.join(known)}"
                self.fail(f"{where} has no key {key}; {hint}")
        for key in needed:
            if key not in content:
                self.fail(f"{where} needs the key {key}")

    def check_names(self, rows: list[Row]) -> None:
        names = [row.name for row in rows]
        for name in names:
            if names.count(name) > 1:
                self.fail(f"two rows have the name {name}")
        for row in rows:
            if row.reference and row.reference not in names:
                known = ", ".join(names)
                self.fail(f"the reference {row.reference!r} is no row; the rows are {known}")

    def text(self, content: dict[str, Any], key: str, where: str) -> str:
        value = content.get(key, "")
        if not isinstance(value, str):
            self.fail(f"{where}: {key} must be text, and is {value!r}")
        return " ".join(value.split())

    def overrides(self, content: Any, where: str) -> dict[str, Any]:
        if not isinstance(content, dict):
            self.fail(f"{where} must be config keys and values, and is {content!r}")
        for key, value in content.items():
            if key in OWN_KEYS:
                self.fail(f"{where}: {key} follows from {OWN_KEYS[key]}: remove it")
            if isinstance(value, dict):
                self.fail(
                    f"{where}: {key} has keys, and keys are written with dots here, as in "
                    "SOLVER.BASE_LR: 0.01"
                )
        return {str(key): value for key, value in content.items()}

    def metrics(self, content: Any) -> tuple[str, ...]:
        names = content if isinstance(content, list) else [content]
        for name in names:
            if not isinstance(name, str) or not METRIC.fullmatch(name):
                self.fail(
                    f"metrics has {name!r}, and a metric is TASK/METRIC without the dataset, as "
                    "sem_seg/mIoU"
                )
        if not names or len(set(names)) < len(names):
            self.fail(f"metrics must be one or several different metrics, and is {content!r}")
        return tuple(names)

    def seeds(self, content: Any) -> tuple[int, ...]:
        wrong = not isinstance(content, list) or not content
        if wrong or any(type(seed) is not int or seed < 0 for seed in content):
            self.fail(f"seeds must be a list of whole numbers from 0 on, and is {content!r}")
        if len(set(content)) < len(content):
            self.fail(f"seeds has one twice: {content!r}")
        return tuple(content)

    def paper(self, content: Any, metrics: tuple[str, ...], where: str) -> dict[str, float]:
        """The paper's numbers; a single one is that of the first metric."""
        if content is None:
            return {}
        numbers = content if isinstance(content, dict) else {metrics[0]: content}
        for metric, number in numbers.items():
            if metric not in metrics:
                self.fail(f"{where}: paper names {metric!r}, and metrics are {', '.join(metrics)}")
            if type(number) not in (int, float):
                self.fail(f"{where}: paper must be a number, and is {number!r}")
        return {metric: float(number) for metric, number in numbers.items()}

    def config(self, base: Any, where: str) -> Path:
        """The config that a row builds on: beside the sweep's file, or of the model zoo."""
        if not isinstance(base, str) or not base:
            self.fail(f"{where} needs a base, a config: its own or the sweep's; it is {base!r}")
        beside = self.path.parent / Path(base).expanduser()
        if beside.is_file():
            return beside
        try:
            return find_config(base)
        except OSError as error:
            raise type(error)(f"{self.path}: {where}: {error}") from error
