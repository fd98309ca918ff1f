"""Which accesses of a traced execution are worth telling; all others are bookkeeping."""

from __future__ import annotations

from collections.abc import Container, Sequence

from workers.telling.access import BUFFERED, Access, names

Word = tuple[str, int]
BARRIERS = ("smp_mb", "smp_wmb", "smp_rmb")  # those beside an atomic go without saying

# Changes of these are told whatever else looks at them: locks, read sections, counts, states.
STATES = names(
    """ptdesc.ptl mutex.owner cache.frame cache.dirty cache.writeback mm.mmap_readers mm.mmap_writer cpu.rcu_nesting
    ptdesc.pte_refcount ptdesc.state cpu.tlb_gen rcu.gp_seq rcu.gp_completed run.bug"""
)
# Never told: caches of one CPU, free lists, statistics, instruments.
PRIVATE_VIEWS = names(
    """config gp_histogram waitq point lock_order rcu_age trace shadow pcp pcp_slot zone_slot tlb psc tlb_generation
    psc_generation gather_page gather_table insn record life page_values vmf batch page_slot disk own_zaps"""
)
PRIVATE = names(
    """mm.rss_anon mm.rss_file mm.pgtables_bytes mm.zaps mm.anon_vmas mm.vmas mm.total_vm page_stored_by zone.count
    zone.fresh rcu.gp_start_ns rcu.gp_sum_ns rcu.gp_max_ns rcu.freed cpu.cb_taken rcu.ipis rcu.remote_flushes run.stop
    run.ready run.bug_cpu run.bug_subject run.bug_was run.bug_seen run.bug_ns run.bug_cycles"""
)
# Private, too, but what a stale translation is about: told of a failure that one of these detectors saw.
CACHES = names("tlb.entry psc.table tlb.tag psc.tag cpu.tlb_epoch cpu.psc_epoch")
CACHE_DETECTORS = names(
    """tlb-hit-freed-frame psc-hit-freed-table walk-freed-table stale-after-dontneed foreign-contents lost-store
    value-never-stored stale_tlb"""
)
# Of a CPU's own words only these: what other tasks read.
CPU_WORDS = names(
    "mm lazy idle ipi_request ipi_ack tlb_gen wake wake_sleepers rcu_qs rcu_nesting cb_head flush_state finished",
    "cpu.",
)
# Looked at again and again: a look that finds something is followed by a change that is told.
POLLED = names("cpu.ipi_request cpu.cb_head cpu.finished rcu.gp_seq rcu.gp_completed rcu.hurry ptnote.ptl_dead")
WAKES = names("rcu.wake cpu.wake")  # looks at these are told of a deadlock only: a wake-up may have been lost
DETECTORS = ("check_", "shadow_", "pinned", "account_rcu_age")  # how the names of the detectors' functions begin


class _Words:
    """Which tasks look at a word and which change it."""

    def __init__(self, accesses: Sequence[Access]) -> None:
        self.users: dict[Word, set[int]] = {}
        self.writers: dict[Word, set[int]] = {}
        for access in accesses:
            for index in range(access.index, access.index + access.length):
                word = access.field, index
                self.users.setdefault(word, set()).add(access.task)
                if access.old != access.new and not (access.op == "memset" and access.new == 0):  # a fresh table
                    self.writers.setdefault(word, set()).add(access.task)

    def matters(self, access: Access) -> bool:
        """True if another task changes what is looked at, or looks at what is changed."""
        whose = self.writers if access.is_load else self.users
        span = range(access.index, access.index + access.length)
        return any(whose.get((access.field, index), set()) - {access.task} for index in span)


def is_private(field: str) -> bool:
    """True for a word that matters to nobody but its owner."""
    view = field.partition(".")[0]
    return view in PRIVATE_VIEWS or field in PRIVATE or (view == "cpu" and field not in CPU_WORDS)


def _is_of_an_instrument(access: Access) -> bool:
    """A detector's look, or a point's: it is not of the protocol."""
    names = [access.function, *access.callers[:2]]
    if access.field == "run.bug" or not access.is_load:
        return False
    return any(name.startswith(DETECTORS) for name in names) or (
        access.op == "plain load" and access.field.startswith(("ptdesc.", "ptnote.", "page."))
    )


def _superseded(accesses: Sequence[Access]) -> set[int]:
    """Looks at a word that the same task changes next, before anybody else comes: the change says what was seen."""
    following: dict[Word, Access] = {}
    found = set()
    for access in reversed(accesses):
        word = access.field, access.index
        after = following.get(word)
        if access.is_load and after is not None and after.task == access.task and not after.is_load:
            found.add(access.step)
        following[word] = access
    return found


def _tells_of_cache(access: Access) -> bool:
    """An entry taken or used, or a tag cleared; the rest is how a cache works."""
    if access.field.endswith(".tag"):
        return access.old != 0 and access.new == 0
    return not (access.field.endswith("_epoch") and access.is_load)


def told_steps(
    accesses: Sequence[Access], causal: Container[int], guilty: Container[int] | None, what: str
) -> set[int]:
    """The steps that make the story of a failure called `what`."""
    words, superseded = _Words(accesses), _superseded(accesses)
    buffered = any(access.op in BUFFERED for access in accesses)  # else barriers do nothing
    polled = POLLED if what == "deadlock" else POLLED | WAKES
    known: dict[tuple[int, str, Word], int] = {}  # what a function of a task has seen already

    def is_told(access: Access, seen: int | None) -> bool:
        if not access.field:
            return buffered and access.op in BARRIERS and access.step in causal
        if access.field in CACHES:
            return what in CACHE_DETECTORS and access.step in causal and _tells_of_cache(access)
        if is_private(access.field) or _is_of_an_instrument(access):
            return False
        if access.is_load and (seen == access.new or access.step in superseded or access.field in polled):
            return False
        if access.is_load or access.field not in STATES or access.op == "commit":
            return access.step in causal and words.matters(access) and (access.is_load or access.changes)
        return access.changes

    told = set()
    for access in accesses:
        key = access.task, access.teller[0], (access.field, access.index)
        if (guilty is not None and access.step in guilty) or is_told(access, known.get(key)):
            told.add(access.step)
            known[key] = access.new
    return told
