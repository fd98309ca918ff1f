"""A module that a campaign's task may run: it writes a record at once, or does what it is told."""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def main(words: list[str]) -> int:
    """`VERDICT STATUS`, `sleep SECONDS`, `deaf` to SIGTERM, `die`, `child`, or `processors`."""
    kind, *rest = words[: words.index("--json")]
    if kind == "sleep":
        time.sleep(float(rest[0]))
    if kind == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "child" and not os.fork():
        time.sleep(1000)
    record = {"schema": 1, "rows": [], "checks": {}, "violations": [], "bugs": [f"x: {kind}"], "failure": None}
    record["processors"] = sorted(os.sched_getaffinity(0))
    print(json.dumps(record))
    print(f"ptelab: said {kind}", file=sys.stderr)
    return int(rest[0]) if rest and rest[0].isdecimal() and kind != "sleep" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
