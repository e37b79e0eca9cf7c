"""Processes of a training or an evaluation: checked, started, set up, and what they run."""

import argparse
import os
import signal
from collections.abc import Callable
from datetime import timedelta

import detectron2.engine
import torch
from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch.multiprocessing import ProcessExitedException

from srnet.checkpoint import find_checkpoints, load_for_evaluation
from srnet.data.paths import written_to
from srnet.evaluation.results import by_dataset, write_results
from srnet.modeling import build_model

from .cluster import find_place
from .explain import training_errors_explained
from .heartbeat import Heartbeat, Watch
from .meeting import as_agent_store, join, meet, parse_url
from .processes import limit_gloo_group, run_process, share_cpu_threads
from .signals import stop_signals_passed_on
from .started import OtherCheckpoints, run_at_place
from .trainer import Trainer

DEFAULT_MINUTES = 10.0  # that processes wait for each other; Detectron2 has 30


def launch(main: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> None:
    """Run a function in as many processes as the command line asks for.

    Several processes start anew and import `main`, so it has to be a function of a module. Where
    torchrun or SLURM's srun has started this process, it is one of those that they started.

    Args:
        main: what each process runs.
        args: its argument, with `num_gpus`, `num_machines`, `machine_rank`, `dist_url`, and
            `timeout` in minutes (10 without it). `restarted` and `may_restart` are set: whether
            torchrun has started the processes again, and whether it would.

    Raises:
        ValueError: one of these contradicts the machine, the others or the environment.
        ChildProcessError: a process was killed.
        TimeoutError: a machine did not come, or a process did not answer; the message names it.
        SystemExit: a signal stopped the training in all processes; 128 plus its number.
    """
    check_processes(args)
    timeout = timedelta(minutes=getattr(args, "timeout", DEFAULT_MINUTES))
    args.restarted = args.may_restart = False
    place = find_place(args)
    if place is not None:
        run_at_place(main, args, place, timeout)
        return
    processes = args.num_gpus * args.num_machines
    if processes == 1:
        run_process(main, args)
        return
    meeting = meet(args, timeout)
    first = args.machine_rank * args.num_gpus
    try:
        with (
            stop_signals_passed_on(processes),
            Watch(meeting, processes, range(first, first + args.num_gpus)),
            as_agent_store(),
        ):
            detectron2.engine.launch(
                run_one_of_many,
                args.num_gpus,
                num_machines=args.num_machines,
                machine_rank=args.machine_rank,
                dist_url=meeting.url,
                args=(main, args, meeting.host, meeting.port, timeout),
                timeout=timeout,
            )
    except ProcessExitedException as error:
        raise ChildProcessError(
            f"rank {first + error.error_index} ended with {error.signal_name or error.exit_code}"
            + (": most likely the memory ran out" if error.signal_name == "SIGKILL" else "")
        ) from error


def run_one_of_many(
    main: Callable[[argparse.Namespace], object],
    args: argparse.Namespace,
    host: str,
    port: int,
    timeout: timedelta,
) -> object:
    """Run one of several processes, watched by all launchers.

    Args:
        main: what it runs.
        args: its argument.
        host: where the launch has its store.
        port: where the launch has its store.
        timeout: of collective operations.
    """
    limit_gloo_group(timeout)
    heartbeat = Heartbeat(join(host, port, timeout), comm.get_rank(), comm.get_world_size())
    with heartbeat.beating():
        try:
            return run_process(main, args)
        except KeyboardInterrupt:
            # PyTorch would take it for the end of the parent, and end this process with 0.
            raise SystemExit(128 + signal.SIGINT) from None


def check_processes(args: argparse.Namespace) -> None:
    """Check the numbers of processes and machines.

    Raises:
        ValueError: one is out of range; the message names the option and what is allowed.
    """
    gpus = torch.cuda.device_count()
    if args.num_gpus < 1:
        raise ValueError(
            f"--num-gpus {args.num_gpus}: must be at least 1; to run on the CPU, leave it out and "
            "set MODEL.DEVICE cpu"
        )
    if gpus and args.num_gpus > gpus:
        raise ValueError(f"--num-gpus {args.num_gpus}: this machine has {gpus}")
    if args.num_machines < 1:
        raise ValueError(f"--num-machines {args.num_machines}: must be at least 1")
    if not 0 <= args.machine_rank < args.num_machines:
        raise ValueError(
            f"--machine-rank {args.machine_rank}: must be from 0 to {args.num_machines - 1}, "
            f"as --num-machines is {args.num_machines}"
        )
    if args.num_machines > 1 and args.dist_url == "auto":
        raise ValueError(
            f"--num-machines {args.num_machines} needs --dist-url tcp://HOST:PORT, "
            "the same on all machines"
        )
    if args.num_gpus * args.num_machines > 1 and args.dist_url != "auto":
        parse_url(args.dist_url)


def set_up(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Prepare a process: output folder, loggers, random numbers, CPU threads.

    Args:
        cfg: the config of the run.
        args: the command line, which is logged.
    """
    with written_to(cfg.OUTPUT_DIR):
        default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, comm.get_rank(), name="srnet")
    if cfg.MODEL.DEVICE == "cpu":
        share_cpu_threads()


def train(cfg: CfgNode, *, resume: bool = False, may_restart: bool = False) -> None:
    """Train the model of a config.

    Args:
        cfg: a frozen config.
        resume: whether to continue from the newest checkpoint in `OUTPUT_DIR`.
        may_restart: whether the launcher would start a failed training again, which then resumes.

    Raises:
        OtherCheckpoints: the training may be started again, and would resume from a checkpoint of
            another one.
    """
    if may_restart and not resume and find_checkpoints(cfg.OUTPUT_DIR):
        raise OtherCheckpoints(
            f"OUTPUT_DIR {cfg.OUTPUT_DIR} has checkpoints of another training, and torchrun's "
            "--max-restarts would continue from them: give --resume, or choose another OUTPUT_DIR"
        )
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()


def evaluate(cfg: CfgNode, *, resume: bool = False) -> dict:
    """Evaluate the model of a config on `DATASETS.TEST`.

    Args:
        cfg: a frozen config.
        resume: whether to take the newest checkpoint in `OUTPUT_DIR`, not `MODEL.WEIGHTS`.

    Returns:
        The results of the main process, as Detectron2's evaluators return them. They are also in
        `OUTPUT_DIR/inference/results.json`.

    Raises:
        ValueError: `DATASETS.TEST` is empty.
        RuntimeError: the weights are missing, or not those of the model.
    """
    if not cfg.DATASETS.TEST:
        raise ValueError("DATASETS.TEST is empty: name at least one dataset to evaluate on")
    model = build_model(cfg)
    load_for_evaluation(cfg, model, resume=resume)
    with training_errors_explained(cfg, evaluating=True):
        results = Trainer.test(cfg, model)
    if comm.is_main_process():
        folder = os.path.join(cfg.OUTPUT_DIR, "inference")
        write_results(folder, by_dataset(results, cfg.DATASETS.TEST))
        verify_results(cfg, results)
    return results
