"""Named invariants over a stopped machine. Each returns the number of violations, 0 meaning good.

"Stopped": every CPU is at an instruction or page boundary and the coordinator has run every callback. So no table has
a visitor, no gather is open and no table waits for a grace period.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from emulator import lazy_numpy as np
from emulator.mm_types import (
    BODY_CHANGE,
    CACHE_LINE,
    CONDITIONAL,
    EPOCH_BITS,
    EPOCH_MAX,
    FRAMES,
    LARGE,
    LAZYFREE,
    MAPPING_SHIFT,
    NR_MEMCGS,
    PCP_ROOM,
    PERCPU_COUNT_BIAS,
    PSC_ENTRIES,
    PTRS_PER_TABLE,
    SWAP_HAS_CACHE,
    TABLES,
    TLB_ENTRIES,
    VMA_LEAF,
    Geometry,
)
from emulator.pgtable_types import (
    DIRTY,
    FILE,
    HPAGE_PMD_NR,
    HPAGE_PMD_ORDER,
    HUGETLB,
    MIGRATION_ENTRY,
    PAGE,
    PAGE_SHIFT,
    PMD_SHIFT,
    PRESENT,
    PROTNONE,
    PSE,
    PTRS_PER_PTE,
    PTRS_SHIFT,
    RW,
    SPECIAL,
    SWAP_ENTRY,
    TABLE_ALLOCATED,
    TABLE_DEPOSITED,
    TABLE_FREE,
    TABLE_INSTALLED,
    TABLE_LIMBO,
    TABLE_UNHOOKED,
    UFFD_WP,
)

Views = Mapping[str, Any]
_CHUNK = 256  # tables looked at in one numpy operation, 1 MiB of entries: it stays in the cache
_FRAMES = 1 << 17  # frames looked at in one


def _maps_frame(entries: np.ndarray) -> np.ndarray:
    """True for each entry that maps a frame of the zone, accessible or not."""
    return (entries & (PRESENT | PROTNONE) != 0) & (entries & SPECIAL == 0)


class Frozen:
    """A stopped machine, with what several checks need computed once."""

    def __init__(self, views: Views, geometry: Geometry) -> None:
        self.views, self.geometry = views, geometry
        self.used = int(views["zone"]["fresh"][TABLES])  # tables that were ever handed out
        self.used_frames = int(views["zone"]["fresh"][FRAMES])
        self.state = views["ptdesc"]["state"][: self.used].astype(np.int8)
        self.level = views["ptdesc"]["level"][: self.used].astype(np.int8)
        self.live = np.flatnonzero(self.state == TABLE_INSTALLED)
        self.live_pte = np.flatnonzero((self.state == TABLE_INSTALLED) & (self.level == 1))
        self.deposited = np.flatnonzero(self.state == TABLE_DEPOSITED)
        self.all_entries = views["entry"]["word"].reshape(-1, PTRS_PER_TABLE)
        self.body = views["body"]["word"][: self.used] if geometry.bodies else None
        self.nonempty = np.zeros(self.used, np.int16)
        self.mapped = np.zeros(self.used_frames, np.int32)
        self.dirty = np.zeros(self.used_frames, np.bool_)  # some PTE says so
        self.of_files = np.zeros(self.used_frames, np.bool_)  # mapped as a page of a file
        self._vmas: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # of each mm: rows and ends
        self.cached = np.zeros(self.used_frames, np.int16)  # times that a page of a file has the frame
        np.add.at(self.cached, views["cache"]["frame"][views["cache"]["frame"] != 0], 1)
        for tables, entries in self.filled():
            self.nonempty[tables] = np.count_nonzero(entries, axis=1)
            maps_frame = _maps_frame(entries)
            self._count_mapped(entries[maps_frame] >> PAGE_SHIFT)
            file_entries = entries[maps_frame & (entries & FILE != 0)]
            self.of_files[file_entries >> PAGE_SHIFT] = True
            self.dirty[file_entries[file_entries & DIRTY != 0] >> PAGE_SHIFT] = True
        pmd_tables = np.flatnonzero((self.state == TABLE_INSTALLED) & (self.level == 2))
        rows, columns = np.nonzero(self.entries(pmd_tables) & PSE)
        leaves = pmd_tables[rows] * PTRS_PER_TABLE + columns  # the pmds that are leaves
        heads = self.entry(leaves) >> PAGE_SHIFT  # the first frame of each, 0 the huge zero page
        for head in heads[heads != 0]:
            self.mapped[head : head + HPAGE_PMD_NR] += 1
        for head in views["hugetlb_page"]["word"][views["hugetlb_page"]["word"] != 0]:
            self.cached[head : head + HPAGE_PMD_NR] += 1
        words = self.entry(leaves)
        anon, hugetlb = words & FILE == 0, words & HUGETLB != 0
        self.leaves, self.heads = leaves[anon], heads[anon]
        self.hugetlb_heads = heads[hugetlb]
        self.file_leaves, self.file_heads = leaves[~anon & ~hugetlb], heads[~anon & ~hugetlb]
        for head in self.file_heads:
            self.of_files[head : head + HPAGE_PMD_NR] = True

    def entries(self, tables: Any) -> np.ndarray:
        """The 512 entries of each of these tables, or of the one table."""
        return self.all_entries[tables if self.body is None else self.body[tables]]

    def entry(self, index: Any) -> np.ndarray:
        """The entries that these kernel pointers point to."""
        table = index >> PTRS_SHIFT
        return self.all_entries[table if self.body is None else self.body[table], index & (PTRS_PER_TABLE - 1)]

    def filled(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The installed PTE tables and their entries, so many at once that the memory they take is bounded. Tables of
        which it is known that all entries are none are left out."""
        filled = self.live_pte if self.body is None else self.live_pte[self.body[self.live_pte] != 0]
        for at in range(0, len(filled), _CHUNK):
            tables = filled[at : at + _CHUNK]
            yield tables, self.entries(tables)

    def _count_mapped(self, frames: np.ndarray) -> None:
        frames = frames[(frames >= 0) & (frames < self.used_frames)]  # what is poisoned names none
        if len(frames):
            first = int(frames.min())  # neighbours in memory were often allocated together
            times = np.bincount(frames - first)
            self.mapped[first : first + len(times)] += times.astype(np.int32)

    @property
    def shares(self) -> np.ndarray | None:
        """pt_share_count of each table; None where no page is of hugetlbfs, and nobody has looked at that memory."""
        there = self.views["hugetlb_page"]["word"].any()
        return self.views["ptnote"]["pt_share_count"][: self.used] if there else None

    def needed(self) -> np.ndarray:
        """Tables that hold something: PTE tables with an entry, and the PMD and PUD tables above those."""
        pte = self.live_pte[self.nonempty[self.live_pte] != 0]
        pmd = np.unique(self.views["ptdesc"]["pmd"][pte] >> PTRS_SHIFT)
        pud = np.unique(self.views["ptdesc"]["pmd"][pmd] >> PTRS_SHIFT)
        return np.concatenate([pte, pmd, pud])

    def free(self, zone: int) -> np.ndarray:
        """Indexes that the zone and the CPUs hold free, or an mm keeps, in no order."""
        v = self.views
        first = int(v["zone"]["slots"][zone])
        found = [v["zone_slot"]["word"][first : first + int(v["zone"]["count"][zone])]]
        for list_ in range(zone, len(v["pcp"]), 2):
            slot = list_ * PCP_ROOM
            found.append(v["pcp_slot"]["word"][slot : slot + int(v["pcp"]["count"][list_])])
        if zone == TABLES:
            found.append(self.kept())
        if zone == FRAMES:
            heads = v["block_slot"]["word"][: int(v["zone"]["blocks"][FRAMES])]
            found.append((heads[:, None] + np.arange(HPAGE_PMD_NR)).reshape(-1))
        return np.concatenate(found)

    def kept(self) -> np.ndarray:
        """Free tables that an mm keeps."""
        found: list[int] = []
        for table in self.views["mm"]["cached_tables"].tolist():
            while table != 0 and len(found) < self.used:  # a broken list may have no end
                found.append(table)
                table = int(self.views["ptdesc"]["next"][table])
        return np.array(found, np.int64)

    def vmas(self, mm: int) -> np.ndarray:
        """Rows of the VMAs of an mm, as its list has them."""
        if mm not in self._vmas:
            row = int(self.views["mm"]["first_vma"][mm])
            found: list[int] = []
            while row != 0 and len(found) <= self.geometry.vmas:  # a broken list may have no end
                found.append(row)
                row = int(self.views["vma"]["next"][row])
            rows = np.array(found, np.int64)
            self._vmas[mm] = rows, self.views["vma"]["end"][rows]
        return self._vmas[mm][0]

    def vmas_at(self, mm: int, addresses: np.ndarray) -> np.ndarray:
        """Row of the VMA that each address lies in or below; above the last it is that, and 0 if there is none."""
        rows = self.vmas(mm)
        found = np.searchsorted(self._vmas[mm][1], addresses, side="right")
        return rows[np.minimum(found, len(rows) - 1)] if len(rows) else found * 0


def pte_refcount(frozen: Frozen) -> int:
    """Every live PTE table's count is the number of its entries that are not none."""
    counts = frozen.views["ptdesc"]["pte_refcount"][frozen.live_pte]
    return int(np.count_nonzero(counts != frozen.nonempty[frozen.live_pte]))


def entries_counted(frozen: Frozen) -> int:
    """Every live PTE table's plain count is the number of its entries that are not none."""
    counts = frozen.views["ptnote"]["nr_entries"][frozen.live_pte]
    return int(np.count_nonzero(counts != frozen.nonempty[frozen.live_pte]))


def percpu_counted(frozen: Frozen) -> int:
    """Every live PTE table's words on the CPUs and its one word add up to the number of its entries. A bias comes on
    top while its mode says that it is counted on each CPU, or being switched (percpu_ref.py)."""
    words = int(frozen.views["config"]["cpu_words"][0])
    tables, ptdesc = frozen.live_pte, frozen.views["ptdesc"]
    counts = ptdesc["pte_refcount"][tables] - np.where(
        frozen.views["ptnote"]["policy_word"][tables] <= 1, PERCPU_COUNT_BIAS, 0
    )
    for cpu in range(frozen.geometry.cpus):
        counts = counts + frozen.views["cpu_word"]["word"][cpu * words + tables]
    return int(np.count_nonzero(counts != frozen.nonempty[tables]))


def no_visitors(frozen: Frozen) -> int:
    """No live PTE table has a visitor, where they are counted apart."""
    return int(np.count_nonzero(frozen.views["ptdesc"]["pte_refcount"][frozen.live_pte]))


def unwired(frozen: Frozen) -> int:
    """No live PTE table has a visitor, where those are counted apart, and no CPU is in an rmap walk."""
    words = frozen.views["config"]["cpu_words"][0]
    walks = frozen.views["cpu_word"]["word"][:: max(1, words)]
    return int(np.count_nonzero(frozen.views["ptnote"]["policy_word"][frozen.live_pte]) + np.count_nonzero(walks & 1))


def deltas(frozen: Frozen) -> int:
    """No CPU holds back references of a table, and no table is under review."""
    rows = frozen.views["cpu_word"]["word"].reshape(-1, int(frozen.views["config"]["cpu_words"][0]))
    return int(np.count_nonzero(rows[:, CACHE_LINE // 8 :]))  # its first line is its epoch


def zeros_counted(frozen: Frozen) -> int:
    """Every live PTE table's second count is the number of its entries that map the zero page."""
    entries = frozen.entries(frozen.live_pte)
    zeros = (entries & (PRESENT | PROTNONE) != 0) & (entries >> PAGE_SHIFT == 0) & (entries & (FILE | SPECIAL) == 0)
    counts = frozen.views["ptnote"]["policy_word"][frozen.live_pte]
    return int(np.count_nonzero(counts != np.count_nonzero(zeros, axis=1)))


def empty_tables(frozen: Frozen) -> int:
    """No empty PTE table is installed."""
    return int(np.count_nonzero(frozen.nonempty[frozen.live_pte] == 0))


def tables_installed(frozen: Frozen) -> int:
    """PTE tables installed = freed + live, those under huge pages included."""
    cpu = frozen.views["cpu"]
    there = len(frozen.live_pte) + len(frozen.deposited)
    return abs(int(cpu["tables_installed"].sum() - cpu["tables_freed"].sum()) - there)


def tables_reachable(frozen: Frozen) -> int:
    """Every live table is named by the entry it points back to, and by as many more as share it. Every present entry
    but a leaf names one.
    """
    upper = frozen.live[frozen.level[frozen.live] >= 2]
    lower = frozen.live[frozen.level[frozen.live] <= 3]
    named = frozen.entry(frozen.views["ptdesc"]["pmd"][lower])
    wrong = int(np.count_nonzero((named >> PAGE_SHIFT != lower) | (named & PRESENT == 0)))
    names = sum(int(np.count_nonzero(frozen.entries(table) & (PRESENT | PSE) == PRESENT)) for table in upper)
    shared = 0 if frozen.shares is None else int(frozen.shares[lower].sum())
    return wrong + abs(names - len(lower) - shared)


def shared_tables(frozen: Frozen) -> int:
    """A PMD table that several puds name has been counted that often, and maps pages of hugetlbfs only; its pages are
    those of the file."""
    shares = frozen.shares
    puds = np.flatnonzero((frozen.state == TABLE_INSTALLED) & (frozen.level == 3))
    named = np.bincount(_present(frozen.entries(puds)) >> PAGE_SHIFT, minlength=frozen.used)
    if shares is None:
        return int(np.count_nonzero(named > 1))
    wrong = int(np.count_nonzero(shares != np.maximum(named - 1, 0)))
    entries = frozen.entries(np.flatnonzero(shares))
    wrong += int(np.count_nonzero((entries != 0) & (entries & (PSE | HUGETLB) != PSE | HUGETLB)))
    return wrong + int(np.count_nonzero(~np.isin(frozen.hugetlb_heads, frozen.views["hugetlb_page"]["word"])))


def _present(entries: np.ndarray) -> np.ndarray:
    """Those of the entries that are present."""
    return entries[entries & PRESENT != 0]


def pgtables_bytes(frozen: Frozen) -> int:
    """VmPTE of every mm is 4 kB per live PTE, PMD and PUD table that belongs to it, also under a huge page. A PMD table
    belongs to each whose pud names it.
    """
    level = frozen.level[frozen.live]
    puds = frozen.live[level == 3]
    own = np.concatenate([frozen.live[level == 1], puds, frozen.deposited])
    owner = frozen.views["ptdesc"]["mm"]
    tables = np.bincount(owner[own], minlength=frozen.geometry.mms + 1)  # the first: tables that belong to nobody
    np.add.at(tables, owner[puds], np.count_nonzero(frozen.entries(puds) & PRESENT, axis=1))
    return int(tables[0] + np.count_nonzero(frozen.views["mm"]["pgtables_bytes"] != tables[1:] * PAGE))


def in_swap(entries: np.ndarray) -> np.ndarray:
    """Which entries have their page in swap: is_swap_entry."""
    found: np.ndarray = entries & (PAGE - 1) & ~UFFD_WP == SWAP_ENTRY
    return found


def rss(frozen: Frozen) -> int:
    """RSS of every mm is the number of its entries that map a frame other than the zero page, files' counted apart."""
    anon = np.zeros(frozen.geometry.mms, np.int64)
    file = np.zeros(frozen.geometry.mms, np.int64)
    swapped = np.zeros(frozen.geometry.mms, np.int64)
    for tables, entries in frozen.filled():
        mapped = _maps_frame(entries) & (entries >> PAGE_SHIFT != 0)
        of_file = entries & FILE != 0
        owners = frozen.views["ptdesc"]["mm"][tables] - 1
        np.add.at(anon, owners, np.count_nonzero(mapped & ~of_file, axis=1))
        np.add.at(file, owners, np.count_nonzero(mapped & of_file, axis=1))
        np.add.at(swapped, owners, np.count_nonzero(in_swap(entries), axis=1))
    owners = frozen.views["ptdesc"]["mm"][frozen.leaves[frozen.heads != 0] >> PTRS_SHIFT] - 1
    np.add.at(anon, owners, HPAGE_PMD_NR)
    np.add.at(file, frozen.views["ptdesc"]["mm"][frozen.file_leaves >> PTRS_SHIFT] - 1, HPAGE_PMD_NR)
    claimed = frozen.views["mm"]["rss_anon"].copy()
    mm = frozen.views["cpu"]["mm"]
    np.add.at(claimed, mm[mm >= 0], frozen.views["cpu"]["rss_cache"][mm >= 0])
    wrong = np.abs(claimed - anon) + np.abs(frozen.views["mm"]["rss_file"] - file)
    return int((wrong + np.abs(frozen.views["mm"]["rss_swap"] - swapped)).sum())


def mapcount(frozen: Frozen) -> int:
    """Every frame's mapcount is the number of entries that map it; it has that many users, and the page cache's."""
    device, wrong = int(frozen.views["device"]["frame"][0]), 0
    for first in range(1, frozen.used_frames, _FRAMES):
        some = slice(first, min(first + _FRAMES, frozen.used_frames))
        page, mapped = frozen.views["page"][some], frozen.mapped[some]
        users = page["refcount"] - frozen.cached[some]
        if some.start <= device < some.stop:  # frame 0: none
            users[device - first] -= 1
        wrong += int(np.count_nonzero((page["mapcount"] != mapped) | (users != mapped)))
    return wrong


def frames(frozen: Frozen) -> int:
    """Frames free + mapped or in the page cache + the device's = all that were handed out; none is twice among them."""
    times = ((frozen.mapped > 0) | (frozen.cached > 0)).astype(np.int16)
    np.add.at(times, frozen.free(FRAMES), 1)
    times[frozen.views["device"]["frame"][0]] += 1
    return int(np.count_nonzero(times[1:] != 1))


def rmap(frozen: Frozen) -> int:
    """Every entry of an anonymous frame lies where the frame's mapping, if it has one, says: family and page index."""
    wrong = 0
    for tables, entries in frozen.filled():
        anon = _maps_frame(entries) & (entries & FILE == 0) & (entries >> PAGE_SHIFT != 0)
        wrong += _misplaced(frozen, tables, anon, entries >> PAGE_SHIFT)
    for at in range(0, len(frozen.deposited), _CHUNK):  # its leaf maps what it would
        tables = frozen.deposited[at : at + _CHUNK]
        heads = frozen.entry(frozen.views["ptdesc"]["pmd"][tables])[:, None] >> PAGE_SHIFT
        pieces = heads + np.arange(HPAGE_PMD_NR)
        wrong += _misplaced(frozen, tables, np.broadcast_to(heads != 0, pieces.shape), pieces)
    return wrong


def _misplaced(frozen: Frozen, tables: np.ndarray, anon: np.ndarray, frames: np.ndarray) -> int:
    """Of the frames, 512 of each of these PTE tables, that are `anon`: whose mapping says otherwise."""
    v, wrong = frozen.views, 0
    owners = v["ptdesc"]["mm"][tables] - 1
    addresses = _addresses(frozen, tables)
    for mm in np.unique(owners):
        places = np.flatnonzero(anon & (owners == mm)[:, None])
        rows = places >> PTRS_SHIFT
        at = addresses[rows] + (places & (PTRS_PER_TABLE - 1)) * PAGE
        vma = frozen.vmas_at(int(mm), addresses)[rows]  # that of the first page of its table, most often
        later = at >= v["vma"]["end"][vma]
        vma[later] = frozen.vmas_at(int(mm), at[later])
        start = v["vma"]["start"][vma]
        index = v["vma"]["pgoff"][vma] + (at - start >> PAGE_SHIFT)
        mapping = v["page"]["mapping"][frames.reshape(-1)[places]] & ~(LAZYFREE | LARGE)
        wrong += int(np.count_nonzero((mapping != 0) & (mapping != index << MAPPING_SHIFT | v["mm"]["family"][mm])))
        outside = (start > at) | (v["vma"]["end"][vma] <= at)
        wrong += int(np.count_nonzero(outside | (v["vma"]["anon_vma"][vma] == 0)))
    return wrong


def _addresses(frozen: Frozen, tables: np.ndarray) -> np.ndarray:
    """The first address that each of these installed PTE tables maps."""
    addresses = np.zeros(len(tables), np.int64)
    for shift in (21, 30, 39):
        entries = frozen.views["ptdesc"]["pmd"][tables]
        addresses |= (entries & (PTRS_PER_TABLE - 1)) << shift
        tables = entries >> PTRS_SHIFT
    return addresses


def page_cache(frozen: Frozen) -> int:
    """A page in memory lies within its file, or in a large folio that begins there, and its frame names it. Unless it
    is dirty the disk has the same words.

    A frame that is mapped as a page of a file is one, of one page; no page is under write-back.
    """
    v, geometry = frozen.views, frozen.geometry
    cache = v["cache"][: geometry.files * geometry.file_pages]
    slots = np.flatnonzero(cache["frame"])
    frames = cache["frame"][slots]
    pgoff = slots % geometry.file_pages
    small = cache["order"][slots] == 0
    wrong = int(np.count_nonzero(small & (pgoff >= v["file"]["size"][slots // geometry.file_pages])))
    wrong += int(np.count_nonzero(frozen.cached > 1) + np.count_nonzero(frozen.of_files & (frozen.cached == 0)))
    wrong += int(np.count_nonzero(cache["writeback"]))
    wrong += int(np.count_nonzero(frozen.dirty[frames] & (cache["dirty"][slots] == 0)))
    if geometry.files:
        wrong += int(np.count_nonzero(v["page_slot"]["word"][frames] != slots + 1))
        in_memory = v["frame"]["word"].reshape(-1, geometry.frame_words)[frames]
        on_disk = v["disk"]["word"][: geometry.slots * geometry.frame_words].reshape(-1, geometry.frame_words)[slots]
        wrong += int(np.count_nonzero((in_memory != on_disk).any(axis=1) & (cache["dirty"][slots] == 0)))
    return wrong


def swap(frozen: Frozen) -> int:
    """A slot of swap counts the entries that name it, and its frame, and nothing else. The frame names it and holds
    what the disk has unless it is dirty. No page is being migrated.
    """
    v, geometry = frozen.views, frozen.geometry
    first = geometry.slots - geometry.swap_pages
    cache = v["cache"][first : first + geometry.swap_pages]
    named = np.zeros(geometry.slots + 1, np.int64)  # the last: slots that do not exist
    wrong = 0
    for _, entries in frozen.filled():
        slots = entries[in_swap(entries)] >> PAGE_SHIFT
        np.add.at(named, np.where((first <= slots) & (slots < geometry.slots), slots, geometry.slots), 1)
        low = entries & (PRESENT | PROTNONE | MIGRATION_ENTRY | SWAP_ENTRY)
        wrong += int(np.count_nonzero(low == MIGRATION_ENTRY))
    has_cache = (cache["frame"] != 0) * SWAP_HAS_CACHE
    wrong += int(np.count_nonzero(cache["swap_map"] != named[first:-1] + has_cache) + named[-1])
    slots = np.flatnonzero(cache["frame"])
    frames = cache["frame"][slots]
    wrong += int(np.count_nonzero(v["page_slot"]["word"][frames] != first + slots + 1))
    in_memory = v["frame"]["word"].reshape(-1, geometry.frame_words)[frames]
    on_disk = v["disk"]["word"][: geometry.slots * geometry.frame_words].reshape(-1, geometry.frame_words)[
        first + slots
    ]
    wrong += int(np.count_nonzero((in_memory != on_disk).any(axis=1) & (cache["dirty"][slots] == 0)))
    wrong += abs(int(v["swap"]["used"][0]) - int(np.count_nonzero(cache["swap_map"])))
    return wrong + int(v["swap"]["off"][0])


def vmas(frozen: Frozen) -> int:
    """The VMAs of each mm are in order, and its list forwards, backwards, its tree and its count say the same."""
    v = frozen.views
    wrong = 0
    for mm in range(frozen.geometry.mms):
        rows = frozen.vmas(mm)
        found = v["vma"][rows]
        wrong += int(np.count_nonzero(found["start"] >= found["end"]))
        wrong += int(np.count_nonzero(found["end"][:-1] > found["start"][1:]))
        wrong += found["prev"].tolist() != [0, *rows.tolist()][: len(rows)]
        wrong += _in_leaves(frozen, mm) != list(zip(found["start"].tolist(), rows.tolist(), strict=True))
        wrong += int(v["mm"]["vmas"][mm]) != len(rows)
    return wrong


def _in_leaves(frozen: Frozen, mm: int) -> list[tuple[int, int]]:
    """Addresses and rows in the tree of an mm, in order; none, if the directory has another than a leaf's first."""
    place, leaves = frozen.views["place"], frozen.geometry.vma_leaves
    found = _entries(place, frozen.geometry.mms * leaves + mm * leaves * (1 + VMA_LEAF))
    for start, leaf in _entries(place, mm * leaves):
        entries = _entries(place, leaf)
        if not entries or entries[0][0] != start:
            return []
        found += entries
    return found


def _entries(place: np.ndarray, node: int) -> list[tuple[int, int]]:
    """The entries of a node."""
    entries = place[node + 1 : node + 1 + int(place["row"][node])]
    return list(zip(entries["start"].tolist(), entries["row"].tolist(), strict=True))


def i_mmap(frozen: Frozen) -> int:
    """The VMAs of all mms that map a file are those in its list, forwards and backwards."""
    v, geometry = frozen.views, frozen.geometry
    mapped = {file: set[int]() for file in range(geometry.files + 2)}
    for mm in range(geometry.mms):
        rows = frozen.vmas(mm)
        for row in rows[v["vma"]["file"][rows] != 0].tolist():
            mapped[int(v["vma"]["file"][row]) - 1].add(row)
    wrong = 0
    for file, expected in mapped.items():
        row, last, listed = int(v["file"]["i_mmap"][file]), 0, set[int]()
        while row != 0 and row not in listed:
            listed.add(row)
            wrong += int(v["vma"]["i_mmap_prev"][row]) != last
            row, last = int(v["vma"]["i_mmap_next"][row]), row
        wrong += len(listed ^ expected) + (int(v["file"]["i_mmap_last"][file]) != last)
    return wrong


def memcg(frozen: Frozen) -> int:
    """Every control group is charged for the frames that say so, and those are in use (debug build)."""
    v = frozen.views
    if not frozen.geometry.debug:
        return 0
    groups = v["page_memcg"]["word"][: frozen.used_frames]
    charged = np.bincount(groups, minlength=NR_MEMCGS)[1:]
    return int(np.abs(v["memcg"]["charged"][1:] - charged).sum() + np.count_nonzero(groups[frozen.free(FRAMES)]))


def tables(frozen: Frozen) -> int:
    """Tables free + installed, or under a huge page = all that were ever handed out; none is both, or on two lists.

    Those that an mm keeps have no entry.
    """
    free = frozen.free(TABLES)
    times = np.bincount(free, minlength=frozen.used)
    times[frozen.live] += 1
    times[frozen.deposited] += 1
    times[0] = 1
    at_rest = np.isin(frozen.state, (TABLE_FREE, TABLE_INSTALLED, TABLE_DEPOSITED))
    return int(np.count_nonzero((times != 1) | ~at_rest) + np.count_nonzero(frozen.entries(frozen.kept()).any(axis=1)))


def bodies(frozen: Frozen) -> int:
    """A body has one table, or is free, and then all none: a table whose body went before its entries has lost them."""
    if frozen.body is None:
        return 0
    v, used = frozen.views, int(frozen.views["bodies"]["fresh"][0])
    free: list[int] = []
    body = int(v["bodies"]["free"][0]) & (BODY_CHANGE - 1)
    while body != 0 and len(free) < used:  # a broken list may have no end
        free.append(body)
        body = int(v["body_next"]["word"][body])
    times = np.bincount(frozen.body, minlength=used) + np.bincount(np.array(free, np.int64), minlength=used)
    return int(np.count_nonzero(times[1:] != 1) + np.count_nonzero(frozen.all_entries[free].any(axis=1)))


def huge_pages(frozen: Frozen) -> int:
    """Every leaf maps an aligned block and lies in one VMA. One of anonymous memory has a table of its mm deposited,
    which no other leaf has. One of a file maps a large folio of the page cache, whose frames lie side by side.
    """
    ptdesc = frozen.views["ptdesc"]
    wrong = int(np.count_nonzero(frozen.heads % HPAGE_PMD_NR))
    wrong += len(np.setxor1d(frozen.leaves, ptdesc["pmd"][frozen.deposited]))
    wrong += len(frozen.leaves) != len(frozen.deposited)
    owner = ptdesc["mm"][ptdesc["pmd"][frozen.deposited] >> PTRS_SHIFT]
    for table, addr in zip(frozen.deposited, _addresses(frozen, frozen.deposited), strict=True):
        mm = int(ptdesc["mm"][table]) - 1
        vmas = frozen.views["vma"][frozen.vmas(mm)]
        wrong += not np.any((vmas["start"] <= addr) & (addr + HPAGE_PMD_NR * PAGE <= vmas["end"]))
    cache = frozen.views["cache"]
    large = np.flatnonzero(cache["order"])
    place = large % max(1, frozen.geometry.file_pages) % (1 << cache["order"][large])
    first = large - place  # the first page of its folio
    wrong += int(np.count_nonzero(cache["frame"][large] != cache["frame"][first] + place))
    wrong += int(np.count_nonzero(cache["order"][large] != cache["order"][first]))
    wrong += int(np.count_nonzero(~np.isin(frozen.file_heads, cache["frame"][cache["order"] == HPAGE_PMD_ORDER])))
    return wrong + int(np.count_nonzero(ptdesc["mm"][frozen.deposited] != owner))


def limbo(frozen: Frozen) -> int:
    """No table waits for a grace period after the last one, none is private or unhooked, no gather is open."""
    cpu = frozen.views["cpu"]
    waiting = np.count_nonzero(cpu["cb_head"]) + np.count_nonzero(cpu["cb_taken"])
    between = np.count_nonzero(np.isin(frozen.state, (TABLE_ALLOCATED, TABLE_UNHOOKED, TABLE_LIMBO)))
    pending = np.count_nonzero(frozen.views["mm"]["tlb_flush_pending"])
    return int(waiting + between + pending + np.count_nonzero(cpu["gather_mm"]))


def locks(frozen: Frozen) -> int:
    """No lock is held, no CPU is in a read section."""
    v = frozen.views
    held = np.count_nonzero(v["ptdesc"]["ptl"][: frozen.used]) + np.count_nonzero(v["zone"]["lock"])
    held += np.count_nonzero(v["mutex"]["owner"]) + np.count_nonzero(v["htable"]["lock"])
    held += np.count_nonzero(v["mm"]["mmap_readers"]) + np.count_nonzero(v["mm"]["mmap_writer"])
    held += np.count_nonzero(v["mm"]["pmap_lock"])
    return int(held + np.count_nonzero(v["cpu"]["rcu_nesting"]))


def stale_tlb(frozen: Frozen) -> int:
    """A CPU that has followed every flush of its mm caches no translation that the page tables do not have or allow."""
    wrong = 0
    for cpu in range(frozen.geometry.cpus):
        row = frozen.views["cpu"][cpu]
        mm = int(row["mm"])
        if mm < 0 or row["tlb_gen"] != frozen.views["mm"]["tlb_gen"][mm]:
            continue  # it flushes everything before its next access
        tlb = frozen.views["tlb"][cpu * TLB_ENTRIES : (cpu + 1) * TLB_ENTRIES]
        psc = frozen.views["psc"][cpu * PSC_ENTRIES : (cpu + 1) * PSC_ENTRIES]
        for slot in tlb[(tlb["tag"] != 0) & (tlb["tag"] & EPOCH_MAX == row["tlb_epoch"])]:
            addr = (int(slot["tag"]) >> EPOCH_BITS) << PAGE_SHIFT
            pmd = _walk(frozen, mm, addr)
            table = _table(pmd)
            entry = int(frozen.entries(table)[addr >> PAGE_SHIFT & (PTRS_PER_PTE - 1)]) if table else _piece(pmd, addr)
            cached = int(slot["entry"])
            wrong += entry & PRESENT == 0 or entry >> PAGE_SHIFT != cached >> PAGE_SHIFT or (cached & RW) > (entry & RW)
        for slot in psc[(psc["tag"] != 0) & (psc["tag"] & EPOCH_MAX == row["psc_epoch"])]:
            wrong += _table(_walk(frozen, mm, (int(slot["tag"]) >> EPOCH_BITS) << PMD_SHIFT)) != int(slot["table"])
    return int(wrong)


def _walk(frozen: Frozen, mm: int, addr: int) -> int:
    """The PMD entry for an address, 0 if the hardware finds none."""
    entry = int(frozen.views["mm"]["pgd"][mm]) << PAGE_SHIFT
    for shift in (39, 30, 21):
        entry = int(frozen.entries(entry >> PAGE_SHIFT)[addr >> shift & (PTRS_PER_PTE - 1)])
        if not entry & PRESENT:
            return 0
    return entry


def _table(pmd: int) -> int:
    """The PTE table that a PMD entry names, or 0."""
    return pmd >> PAGE_SHIFT if pmd & (PRESENT | PSE) == PRESENT else 0


def _piece(leaf: int, addr: int) -> int:
    """The PTE that maps what a leaf maps at an address; 0 if it is none."""
    return leaf & ~(PSE | HUGETLB) | (
        (addr >> PAGE_SHIFT & (HPAGE_PMD_NR - 1)) << PAGE_SHIFT if leaf >> PAGE_SHIFT else 0
    )


CHECKS: dict[str, Callable[[Frozen], int]] = {
    "pte_refcount": pte_refcount,
    "empty_tables": empty_tables,
    "entries_counted": entries_counted,
    "zeros_counted": zeros_counted,
    "no_visitors": no_visitors,
    "percpu_counted": percpu_counted,
    "unwired": unwired,
    "deltas": deltas,
    "tables_installed": tables_installed,
    "tables_reachable": tables_reachable,
    "shared_tables": shared_tables,
    "pgtables_bytes": pgtables_bytes,
    "rss": rss,
    "mapcount": mapcount,
    "frames": frames,
    "rmap": rmap,
    "page_cache": page_cache,
    "swap": swap,
    "vmas": vmas,
    "i_mmap": i_mmap,
    "memcg": memcg,
    "tables": tables,
    "bodies": bodies,
    "huge_pages": huge_pages,
    "limbo": limbo,
    "locks": locks,
    "stale_tlb": stale_tlb,
}


def holds(views: Views, name: str) -> bool:
    """True if a check holds under the policy of a machine."""
    return name not in CONDITIONAL or bool(int(views["config"]["invariants"][0]) >> CONDITIONAL.index(name) & 1)


def audit(views: Views, geometry: Geometry, frozen: Frozen | None = None) -> dict[str, int]:
    """Run every check that applies over a stopped machine, which may be `frozen` already: name -> violations."""
    frozen = frozen or Frozen(views, geometry)
    return {name: check(frozen) for name, check in CHECKS.items() if holds(views, name)}
