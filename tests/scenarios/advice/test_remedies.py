"""Cause and remedy: each is said of the process it fits, and of no other; what each design gives back.

Covers: scenarios/advice/designs, scenarios/advice/advice
"""

import pytest

from scenarios.advice.advice import advise, row_of
from scenarios.advice.by_mapping import Mapping
from scenarios.advice.designs import gains
from scenarios.advice.needed import Needed
from scenarios.advice.reading import BOUNDS, SCAN, Reading
from scenarios.advice.remedies import Case, remedies, shared_files
from scenarios.advice.sampled import Sampled
from workers.host.process_files import Status, Vma

MIB, GIB = 1 << 20, 1 << 30
FACTS = {"release": "6.18.0", "pt_reclaim": "yes", "per_vma_lock": "yes", "transparent_hugepage": "madvise"}


def mapping(name="", inode=0, size=GIB, used=0, pages=0, empty=0, start=GIB):
    return Mapping(Vma(start, start + size, "rw-p", inode, name), size // (2 * MIB), used, pages, 0, empty)


def reading(held, needed, mappings=(), pid=1, rss=64 << 10, **kinds):
    """A reading, sizes in kB; `needed` is all of PTE tables."""
    tables = Needed(**{"pte": needed // 4, "deposited": 0, "pmd": 0, "pud": 0, "pages": 1 << 30, **kinds})
    status = Status(pid, "test", "S", 0, 1, False, held, rss_anon=rss)
    return Reading(status, SCAN, held, held, needed, needed, 0.001, tables, 0, 1 << 20, list(mappings))


def kinds(case):
    return [found.kind for found in remedies(case)]


LIB = mapping("/usr/lib/libjemalloc.so.2", inode=1, size=2 * MIB, used=1, pages=90)
EMPTIED = mapping(size=4 * GIB, used=100, pages=40_000, empty=2000)


def test_an_allocator_is_named_with_its_settings_and_its_remedy():
    case = Case(reading(9000, 1000, [LIB, EMPTIED]), {"MALLOC_CONF": "dirty_decay_ms:0"})
    (found,) = remedies(case)

    assert found.kind == "jemalloc"
    assert "MALLOC_CONF=dirty_decay_ms:0" in found.cause
    assert "retain:false" in found.remedy


def test_without_a_known_allocator_the_mapping_is_named():
    (found,) = remedies(Case(reading(9000, 1000, [EMPTIED]), {}))

    assert found.kind == "released, kept"
    assert "0x40000000" in found.cause


def test_go_is_known_by_where_its_heap_begins():
    heap = mapping(size=4 * GIB, used=100, pages=40_000, empty=2000, start=0xC000000000)

    assert kinds(Case(reading(9000, 1000, [heap]), {})) == ["Go"]


def test_a_process_that_needs_what_it_holds_is_told_nothing():
    full = mapping(used=512, pages=512 * 500)

    assert kinds(Case(reading(2048, 2048, [full]), {})) == []
    assert kinds(Case(reading(2300, 2048, [full, EMPTIED]), {})) == []  # a tenth of it
    assert kinds(Case(reading(200, 20, [EMPTIED]), {})) == []  # too small to matter


def test_files_that_were_read_and_dropped_are_told_from_released_memory():
    file = mapping("/data/index", inode=7, size=64 * GIB, empty=2000)

    (found,) = remedies(Case(reading(9000, 1000, [file]), {}))
    assert found.kind == "file maps"
    assert "/data/index" in found.cause
    assert "pread" in found.remedy


def test_a_file_read_at_random_is_sparse_and_full_shared_memory_is_not():
    sparse = mapping("/data/index", inode=7, size=64 * GIB, used=4000, pages=9000)
    full = mapping("/dev/shm/buffers", inode=8, size=64 * GIB, used=32_768, pages=32_768 * 512)

    assert kinds(Case(reading(16_000, 16_000, [sparse]), {})) == ["sparse file map"]
    assert kinds(Case(reading(131_072, 131_072, [full]), {})) == ["full tables"]


def test_sparse_memory_zero_pages_and_guards_are_said_to_be_needed():
    sparse = mapping(size=64 * GIB, used=4000, pages=9000)
    plain = mapping(used=512, pages=100_000)

    assert kinds(Case(reading(16_000, 16_000, [sparse]), {})) == ["sparse memory"]
    assert kinds(Case(reading(2048, 2048, [plain], only_zero=400), {})) == ["zero page"]
    assert kinds(Case(reading(2048, 2048, [plain], only_guard=400), {})) == ["guard"]
    assert kinds(Case(reading(2048, 2048, [plain], only_swap=400), {})) == ["swap"]


def test_many_small_mappings_are_scattered():
    small = [mapping(size=2 * MIB, used=1, pages=1, start=GIB + 4 * MIB * i) for i in range(1000)]

    assert kinds(Case(reading(4000, 4000, small, pages=1000), {})) == ["scattered"]
    assert kinds(Case(reading(4000, 4000, small, pages=100_000), {})) == []


def test_the_sample_is_told_only_if_most_calls_are_too_small_for_pt_reclaim():
    def seen(covering):
        return Sampled("strace", 5.0, 100, covering, covering, 40, 65536.0, 0, 0, 0, 0)

    assert kinds(Case(reading(9000, 1000, [LIB, EMPTIED]), {}, seen(0))) == ["small releases", "jemalloc"]
    assert kinds(Case(reading(9000, 1000, [LIB, EMPTIED]), {}, seen(90))) == ["jemalloc"]


def test_a_process_of_page_tables_is_to_be_restarted():
    case = Case(reading(300 << 10, 4096, [mapping(size=200 * GIB, empty=80_000)], rss=1024), {})

    assert kinds(case) == ["released, kept", "outweighs memory"]


def test_files_that_many_processes_map_are_summed_over_them():
    shared = mapping("/dev/shm/buffers", inode=8, size=64 * GIB, used=10_000, pages=1 << 20)
    alone = mapping("/data/index", inode=9, size=64 * GIB, used=30_000, pages=1 << 20)
    readings = [reading(40_000, 40_000, [shared], pid=pid) for pid in range(3)]

    assert shared_files([*readings, reading(120_000, 120_000, [alone])]) == [("/dev/shm/buffers", 3, 120_000)]


@pytest.mark.parametrize(
    ("held", "needed", "memory", "level"),
    [
        (2048, 2048, 1 << 24, "ok"),
        (9000, 1000, 1 << 24, "notice"),
        (100 << 10, 20 << 10, 1 << 24, "warn"),
        (100 << 10, 60 << 10, 1 << 24, "notice"),
        (90 << 10, 90 << 10, 1 << 22, "warn"),
    ],
)
def test_the_level_is_that_of_waste_or_of_the_share_of_memory(held, needed, memory, level):
    assert advise(reading(held, needed, [EMPTIED]), FACTS, memory).level == level


def test_designs_give_back_what_they_can_see():
    file = mapping("/data/index", inode=7, size=64 * GIB, empty=2000)
    found = {gain.design: gain[1:3] for gain in gains(reading(9000, 1000, [file], full_of_zero=10), FACTS)}

    assert found == {
        "refcount": (8000, 8000),
        "async-scan": (0, 8000),
        "two-counter": (8040, 8040),
        "pt-reclaim": (0, 0),
        "munmap, exit": (8000, 8000),
    }


@pytest.mark.parametrize(("known", "said"), [("yes", "this kernel"), ("no", "not in this"), ("unknown", "Linux 6.14")])
def test_pt_reclaim_is_said_to_be_this_kernels_only_if_it_is(known, said):
    rows = {gain.design: gain.why for gain in gains(reading(9000, 1000), {**FACTS, "pt_reclaim": known})}

    assert rows["pt-reclaim"].startswith(said)


def test_of_a_process_that_cannot_be_looked_at_all_is_bounds():
    status = Status(1, "test", "S", 0, 1, False, 9000, rss_anon=100)
    unread = Reading(status, BOUNDS, 9000, 9000, 12, 300, 0.001, missing=("no right",))
    row = row_of(advise(unread, FACTS, 1 << 24))

    assert (row["needed"], row["waste_low_kb"], row["waste_high_kb"]) == (None, 8700, 8988)
    assert row["gives_back"][0] == {
        **{"design": "refcount", "low_kb": 8700, "high_kb": 8988},
        "why": row["gives_back"][0]["why"],
    }
