"""What `srnet sweep` does: check everything, train, and write the table."""

from collections.abc import Sequence
from pathlib import Path

from .check import check_metrics, check_models, row_config
from .definition import OWN_KEYS, Sweep
from .launch import run_all
from .results import collect
from .runs import all_runs, shard
from .table import to_markdown, write_csv


def run_sweep(
    sweep: Sweep,
    *,
    output: Path | None = None,
    rows: Sequence[str] = (),
    seeds: Sequence[int] = (),
    shard_of: tuple[int, int] = (1, 1),
    opts: Sequence[str] = (),
    gpus: int = 1,
    only_table: bool = False,
) -> None:
    """Train the runs that have not ended, then print the table and write it as CSV.

    Args:
        sweep: the sweep.
        output: the folder of the runs, and of table.csv and per_class.csv; output/NAME by default.
        rows: names of the rows to train and to show; all by default.
        seeds: those to train and to show; the sweep's by default.
        shard_of: which part of the runs to train, of how many.
        opts: KEY VALUE pairs for all runs.
        gpus: GPUs of each run.
        only_table: train nothing.

    Raises:
        ChildProcessError: runs failed; the message names them and their logs.
        ValueError: the sweep cannot be run as it is.
    """
    _check_options(opts)
    output = output or Path("output") / sweep.name
    chosen = [sweep.row(name) for name in dict.fromkeys(rows)] or list(sweep.rows)
    seeds = list(dict.fromkeys(seeds)) or list(sweep.seeds)
    # A row is compared with its reference, also where that is not shown.
    references = {row.reference for row in chosen} - {row.name for row in chosen} - {""}
    known = [*chosen, *(sweep.row(name) for name in sorted(references))]
    every = all_runs(sweep, output, known, seeds)
    first = {run.row.name: run for run in reversed(every)}
    configs = {name: row_config(sweep, run, opts) for name, run in first.items()}
    check_metrics(sweep, configs)
    failed = []
    if not only_table:
        check_models(sweep, chosen, configs)
        runs = shard([run for run in every if run.row in chosen], *shard_of)
        failed = run_all(runs, configs, opts, gpus=gpus, say=_say)
    results = collect(sweep, every, configs)
    write_csv(sweep, results, chosen, output)
    print(to_markdown(sweep, results, chosen, len(chosen) * len(seeds)), end="", flush=True)
    if failed:
        logs = ", ".join(str(run.log) for run in failed)
        raise ChildProcessError(f"{len(failed)} of {len(runs)} runs failed, their logs are {logs}")


def _check_options(opts: Sequence[str]) -> None:
    for key in opts[::2]:
        if key in OWN_KEYS:
            raise ValueError(f"{key} follows from {OWN_KEYS[key]}: leave it out")


def _say(text: str) -> None:
    print(text, flush=True)
