"""What each policy leaves of the page tables is arithmetic: the closed forms, exact at any size.

What is left once a policy that looks now and then has looked is compared. A policy without a row here must stay between
what is needed and all there is; what it leaves is told in docs/arena.md.

Covers: workers/programs/image
"""

import pytest

from emulator.policy.policies import POLICIES
from scenarios.arena.measure import run_job
from scenarios.arena.workloads import CHUNK, CHUNKS, WORKLOADS, upper_kb
from scenarios.session.options import Lab
from scenarios.session.record import Record
from workers.programs.image import BASE_KB

SIZED = [name for name, of in WORKLOADS.items() if of.sized]
FEW = 96
QUICK = ("sweep", "pieces-64k", "free-reclaimed", "part-unmapped", "fork", "file-pageout", "truncate", "kept-0.3%")
HELD = {"one-stays", "free", "pageout", "zero-pages", "zero-sparse"}  # each table keeps an entry, whatever the policy
COUNTED = {"sweep", "pieces-64k", "pieces-4k", "free-reclaimed", "part-unmapped", "fork", "file-pageout", "truncate"}
GIVES_BACK = {  # the workloads after which no empty table is left; after the others all are
    "none": set(),
    "none-rcu": set(),
    "refcount-lock": COUNTED,
    "refcount-rcu": COUNTED,
    "refcount": COUNTED,
    "pt-reclaim": {"sweep"},
    "pt-reclaim-edges": COUNTED - {"free-reclaimed"},
    "pt-reclaim-any": COUNTED - {"free-reclaimed"},
    "async-scan": COUNTED - {"part-unmapped"},
    "two-counter": COUNTED - {"fork"} | {"zero-pages"},
    "two-counter-safe": COUNTED - {"fork"} | {"zero-pages"},
    "corten": {"sweep"},
    "corten-eager": COUNTED,
    "scan-eager": COUNTED - {"free-reclaimed"},
    "pmap-mutex": COUNTED,
    "htable": COUNTED,
    "percpu-ref": {"sweep", "pieces-64k", "pieces-4k", "fork", "truncate"},
    "refcount-transfer": COUNTED,
    "refcache": COUNTED,
    "xnu-ptd": COUNTED - {"free-reclaimed"},
}
BY_CHANCE = {("async-scan", "fork")}  # the child has what the parent had; nobody scans a child that waits
OF_FILES = {"file-pageout", "truncate"}  # a GiB that maps a file keeps its PMD table, whatever the policy


def measured(job, policy):
    """The figures of one run whose audit found nothing."""
    record = Record("arena", 0)
    figures = run_job(job, policy, Lab(), record, "")
    assert record.verdict == "pass", record.checks
    return figures


def check_closed_form(workload, policy, chunks):
    """Run it, and hold what is left to the closed form."""
    job = WORKLOADS[workload].build(chunks, 1, 0)
    figures = measured(job, policy)
    everything = upper_kb(chunks) + 4 * chunks
    nothing = BASE_KB if POLICIES[policy].upper and workload not in OF_FILES else upper_kb(chunks)
    assert figures["needed_kb"] <= figures["later_kb"] <= everything
    if policy not in GIVES_BACK or (policy, workload) in BY_CHANCE:
        return
    if workload.startswith("kept"):
        emptied = int((job.programs[0]["length"] == CHUNK).sum()) - chunks  # beside each chunk's touch
        rest = everything - 4 * (emptied if GIVES_BACK[policy] else 0)
        assert figures["later_kb"] == (figures["needed_kb"] if POLICIES[policy].upper else rest)
    else:
        assert figures["later_kb"] == (nothing if workload in GIVES_BACK[policy] else everything)
    if workload in HELD:
        assert figures["needed_kb"] == (BASE_KB if workload in GIVES_BACK[policy] else everything)


@pytest.mark.parametrize("workload", QUICK)
def test_what_is_left_is_what_the_closed_form_says(workload):
    for policy in POLICIES:
        check_closed_form(workload, policy, FEW)


@pytest.mark.stress
@pytest.mark.parametrize("workload", sorted({*SIZED} - {*QUICK}))
def test_what_is_left_of_few_pieces_is_what_the_closed_form_says(workload):
    for policy in POLICIES:
        check_closed_form(workload, policy, FEW)


@pytest.mark.stress
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("workload", SIZED)
def test_what_is_left_of_fifty_gib_is_what_the_closed_form_says(workload, policy):
    check_closed_form(workload, policy, CHUNKS)


def test_pages_that_stay_by_chance_hold_the_share_of_tables_that_no_reclaim_beats():
    """(1 - q)^512 of the tables lose every page; within five standard deviations at this size."""
    for name, q in (("0.1%", 0.001), ("0.3%", 0.003)):
        chunks = 1000
        job = WORKLOADS[f"kept-{name}"].build(chunks, 1, 0)
        emptied = int((job.programs[0]["length"] == CHUNK).sum()) - chunks
        share = (1 - q) ** 512
        assert abs(emptied / chunks - share) < 5 * (share * (1 - share) / chunks) ** 0.5


def test_a_workload_shrinks_with_the_scale_and_never_to_nothing():
    for of in (of for of in WORKLOADS.values() if of.sized):
        assert of.chunks(1) == CHUNKS
        assert of.chunks(16) <= CHUNKS // 16
        assert of.chunks(CHUNKS) == 1
    assert WORKLOADS["one-slot"].chunks(1) == 0
