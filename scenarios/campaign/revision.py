"""Which sources these are: a result belongs to them, and all workers of a campaign must have the same."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from scenarios.session.record import commit

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("emulator", "workers", "scenarios", "ptelab")


@cache
def revision() -> str:
    """The commit; of a tree that was changed, or of no repository, with a hash of the sources."""
    known = commit()
    if known is not None and not known.endswith("+"):
        return known
    from importlib.metadata import version

    digest = hashlib.sha256()
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{known or version('ptelab')}-{digest.hexdigest()[:12]}"
