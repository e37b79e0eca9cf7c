"""The table of faults counts what was tried, and nothing that failed as held."""

import pytest

pytest_plugins = ["pytester"]

FAULTS = """
import pytest

@pytest.mark.fault("kills")
@pytest.mark.parametrize("place", [1, 2, 3])
def test_kill(place):
    assert place < 3

@pytest.mark.fault("strangers")
def test_files(tried):
    tried("a pipe")
    tried("an empty file")

@pytest.mark.fault("strangers")
def test_more_files(tried):
    tried("an empty file")
    tried("a socket")
    assert False

@pytest.mark.fault("strangers")
def test_skipped():
    pytest.skip("needs a disk")

@pytest.mark.fault("kills")
@pytest.mark.faults_slow
def test_long():
    pass

def test_no_fault():
    assert False
"""


@pytest.mark.parametrize("processes", [0, 2])
def test_the_table(pytester, root, processes):
    pytester.makepyfile(FAULTS)
    pytester.makepyfile(fault_table=(root / "tests" / "fault_table.py").read_text())
    pytester.makeini("[pytest]\nmarkers =\n  fault(group): x\n  faults_slow: x\n")
    arguments = ["-p", "fault_table", "-n", str(processes)]
    shown = pytester.runpytest_subprocess(*arguments).outlines
    table = [
        line.split() for line in shown[next(i for i, x in enumerate(shown) if " faults " in x) :]
    ]
    assert table[1:5] == [
        ["tried", "held"],
        ["kills", "3", "2"],
        ["strangers", "3", "1"],
        ["all", "6", "3"],
    ]
