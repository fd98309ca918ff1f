"""The explorer's figures: what the two walkers need, and that reduced and plain search agree on them."""

import json
import subprocess
import sys

from support import ROOT

CODE = """
import json
from benchmarks.explore import executions
print(json.dumps([executions(("plain-count",), reduce, 2000) for reduce in (True, False)]))
"""


def test_the_reduced_search_and_the_plain_one_find_the_broken_twin_of_two_walkers():
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, cwd=ROOT, timeout=300)

    assert run.returncode == 0, run.stderr
    (reduced, few), (plain, many) = json.loads(run.stdout)
    assert (reduced, plain) == ("fail", "fail")
    assert few < many
