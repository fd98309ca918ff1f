"""When an empty PTE table goes: the policies, and the knobs that take one piece of the protocol away.

A policy is a row of switches that the kernels ask at the seam (pte_ref.py, mmu_gather.py). A new one adds its row here
and, if it needs functions of its own, one file.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    """One policy: the patches of the series it has, in words, and its switches (fields of `config`)."""

    title: str
    pte_counted: int = 0
    try_get_rcu: int = 0
    table_free_rcu: int = 0
    table_free_gather: int = 0

    def switches(self) -> dict[str, int]:
        """The fields of `config` this policy sets."""
        return {k: v for k, v in vars(self).items() if isinstance(v, int)}


POLICIES = {
    "none": Policy("before the series: a PTE table goes at munmap or exit only"),
    "refcount-lock": Policy("patch 5: counted, pinned under pmd_lock, freed at once after a flush", 1, 0, 0, 0),
    "refcount-rcu": Policy("patches 5 and 6: counted, pinned under RCU, freed after a grace period", 1, 1, 1, 0),
    "refcount": Policy("patches 5 to 7, the whole v1: as refcount-rcu, and zap frees through mmu_gather", 1, 1, 1, 1),
}


@dataclass(frozen=True)
class Knob:
    """One piece of the protocol that a run can leave out: the field of `config`, and what happens then."""

    field: str
    effect: str


KNOBS = {
    "publish-before-init": Knob("publish_before_init", "pmd_populate runs before pte_ref_init, as posted in v1 (D1)"),
    "plain-count": Knob("plain_count", "pte_get and pte_put read, add and write instead of one atomic addition"),
    "missing-pte-put": Knob("missing_pte_put", "a read fault keeps its reference on the table"),
    "no-flush": Knob("no_flush", "what a gather with a freed table unmapped stays in TLBs and paging-structure caches"),
}
