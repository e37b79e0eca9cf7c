"""The runs of a sweep: where they are, how far they are, and who does which."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode

from srnet.engine.lock import OutputDirInUse, check_unlocked
from srnet.evaluation.metrics_table import read_final_metrics
from srnet.model_zoo import get_cfg

from .definition import Row, Sweep

# Keys in which runs of one row may differ: they belong to the machine, or do not change the model.
FREE = (
    "CUDNN_BENCHMARK",
    "DATALOADER.NUM_WORKERS",
    "MODEL.DEVICE",
    "OUTPUT_DIR",
    "SEED",  # that of the run is compared
    "SOLVER.CHECKPOINT_PERIOD",
    "TEST.EVAL_PERIOD",
    "TEST.VALIDATION_LOSS",
    "VIS_PERIOD",
    "WANDB",
)


@dataclass(frozen=True)
class Run:
    """A training of a row with a seed.

    Attributes:
        row: the row.
        seed: the seed.
        folder: its OUTPUT_DIR, OUTPUT/ROW/seedSEED.
    """

    row: Row
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """ROW/seedSEED."""
        return f"{self.row.name}/seed{self.seed}"

    @property
    def log(self) -> Path:
        """The file that has what the training prints."""
        return self.folder / "sweep.log"

    def options(self, opts: Sequence[str] = ()) -> list[str]:
        """The KEY VALUE pairs of its training.

        Args:
            opts: pairs that override those of the sweep.
        """
        own = ["SEED", str(self.seed), "OUTPUT_DIR", str(self.folder)]
        return [*self.row.options(), *opts, *own]

    def config(self, opts: Sequence[str] = ()) -> CfgNode:
        """The config of its training, for a CPU."""
        cfg = get_cfg(self.row.base, [*self.options(opts), "MODEL.DEVICE", "cpu"])
        cfg.freeze()
        return cfg


def all_runs(
    sweep: Sweep, output: Path, rows: Sequence[Row] = (), seeds: Sequence[int] = ()
) -> list[Run]:
    """The runs in the order in which they are trained: every row once before the next seed.

    Args:
        sweep: the sweep.
        output: the folder of its results.
        rows: those to run; all by default.
        seeds: those to run; the sweep's by default.
    """
    return [
        Run(row, seed, output / row.name / f"seed{seed}")
        for seed in seeds or sweep.seeds
        for row in rows or sweep.rows
    ]


def shard(runs: Sequence[Run], number: int, count: int) -> list[Run]:
    """The runs of one of several machines: each run belongs to one of them.

    Args:
        runs: those of all machines.
        number: of this machine, from 1.
        count: how many machines there are.
    """
    return list(runs[number - 1 :: count])


def has_checkpoint(folder: Path) -> bool:
    """Whether a training has saved something to go on from."""
    return any(folder.glob("*.pth"))


def lock_holder(folder: Path) -> str:
    """Who trains in a folder now, as a sentence; "" for nobody."""
    try:
        check_unlocked(str(folder))
    except OutputDirInUse as error:
        return str(error)
    return ""


def final_metrics(folder: Path, cfg: CfgNode) -> dict[str, dict[str, float]] | None:
    """The evaluation at the end of a training; None where it has not ended.

    Args:
        folder: its OUTPUT_DIR.
        cfg: its config.

    Returns:
        For each task, with the dataset before it where there are several, the metrics by name.
    """
    path = folder / "metrics.json"
    found = read_final_metrics(path) if path.is_file() else None
    if found is None:
        return None
    iteration, tasks = found
    early = cfg.TEST.EARLY_STOPPING.PATIENCE and (folder / "model_final.pth").is_file()
    return tasks if early or iteration >= cfg.SOLVER.MAX_ITER else None


def difference_to(cfg: CfgNode, run: Run) -> str:
    """How the config that a run was made with differs from that which the sweep has now.

    Args:
        cfg: the config of its row.
        run: the run; its folder has the config.yaml of its training.

    Returns:
        The first keys that differ with both values, or "".

    Raises:
        ValueError: config.yaml cannot be read.
    """
    path = run.folder / "config.yaml"
    if not path.is_file():
        return ""
    try:
        before = yaml.safe_load(path.read_text(encoding="utf-8"))
        differences = list(_differences(before, cfg, ""))
        if before.get("SEED") != run.seed:
            differences.insert(0, ("SEED", before.get("SEED"), run.seed))
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError) as error:
        raise ValueError(f"{path} is no config: {' '.join(str(error).split())}") from error
    shown = [f"{key} {old!r} there and {new!r} here" for key, old, new in differences]
    more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    return "; ".join(shown[:3]) + more


def _differences(before: dict, now: CfgNode, prefix: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield the keys that both have with different values. Keys of another version are no news."""
    for name, old in before.items():
        key = f"{prefix}{name}"
        if key in FREE or name not in now:
            continue
        new = now[name]
        if isinstance(new, CfgNode):
            yield from _differences(old, new, f"{key}.")
        elif key == "MODEL.WEIGHTS":  # the place is the machine's
            if bool(old) != bool(new):
                yield key, old, new
        elif _plain(old) != _plain(new):
            yield key, _plain(old), _plain(new)


def _plain(value: Any) -> Any:
    """A value as YAML has it: lists for tuples."""
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
