"""The policies: when an empty PTE table goes. Each is a row here and, if it needs functions of its own, one file."""

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
