"""The table at the end of a run: faults that were tried, and faults that held, by group.

A test of faults has the marker `fault(group)`. Those that take long have `faults_slow` as well:
`make faults` runs them with the others, `make test` leaves them out. A test that tries several
faults notes each of them with the fixture `tried`.
"""

from collections import defaultdict

import pytest

GROUP, KIND = "fault group", "bad input"


@pytest.fixture
def tried(record_property):
    """Note a fault that a test tries, to be counted at the end of all tests: tried(kind)."""
    return lambda kind: record_property(KIND, kind)


def pytest_collection_modifyitems(config, items):
    """Leave out the long tests unless they are asked for by their marker.

    The group of a test goes to its report, which is all that comes from another process.
    """
    if "faults_slow" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("faults_slow")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        marker = item.get_closest_marker("fault")
        if marker:
            item.user_properties.append((GROUP, marker.args[0]))


def counts(reports):
    """Of each group, the names of the faults that were tried and of those that did not hold.

    Args:
        reports: pytest's, of all phases of the tests.

    Returns:
        Pairs of sets by group. A test that notes no fault counts as one.
    """
    groups = defaultdict(lambda: (set(), set()))
    for report in reports:
        properties = getattr(report, "user_properties", ())
        group = dict(properties).get(GROUP)
        if group is None or report.skipped or (report.when != "call" and report.passed):
            continue
        names = {value for name, value in properties if name == KIND} or {report.nodeid}
        tried_, failed = groups[group]
        tried_ |= names
        if report.failed:
            failed |= names
    return dict(groups)


def pytest_terminal_summary(terminalreporter):
    """Print the table."""
    found = counts(r for group in terminalreporter.stats.values() for r in group if _is_report(r))
    if not found:
        return
    width = max(map(len, found))
    terminalreporter.section("faults")
    terminalreporter.write_line(f"{'':{width}}  tried   held")
    for group, (names, failed) in sorted(found.items()):
        line = f"{group:{width}}  {len(names):5d}  {len(names) - len(failed):5d}"
        terminalreporter.write_line(line)
    total, lost = (sum(len(pair[i]) for pair in found.values()) for i in (0, 1))
    terminalreporter.write_line(f"{'all':{width}}  {total:5d}  {total - lost:5d}")


def _is_report(report):
    return isinstance(report, pytest.TestReport)
