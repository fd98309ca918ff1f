"""Why a process holds the page tables it holds, and what its operator can do: only what the figures support."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from scenarios.advice.by_mapping import Mapping
from scenarios.advice.needed import KB_OF_TABLE
from scenarios.advice.reading import Reading
from scenarios.advice.sampled import Sampled

WORTH = 256  # kB of tables below which nothing is worth a word
SPARSE, DENSE = 32, 410  # pages of the 512 of a table: a sixteenth, four fifths
LONG = 8  # slots of a mapping that shares few tables with its neighbours
LARGE = 64 << 10  # kB of tables that matter to a machine


class Remedy(NamedTuple):
    """A cause in a word or two, the cause with its figures, and what helps against it."""

    kind: str
    cause: str
    remedy: str


class Case(NamedTuple):
    """What the rules look at. `settings` are those of the allocator, from the environment of the process."""

    reading: Reading
    settings: dict[str, str]
    sampled: Sampled | None = None

    @property
    def wasteful(self) -> bool:
        """True if the waste is a quarter of what is held, and worth a word."""
        return self.reading.waste >= max(WORTH, self.reading.held // 4)

    def tables(self, file: bool) -> int:
        """kB of empty tables that mappings of files, or the others, have room for."""
        return KB_OF_TABLE * sum(one.may_waste_high for one in self.reading.mappings if one.vma.file == file)


_SETTINGS = ("MALLOC_CONF", "TCMALLOC_RELEASE_RATE", "TCMALLOC_AGGRESSIVE_DECOMMIT", "MIMALLOC_PURGE_DELAY", "GODEBUG")
_GO_ARENA = 0xC000000000  # where Go's heap begins on 64-bit Linux

# library -> what gives tables back under it; docs/operators.md has the measurements
ALLOCATORS = {
    "libjemalloc": (
        "jemalloc",
        "MALLOC_CONF=retain:false (unmaps), or a larger dirty_decay_ms: it then releases larger pieces",
    ),
    "libtcmalloc": (
        "tcmalloc",
        "no TCMALLOC_AGGRESSIVE_DECOMMIT, a lower TCMALLOC_RELEASE_RATE: it releases less",
    ),
    "libmimalloc": ("mimalloc", "a larger MIMALLOC_PURGE_DELAY (MIMALLOC_DECOMMIT_DELAY before 2.1): it releases less"),
    "libjvm": ("JVM", "a heap that does not shrink: -Xms as -Xmx, or -XX:+AlwaysPreTouch"),
}


def allocator(reading: Reading) -> str:
    """The allocator that a process maps or has a heap of; empty if none is recognised."""
    names = {one.vma.name.rpartition("/")[2] for one in reading.mappings if one.vma.file}
    for library, (name, _) in ALLOCATORS.items():
        if any(file.startswith(library) for file in names):
            return name
    if any(one.vma.name.startswith("[anon: Go") or one.vma.start == _GO_ARENA for one in reading.mappings):
        return "Go"
    return ""


def settings_wanted() -> tuple[str, ...]:
    """The variables of the environment that bear on advice."""
    return _SETTINGS


def _size(kb: float) -> str:
    return f"{kb:,.0f} kB" if kb < 10 << 10 else f"{kb / 1024:,.0f} MiB"


def _of_files(case: Case) -> Remedy | None:
    """Tables under file mappings whose pages the kernel has dropped since."""
    files, others = case.tables(True), case.tables(False)
    if not case.wasteful or 4 * others > files or files < WORTH:
        return None
    worst = max((one for one in case.reading.mappings if one.vma.file), key=lambda one: one.may_waste_high)
    return Remedy(
        "file maps",
        f"up to {_size(files)} of tables under file mappings whose pages are gone, most under {worst.vma.name}",
        "read the file with pread(2), or unmap what is read no more; a smaller map, fewer processes",
    )


def _of_allocator(case: Case) -> Remedy | None:
    """An allocator that returned memory in pieces and kept the mapping."""
    name = allocator(case.reading)
    if not case.wasteful or not name or 2 * case.tables(False) < case.reading.waste:
        return None
    said = ", ".join(f"{key}={value}" for key, value in case.settings.items())
    cause = f"{name} released memory in pieces and kept it mapped{f' ({said})' if said else ''}"
    if name == "Go":
        return Remedy(
            name, cause, "its scavenger releases 64 KiB at a time: a higher GOGC or GOMEMLIMIT scavenges less"
        )
    return Remedy(name, cause, next(remedy for known, remedy in ALLOCATORS.values() if known == name))


def _of_memory(case: Case) -> Remedy | None:
    """The same of a process whose allocator is not known."""
    if not case.wasteful or allocator(case.reading) or 2 * case.tables(False) < case.reading.waste:
        return None
    worst = max((one for one in case.reading.mappings if not one.vma.file), key=lambda one: one.may_waste_high)
    where = f"{worst.vma.name or 'anonymous memory'} at {worst.vma.start:#x}"
    return Remedy(
        "released, kept",
        f"memory was released and kept mapped; most empty tables may be of {where}",
        "use released addresses again before new ones, or munmap them; a restart gives all back",
    )


def _of_pieces(case: Case) -> Remedy | None:
    """What the sampled calls show of how memory is released."""
    seen = case.sampled
    if seen is None or seen.calls < 10 or seen.covering_share > 0.5:
        return None
    return Remedy(
        "small releases",
        f"{100 - 100 * seen.covering_share:.0f} % of {seen.calls:,} MADV_DONTNEED calls cover no whole 2 MiB, "
        f"the median is {_size(seen.median / 1024)}",
        "release 2 MiB at a time, aligned: then this kernel frees the table (6.14 and later)",
    )


def _sparse(file: bool) -> Callable[[Case], Remedy | None]:
    """Tables that are needed for a page here and there: of files, or of memory."""

    def rule(case: Case) -> Remedy | None:
        found = [one for one in case.reading.mappings if one.vma.file == file and one.used and one.slots >= LONG]
        tables, pages = sum(one.used for one in found), sum(one.pages for one in found)
        kb = tables * KB_OF_TABLE
        if kb < WORTH or 4 * kb < case.reading.held or pages > SPARSE * tables:
            return None
        worst = max(found, key=lambda one: one.used)
        each = f"{tables:,} tables map {pages / tables:,.1f} of 512 pages each"
        if file:
            return Remedy(
                "sparse file map",
                f"a file mapped and read at random: {each}, most of {worst.vma.name}",
                "pread(2), or huge pages for the file; tables are per process: fewer processes",
            )
        return Remedy(
            "sparse memory",
            f"{each}, most in {worst.vma.name or 'anonymous memory'} at {worst.vma.start:#x}",
            "keep what is used close together; all of these are needed: no design gives them back",
        )

    return rule


def _scattered(case: Case) -> Remedy | None:
    """The same of many small mappings, none of which is worth a name."""
    needed = case.reading.needed
    if needed is None or _sparse(True)(case) or _sparse(False)(case):
        return None
    if needed.pte * KB_OF_TABLE < 4 * WORTH or needed.pages > SPARSE * needed.pte:
        return None
    each = f"{needed.pte:,} tables map {needed.pages / needed.pte:,.1f} of 512 pages each"
    return Remedy(
        "scattered",
        f"{each}, in {len(case.reading.mappings):,} mappings",
        "fewer and larger mappings, close together; all of these are needed: no design gives them back",
    )


def _dense_files(case: Case) -> Remedy | None:
    """Shared memory that is mapped page by page."""
    found = [one for one in case.reading.mappings if one.vma.file and one.pages > DENSE * max(one.used, 1)]
    kb = sum(one.used for one in found) * KB_OF_TABLE
    if kb < LARGE:
        return None
    worst = max(found, key=lambda one: one.used)
    return Remedy(
        "full tables",
        f"{_size(kb)} of full tables for {worst.vma.name}, which each process holds anew",
        "huge pages for it: MAP_HUGETLB, huge_pages=on of a database, huge=advise of tmpfs",
    )


def _zero(case: Case) -> Remedy | None:
    """Tables of memory that was read and never written."""
    needed = case.reading.needed
    kb = needed.only_zero * KB_OF_TABLE if needed else 0
    if kb < WORTH or 4 * kb < case.reading.held:
        return None
    return Remedy(
        "zero page", f"{_size(kb)} of tables map only the zero page", "do not read memory that was never written"
    )


def _swapped(case: Case) -> Remedy | None:
    """Tables that nothing but swap entries or guards keep."""
    needed = case.reading.needed
    kinds = {"swap": needed.only_swap, "guard": needed.only_guard, "uffd-wp": needed.only_uffd_wp} if needed else {}
    kind, tables = max(kinds.items(), key=lambda item: item[1], default=("", 0))
    kb = tables * KB_OF_TABLE
    if kb < WORTH or 4 * kb < case.reading.held:
        return None
    remedy = {
        "swap": "unmap what was swapped out, or swap it in and release it",
        "guard": "fewer guard regions, or PROT_NONE mappings: those need no table",
        "uffd-wp": "unregister what userfaultfd need not protect any more",
    }
    return Remedy(kind, f"{_size(kb)} of tables hold {kind} entries alone, and no design frees those", remedy[kind])


def _outweighed(case: Case) -> Remedy | None:
    """A process of page tables, for the most part."""
    reading = case.reading
    if reading.waste < LARGE or reading.held < reading.status.rss:
        return None
    return Remedy(
        "outweighs memory",
        f"its page tables ({_size(reading.held)}) outweigh its memory ({_size(reading.status.rss)})",
        "restart it when that is cheap: exit gives every table back",
    )


RULES: tuple[Callable[[Case], Remedy | None], ...] = (
    _of_pieces,
    _of_files,
    _of_allocator,
    _of_memory,
    _sparse(True),
    _sparse(False),
    _scattered,
    _dense_files,
    _zero,
    _swapped,
    _outweighed,
)


def remedies(case: Case) -> list[Remedy]:
    """All that the figures support, the most telling first; nothing if there is nothing to do."""
    return [found for rule in RULES if (found := rule(case)) is not None]


def shared_files(readings: Iterable[Reading]) -> list[tuple[str, int, int]]:
    """Files whose tables weigh on the machine as a whole: name, processes that map it, kB of tables in all."""
    totals: dict[str, list[int]] = {}
    for reading in readings:
        used: dict[str, int] = {}
        for one in filter(_named, reading.mappings):
            used[one.vma.name] = used.get(one.vma.name, 0) + one.used
        for name, tables in used.items():
            totals.setdefault(name, []).append(tables * KB_OF_TABLE)
    found = [(name, len(tables), sum(tables)) for name, tables in totals.items()]
    return sorted((row for row in found if row[1] > 1 and row[2] >= LARGE), key=lambda row: -row[2])


def _named(one: Mapping) -> bool:
    return one.vma.file and one.used > 0
