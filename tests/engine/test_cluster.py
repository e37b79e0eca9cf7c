"""The place of a process, read from variables as torchrun and SLURM set them."""

from argparse import Namespace

import pytest
from srnet.engine.cluster import Place, find_place, first_host, tasks_on_each_node

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
TORCHRUN |= {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
# A job with an allocation for 8 tasks, as its batch script sees it, and a task of srun in it.
BATCH = {"SLURM_JOB_ID": "12345", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "8"}
BATCH |= {"SLURM_JOB_NODELIST": "gpu[003-004]", "SLURM_TASKS_PER_NODE": "4(x2)"}
SRUN = {**BATCH, "SLURM_STEP_ID": "2", "SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5"}
SRUN |= {"SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "gpu[003-004]"}
SRUN |= {"SLURM_STEP_TASKS_PER_NODE": "4(x2)"}


def options(**given):
    return Namespace(
        **{"num_gpus": 1, "num_machines": 1, "machine_rank": 0, "dist_url": "auto", **given}
    )


def test_torchrun():
    expected = Place("torchrun", 5, 8, 1, 4, "node1", 29500)
    assert find_place(options(), TORCHRUN) == expected
    elastic = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "2"}
    elastic |= {"TORCHELASTIC_MAX_RESTARTS": "3"}
    expected = expected._replace(hosted=True, restarts=2, may_restart=True)
    assert find_place(options(), TORCHRUN | elastic) == expected


def test_srun():
    place = find_place(options(), SRUN)
    assert place == Place("srun", 5, 8, 1, 4, "gpu003", place.port)
    other_step = find_place(options(), SRUN | {"SLURM_STEP_ID": "3"})
    other_job = find_place(options(), SRUN | {"SLURM_JOB_ID": "12346"})
    assert len({place.port, other_step.port, other_job.port}) == 3
    assert all(20000 <= p.port < 32000 for p in (place, other_step, other_job))
    chosen = find_place(options(), SRUN | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "4000"})
    assert (chosen.host, chosen.port) == ("10.0.0.1", 4000)


def test_the_step_counts_not_the_job():
    """`srun --ntasks 2 --nodes 1` in a job of eight tasks."""
    step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2"}
    step |= {"SLURM_STEP_NODELIST": "gpu004", "SLURM_PROCID": "1"}
    place = find_place(options(), SRUN | step)
    assert place[1:6] == (1, 2, 1, 2, "gpu004")


@pytest.mark.parametrize("step", [{}, {"SLURM_STEP_ID": "4294967291"}, {"SLURM_STEP_ID": "-5"}])
def test_a_batch_script_without_srun_is_one_process(step, capsys):
    """Its SLURM_NTASKS is that of the job: waiting for so many would never end."""
    assert find_place(options(), BATCH | step) is None
    assert "srun did not start this process" in capsys.readouterr().err
    assert find_place(options(num_gpus=8), BATCH | step) is None
    assert capsys.readouterr().err == ""


def test_a_shell_of_srun_is_one_process():
    shell = SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    assert find_place(options(num_gpus=2), shell) is None


def test_a_task_on_each_machine_may_start_its_processes():
    two = SRUN | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}
    given = options(num_gpus=8, num_machines=2, machine_rank=1, dist_url="tcp://gpu003:4000")
    assert find_place(given, two) is None


def test_torchrun_in_a_task_of_srun_is_torchrun():
    assert find_place(options(), SRUN | TORCHRUN).launcher == "torchrun"


def test_a_script_that_exports_a_size_and_an_address():
    exported = {"WORLD_SIZE": "8", "MASTER_ADDR": "gpu003", "MASTER_PORT": "4000"}
    assert find_place(options(), SRUN | exported).launcher == "srun"


@pytest.mark.parametrize("variables", [{}, {"MASTER_ADDR": "x"}, {"RANK": "0", "WORLD_SIZE": "1"}])
def test_no_place(variables):
    assert find_place(options(num_gpus=8), variables) is None


@pytest.mark.parametrize("name", TORCHRUN)
def test_the_missing_variable_is_named(name):
    with pytest.raises(ValueError, match=f"no {name}: torchrun sets all"):
        find_place(options(), {k: v for k, v in TORCHRUN.items() if k != name})


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"num_gpus": 8}, "--num-gpus 8"),
        ({"num_machines": 2}, "--num-machines 2"),
        ({"dist_url": "tcp://a:1"}, "--dist-url tcp://a:1"),
    ],
)
def test_options_that_say_it_again(option, text):
    with pytest.raises(ValueError, match=f"^{text} and torchrun's RANK and WORLD_SIZE"):
        find_place(options(**option), TORCHRUN)
    with pytest.raises(ValueError, match=f"^{text} and srun's SLURM_PROCID"):
        find_place(options(**option), SRUN)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (TORCHRUN | {"RANK": "x"}, "RANK='x' is no whole number"),
        (TORCHRUN | {"RANK": "8"}, "RANK 8: must be from 0 to 7"),
        (TORCHRUN | {"MASTER_PORT": "70000"}, "MASTER_PORT 70000: must be from 1 to 65535"),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "3"}, "the same number on every machine"),
        (SRUN | {"SLURM_STEP_TASKS_PER_NODE": "5,3"}, "--ntasks-per-node"),
        (SRUN | {"SLURM_LOCALID": "2"}, "--distribution=block"),
        ({k: v for k, v in SRUN.items() if k != "SLURM_LOCALID"}, "no SLURM_LOCALID"),
    ],
)
def test_variables_that_cannot_be(variables, message):
    with pytest.raises(ValueError, match=message):
        find_place(options(), variables)


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("gpu003", "gpu003"),
        ("gpu[003-007,009],login1", "gpu003"),
        ("gpu[009,003]", "gpu009"),
        ("rack[0-1]n[01-16]", "rack0n01"),
        ("a-1,b-[2-3]", "a-1"),
        ("n[1-2].cluster.org", "n1.cluster.org"),
    ],
)
def test_the_first_host(nodes, host):
    assert first_host(nodes) == host


@pytest.mark.parametrize("nodes", ["", "gpu[003-", ",a"])
def test_no_list_of_nodes(nodes):
    with pytest.raises(ValueError, match="the list of nodes"):
        first_host(nodes)


@pytest.mark.parametrize(("counts", "number"), [("4", 4), ("8(x64)", 8), ("2,2(x3)", 2)])
def test_tasks_on_each_node(counts, number):
    assert tasks_on_each_node(counts) == number
