"""The place of a process that torchrun or SLURM's srun has started, from its environment.

Detectron2's `launch` starts processes itself. torchrun and srun have started them already, and each
one reads here which of them it is and where they meet. Set variables of torchrun come before those
of srun, which may have started torchrun.
"""

import argparse
import os
import re
import sys
from collections.abc import Mapping
from typing import NamedTuple

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
OPTIONS = {"num_gpus": 1, "num_machines": 1, "machine_rank": 0, "dist_url": "auto"}
# Below the ports that Linux gives to clients, 32768 and higher.
FIRST_PORT, PORTS = 20000, 12000
# Steps that srun did not start, such as that of the batch script, have numbers from here on.
SPECIAL_STEPS = 0xFFFFFFF0


class Place(NamedTuple):
    """Where a launcher has put this process.

    Attributes:
        launcher: "torchrun" or "srun".
        rank: of this process, from 0.
        world_size: number of processes on all machines.
        local_rank: of this process among those of its machine.
        local_size: number of processes on a machine, the same on all.
        host: where the processes meet.
        port: where the processes meet.
        hosted: whether the launcher keeps a store there; otherwise the first process does.
        restarts: how often torchrun has started the processes again.
        may_restart: whether torchrun would.
    """

    launcher: str
    rank: int
    world_size: int
    local_rank: int
    local_size: int
    host: str
    port: int
    hosted: bool = False
    restarts: int = 0
    may_restart: bool = False

    @property
    def rank_name(self) -> str:
        """The variable of the rank."""
        return "RANK" if self.launcher == "torchrun" else "SLURM_PROCID"

    @property
    def size_name(self) -> str:
        """The variable of the number of processes."""
        return "WORLD_SIZE" if self.launcher == "torchrun" else "SLURM_STEP_NUM_TASKS"


def find_place(
    args: argparse.Namespace, environment: Mapping[str, str] | None = None
) -> Place | None:
    """The place of this process, None where neither torchrun nor srun put it into one.

    Args:
        args: the command line, with `num_gpus`, `num_machines`, `machine_rank` and `dist_url`.
        environment: the variables; those of this process by default.

    Raises:
        ValueError: variables are missing, wrong or contradict the command line; the message names
            them.
    """
    variables = os.environ if environment is None else environment
    given = [name for name, default in OPTIONS.items() if getattr(args, name) != default]
    if _is_of_torchrun(variables):
        place = _of_torchrun(variables)
        source = "RANK and WORLD_SIZE"
    elif (tasks := _tasks(variables)) > 1:
        if args.num_machines == tasks:
            return None  # a task a machine, and each starts its processes
        place = _of_srun(variables, tasks)
        source = "SLURM_PROCID and SLURM_STEP_NUM_TASKS"
    else:
        _say_that_srun_is_missing(args, variables)
        return None
    if given:
        option = f"--{given[0].replace('_', '-')} {getattr(args, given[0])}"
        raise ValueError(
            f"{option} and {place.launcher}'s {source} both say which processes there are: leave "
            f"out {option}, or start the program without {place.launcher}"
        )
    return _checked(place)


def _is_of_torchrun(variables: Mapping[str, str]) -> bool:
    own = "RANK" in variables or "LOCAL_RANK" in variables
    # Scripts of SLURM often export the size and the address for all tasks.
    size = variables.get("WORLD_SIZE", "1") != "1" and _tasks(variables) < 2
    # Some platforms name the one process of a job without being torchrun.
    alone = variables.get("WORLD_SIZE") == "1" and "LOCAL_RANK" not in variables
    return (own or size) and not alone


def _of_torchrun(variables: Mapping[str, str]) -> Place:
    missing = [name for name in TORCHRUN if not variables.get(name)]
    if missing:
        there = [f"{name}={variables[name]}" for name in TORCHRUN if variables.get(name)]
        raise ValueError(
            f"the environment has {' '.join(there)} and no {', '.join(missing)}: torchrun sets all "
            "of them; to start processes with --num-gpus, unset those"
        )
    restarts = _number(variables, "TORCHELASTIC_RESTART_COUNT", 0)
    return Place(
        "torchrun",
        _number(variables, "RANK"),
        _number(variables, "WORLD_SIZE"),
        _number(variables, "LOCAL_RANK"),
        _number(variables, "LOCAL_WORLD_SIZE"),
        variables["MASTER_ADDR"],
        _number(variables, "MASTER_PORT"),
        hosted=variables.get("TORCHELASTIC_USE_AGENT_STORE") == str(True),
        restarts=restarts,
        may_restart=_number(variables, "TORCHELASTIC_MAX_RESTARTS", 0) > 0,
    )


def _tasks(variables: Mapping[str, str]) -> int:
    """The number of tasks of the step of srun that this process is in, 0 outside of one.

    A batch script and an interactive shell have SLURM_PROCID and SLURM_NTASKS, too, but they are no
    step of srun: who waited there for SLURM_NTASKS processes would wait forever.
    """
    step = variables.get("SLURM_STEP_ID", variables.get("SLURM_STEPID", ""))
    if not step.isdecimal() or int(step) >= SPECIAL_STEPS:
        return 0
    name = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in variables else "SLURM_NTASKS"
    return _number(variables, name, 0)


def _of_srun(variables: Mapping[str, str], tasks: int) -> Place:
    needed = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_JOB_ID")
    missing = [name for name in needed if not variables.get(name)]
    hosts = variables.get("SLURM_STEP_NODELIST") or variables.get("SLURM_JOB_NODELIST")
    if not hosts:
        missing.append("SLURM_JOB_NODELIST")
    counts = variables.get("SLURM_STEP_TASKS_PER_NODE") or variables.get("SLURM_TASKS_PER_NODE")
    if not counts and not variables.get("SLURM_NTASKS_PER_NODE"):
        missing.append("SLURM_TASKS_PER_NODE")
    if missing or not hosts:
        raise ValueError(
            f"the environment has a step of srun of {tasks} tasks and no {', '.join(missing)}"
        )
    local = tasks_on_each_node(counts) if counts else _number(variables, "SLURM_NTASKS_PER_NODE")
    job = _number(variables, "SLURM_JOB_ID")
    # Another port for another step of the job.
    port = FIRST_PORT + (job + 1000 * _number(variables, "SLURM_STEP_ID", 0)) % PORTS
    return Place(
        "srun",
        _number(variables, "SLURM_PROCID"),
        tasks,
        _number(variables, "SLURM_LOCALID"),
        local,
        variables.get("MASTER_ADDR") or first_host(hosts),
        _number(variables, "MASTER_PORT", port),
    )


def _checked(place: Place) -> Place:
    """Check that numbers fit each other as Detectron2 needs them: equal machines, one by one."""
    if not 0 <= place.rank < place.world_size:
        raise ValueError(
            f"{place.rank_name} {place.rank}: must be from 0 to {place.world_size - 1}, as "
            f"{place.size_name} is {place.world_size}"
        )
    if not 0 < place.port < 65536:
        raise ValueError(f"MASTER_PORT {place.port}: must be from 1 to 65535")
    size = place.local_size
    if size < 1 or place.world_size % size:
        raise ValueError(
            f"{place.launcher} started {place.world_size} processes, {size} of them on this "
            "machine: there must be the same number on every machine"
        )
    if place.rank % size != place.local_rank:
        raise ValueError(
            f"{place.launcher} made the process {place.local_rank} of {size} on this machine rank "
            f"{place.rank}: the ranks of a machine must follow each other (srun: "
            "--distribution=block)"
        )
    return place


def _say_that_srun_is_missing(args: argparse.Namespace, variables: Mapping[str, str]) -> None:
    """Tell who starts one process in an allocation for several how to start them all."""
    inside = "SLURM_JOB_ID" in variables and not _tasks(variables)
    if inside and _number(variables, "SLURM_NTASKS", 1) > 1:
        if args.num_gpus * args.num_machines > 1:
            return
        print(
            f"SLURM_NTASKS is {variables['SLURM_NTASKS']}, and srun did not start this process: it "
            "works alone; start it with srun for all",
            file=sys.stderr,
            flush=True,
        )


def _number(variables: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = variables.get(name, "")
    if not text and default is not None:
        return default
    if not text.isdecimal():
        raise ValueError(f"the environment variable {name}={text!r} is no whole number")
    return int(text)


def first_host(nodes: str) -> str:
    """The first host of SLURM's list of nodes, as in `gpu[003-007,009],login1`.

    Raises:
        ValueError: the list is empty or has an open bracket.
    """
    found = re.match(r"(?:[^\[\],]|\[[^\[\]]*\])+", nodes.strip())
    rest = nodes.strip()[found.end() :] if found else nodes
    if found is None or (rest and not rest.startswith(",")):
        raise ValueError(f"the list of nodes {nodes!r} is none of SLURM's")
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", found.group())


def tasks_on_each_node(counts: str) -> int:
    """The number of tasks on each node from SLURM's list of them, as in `8(x4)`.

    Raises:
        ValueError: nodes have different numbers, as in `8(x3),4`, or the list has another form.
    """
    groups = [re.fullmatch(r"(\d+)(\(x\d+\))?", text) for text in counts.split(",")]
    numbers = {int(group[1]) if group else 0 for group in groups}
    if len(numbers) > 1 or 0 in numbers:
        raise ValueError(
            f"SLURM_TASKS_PER_NODE {counts}: every node must have the same number of tasks (srun: "
            "--ntasks-per-node)"
        )
    return numbers.pop()
