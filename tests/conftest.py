"""The tests run in the debug build: detectors can watch. tests/emulator/test_engine.py compares it with the plain one.

Stress runs count the paths of docs/paths.md that they take; the sum over all of them is printed at the end.
"""

import os
from collections import Counter

import pytest

os.environ["PTELAB_BUILD"] = "debug"
os.environ.pop("COLUMNS", None)  # pytest loads readline, which tells the workers of -n the width of no terminal
TAKEN = "paths taken"


@pytest.fixture(autouse=True)
def _paths_taken(request, record_property):
    """Hand what this test's stress runs took over to the process that prints the summary."""
    import support

    support.taken.clear()
    yield
    if support.taken:
        record_property(TAKEN, dict(support.taken))


def pytest_terminal_summary(terminalreporter):
    """How often each path was taken by the stress runs of this session."""
    taken = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "teardown":
                taken.update(dict(report.user_properties).get(TAKEN, {}))
    if taken:
        from scenarios.session.report import paths

        terminalreporter.section("paths taken by random programs")
        terminalreporter.write("\n".join([*paths(taken), ""]))
