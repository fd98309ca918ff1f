"""Detectors of wrong memory contents and of stale translations: what this CPU knows of the words it accesses.

Debug build with --checks online. Five layers, from cheap to exact:

- A translation that was cached carries the generation of its frame or table; one that was freed since is a BUG.
- A frame notes whose words it holds (page_stored_by: mm, virtual page, CPU; SHARED once two CPUs stored). A word in a
  frame of another address is a BUG, whatever its value. A frame that fork has shared (FORKED) may be read at its
  address in any mm. A store to it is a BUG until COW is broken. One that mremap moves (MOVING) is at two addresses
  until the old one is flushed.
- A frame has a set of the values stored to it by anybody, kept as 62 bits by a hash. A word outside of it, and not
  zero, is a BUG.
- A page of a file is shared. What was stored to it is known by the page, in `m.cache`, whatever frame holds it and
  wherever it is mapped. A store finds it dirty, or write-back would miss it. A CPU that alone stored to it reads its
  word back, also after the page has been to the disk. A truncated or punched file is the exception.
- Each CPU remembers the latest words it stored. Read back from a page that no other CPU stored to, a word must be the
  same. It may be zero only if the page may have been released since, and must be if this CPU released it.
"""

from emulator.atomic import DEBUG, cmpxchg, kernel, read_once, write_once
from emulator.bug import BUG
from emulator.mm_types import PSC_ENTRIES, SHADOW_ENTRIES, TLB_ENTRIES
from emulator.pgtable_types import FILE, PAGE_SHIFT, PMD_SHIFT, SPECIAL, TABLE_FREE
from emulator.watch.bugs import Bug

BUG_TLB = int(Bug.TLB_HIT_FREED_FRAME)
BUG_PSC = int(Bug.PSC_HIT_FREED_TABLE)
BUG_WALK = int(Bug.WALK_FREED_TABLE)
BUG_FOREIGN = int(Bug.FOREIGN_CONTENTS)
BUG_LOST = int(Bug.LOST_STORE)
BUG_STALE = int(Bug.STALE_AFTER_DONTNEED)
BUG_CLEAN = int(Bug.STORE_TO_CLEAN_PAGE)
BUG_COW = int(Bug.STORE_TO_SHARED)
BUG_NEVER_STORED = int(Bug.VALUE_NEVER_STORED)
SHARED, FORKED, MOVING = 1023, 1022, 1021  # in place of the CPU
WHO_BITS = 10


@kernel
def check_psc(m, cpu, addr, table, cached):
    """Detector: after a walk through `table`, that it was not freed since this CPU found it."""
    slot = cpu * PSC_ENTRIES + (addr >> PMD_SHIFT & (PSC_ENTRIES - 1))
    generation = m.ptdesc.generation[table]
    if m.psc_generation[slot] != generation or read_once(m.ptdesc.state, table) == TABLE_FREE:
        BUG(m, cpu, BUG_PSC if cached else BUG_WALK, table, m.psc_generation[slot], generation)


@kernel
def check_tlb(m, cpu, addr, entry):
    """Detector: after an access through `entry`, that its frame was not freed since this CPU cached it."""
    slot = cpu * TLB_ENTRIES + (addr >> PAGE_SHIFT & (TLB_ENTRIES - 1))
    frame = entry >> PAGE_SHIFT
    generation = read_once(m.page.generation, frame)
    if m.tlb_generation[slot] != generation:
        BUG(m, cpu, BUG_TLB, frame, m.tlb_generation[slot], generation)


@kernel
def zaps_of_others(m, cpu, mm):
    """Gathers that other CPUs have opened on `mm`, or -1 if one is open now.

    The count is read before the look for open ones. A gather that opens in between is seen by the look or, if it closes
    first, is one more for a later comparison. The other way round it would be in the count and not be seen open.
    """
    mine = 1 if m.cpu.gather_mm[cpu] == mm + 1 else 0
    zaps = read_once(m.mm.zaps, mm) - m.own_zaps[cpu * m.config.n_mm[0] + mm]
    if read_once(m.mm.tlb_flush_pending, mm) > mine:
        return -1
    return zaps


@kernel
def owner_tag(mm, addr, who):
    """What page_stored_by holds: mm, virtual page, CPU + 1 or one of the above."""
    return (mm << 36 | addr >> PAGE_SHIFT) << WHO_BITS | who


@kernel
def shadow_key(mm, addr):
    """What shadow.key holds."""
    return mm << 45 | addr >> 3


@kernel
def belongs(tag, mine):
    """True if a frame with this tag may hold words of the address and mm of `mine`."""
    who = tag & SHARED
    if tag == 0 or who == MOVING or tag >> WHO_BITS == mine >> WHO_BITS:
        return True
    page = (1 << 36) - 1
    return who == FORKED and (tag == FORKED or tag >> WHO_BITS & page == mine >> WHO_BITS & page)


@kernel
def value_bit(value):
    """The bit that stands for a value."""
    return 1 << ((value ^ value >> 7 ^ value >> 19) % 62)


@kernel
def note_value(values, i, value):
    """Enter a value into a set; before the store, so that a reader of the word finds the bit."""
    bit = value_bit(value)
    seen = read_once(values, i)
    while seen & bit == 0:
        before = cmpxchg(values, i, seen, seen | bit)
        if before == seen:
            return
        seen = before


@kernel
def file_word(m, slot, addr):
    """The key of a word of a page of a file: wherever it is mapped, it is the same."""
    words = m.config.frame_words[0]
    return 1 << 60 | slot * words | (addr >> 3 & (words - 1))


@kernel
def punches(m, slot):
    """How often pages were taken away from the file of a page, or -1 if that is under way."""
    count = read_once(m.file.punched, slot // m.config.file_pages[0])
    return -1 if count & 1 else count


@kernel
def shadow_store_file(m, cpu, addr, frame, value):
    """Before a store to a page of a file: remember the word. A page that left the cache is nobody's any more."""
    slot = read_once(m.page_slot, frame) - 1
    if slot < 0:
        return
    if read_once(m.cache.dirty, slot) == 0:
        BUG(m, cpu, BUG_CLEAN, addr, 1, slot)
    before = cmpxchg(m.cache.stored_by, slot, 0, cpu + 1)
    if before != 0 and before != cpu + 1:
        write_once(m.cache.stored_by, slot, SHARED)
    note_value(m.cache.values, slot, value)
    row = cpu * SHADOW_ENTRIES + (slot & (SHADOW_ENTRIES - 1))
    m.shadow.key[row] = file_word(m, slot, addr)
    m.shadow.value[row] = value
    m.shadow.zaps[row] = punches(m, slot)


@kernel
def shadow_load_file(m, cpu, addr, frame, value):
    """After a load from a page of a file: the word is one that may be there."""
    slot = read_once(m.page_slot, frame) - 1
    if slot < 0:
        return
    if value != 0 and read_once(m.cache.values, slot) & value_bit(value) == 0:
        BUG(m, cpu, BUG_NEVER_STORED, addr, 0, value)
    row = cpu * SHADOW_ENTRIES + (slot & (SHADOW_ENTRIES - 1))
    if m.shadow.key[row] != file_word(m, slot, addr) or value == m.shadow.value[row]:
        return
    since = m.shadow.zaps[row]
    if read_once(m.cache.stored_by, slot) == cpu + 1 and since >= 0 and punches(m, slot) == since:
        BUG(m, cpu, BUG_LOST, addr, m.shadow.value[row], value)


@kernel
def shadow_copy(m, mm, addr, frame, source):
    """The fresh frame for `addr` gets what a page of a file holds: words that nobody stored at `addr`."""
    if DEBUG:
        slot = m.page_slot[source] - 1
        write_once(m.page_stored_by, frame, owner_tag(mm, addr, SHARED))
        write_once(m.page_values, frame, read_once(m.cache.values, slot) if slot >= 0 else -1)


@kernel
def shadow_store(m, cpu, mm, addr, entry, value):
    """Before a store: the frame is ours, and remember the word."""
    frame = entry >> PAGE_SHIFT
    if entry & (SPECIAL | FILE):
        if entry & FILE:
            shadow_store_file(m, cpu, addr, frame, value)
        return
    mine = owner_tag(mm, addr, cpu + 1)
    before = cmpxchg(m.page_stored_by, frame, 0, mine)
    if not belongs(before, mine):
        BUG(m, cpu, BUG_FOREIGN, addr, mine >> WHO_BITS << PAGE_SHIFT, before >> WHO_BITS << PAGE_SHIFT)
    if before & SHARED == FORKED:
        BUG(m, cpu, BUG_COW, addr, frame, read_once(m.page.mapcount, frame))
    if before != 0 and before != mine and before & SHARED != MOVING:
        cmpxchg(m.page_stored_by, frame, before, owner_tag(mm, addr, SHARED))
    note_value(m.page_values, frame, value)
    slot = cpu * SHADOW_ENTRIES + (addr >> PAGE_SHIFT & (SHADOW_ENTRIES - 1))
    m.shadow.key[slot] = shadow_key(mm, addr)
    m.shadow.value[slot] = value
    m.shadow.zaps[slot] = zaps_of_others(m, cpu, mm)
    m.shadow.released[slot] = 0


@kernel
def shadow_device_store(m, mm, frame, addr, value):
    """Before a store by a device, which no CPU remembers: any word may be there. Wherever the frame is by now."""
    tag = read_once(m.page_stored_by, frame)
    while tag == 0 or tag & SHARED < MOVING:
        shared = tag | SHARED if tag != 0 else owner_tag(mm, addr, SHARED)
        before = cmpxchg(m.page_stored_by, frame, tag, shared)
        if before == tag:
            break
        tag = before
    note_value(m.page_values, frame, value)


@kernel
def shadow_load(m, cpu, mm, addr, entry, value):
    """After a load: the word is one that may be there."""
    frame = entry >> PAGE_SHIFT
    if entry & (SPECIAL | FILE):
        if entry & FILE:
            shadow_load_file(m, cpu, addr, frame, value)
        return
    tag = read_once(m.page_stored_by, frame)
    mine = owner_tag(mm, addr, cpu + 1)
    if not belongs(tag, mine):
        BUG(m, cpu, BUG_FOREIGN, addr, mine >> WHO_BITS << PAGE_SHIFT, tag >> WHO_BITS << PAGE_SHIFT)
    if value != 0 and read_once(m.page_values, frame) & value_bit(value) == 0:
        BUG(m, cpu, BUG_NEVER_STORED, addr, 0, value)
    slot = cpu * SHADOW_ENTRIES + (addr >> PAGE_SHIFT & (SHADOW_ENTRIES - 1))
    if m.shadow.key[slot] != shadow_key(mm, addr):
        return
    if m.shadow.released[slot] != 0:
        if tag == mine and value != 0:
            BUG(m, cpu, BUG_STALE, addr, 0, value)
    elif value != m.shadow.value[slot] and (tag == mine or (tag == 0 and value == 0)):
        since = m.shadow.zaps[slot]
        if value != 0 or (since >= 0 and zaps_of_others(m, cpu, mm) == since):
            BUG(m, cpu, BUG_LOST, addr, m.shadow.value[slot], value)


@kernel
def shadow_release(m, cpu, mm, start, end):
    """This CPU clears [start, end) itself: what it stored there is gone once it is back in user mode."""
    for slot in range(cpu * SHADOW_ENTRIES, (cpu + 1) * SHADOW_ENTRIES):
        if shadow_key(mm, start) <= m.shadow.key[slot] < shadow_key(mm, end):
            m.shadow.released[slot] = 1


@kernel
def shadow_own(m, mm, frame, addr):
    """A frame is this address's alone: it was copied, reused or moved, so what each CPU stored there is not known."""
    write_once(m.page_stored_by, frame, owner_tag(mm, addr, SHARED))


@kernel
def shadow_share(m, frame, addr):
    """Fork has shared a frame and no CPU can store to it any more; one that was shared before may be anywhere."""
    if read_once(m.page_stored_by, frame) & SHARED != FORKED:
        write_once(m.page_stored_by, frame, owner_tag(0, addr, FORKED))


@kernel
def shadow_move(m, frame):
    """Before a frame appears at a second address. A shared one stays shared, at any address."""
    while True:
        tag = read_once(m.page_stored_by, frame)
        moving = FORKED if tag & SHARED == FORKED else MOVING
        if cmpxchg(m.page_stored_by, frame, tag, moving) == tag:
            return


@kernel
def shadow_moved(m, mm, frame, addr):
    """After the flush of a frame's old address."""
    if read_once(m.page_stored_by, frame) == MOVING:
        shadow_own(m, mm, frame, addr)


@kernel
def shadow_unshare(m, mm, frame, addr):
    """A frame from swap is this address's alone; if fork had shared it, what each CPU stored is not known."""
    if read_once(m.page_stored_by, frame) & SHARED == FORKED:
        shadow_own(m, mm, frame, addr)


@kernel
def shadow_shared(m, frame):
    """A frame from swap may be others' too: one that nobody stored to is at no address alone, wherever it is moved."""
    cmpxchg(m.page_stored_by, frame, 0, FORKED)


@kernel
def shadow_swap_out(m, slot, frame):
    """What is known of a frame is known of its slot from now on, unless fork or mremap has just told the slot."""
    tag = read_once(m.cache.stored_by, slot)
    cmpxchg(m.cache.stored_by, slot, tag, read_once(m.page_stored_by, frame))
    write_once(m.cache.values, slot, read_once(m.page_values, frame))


@kernel
def shadow_swap_in(m, slot, frame):
    """What is known of a slot is known of the frame that the swap cache has got for it. fork or mremap may be telling
    the slot something else at this moment.
    """
    tag = -1
    while tag != read_once(m.cache.stored_by, slot):
        tag = read_once(m.cache.stored_by, slot)
        write_once(m.page_stored_by, frame, tag)
    write_once(m.page_values, frame, read_once(m.cache.values, slot))


@kernel
def moved_tag(before, mm, addr, tag):
    """What becomes of the tag `before` of a page that was at `addr` of `mm` when `tag` is to hold; -1 for nothing.

    A page that fork has shared stays shared, and may be anywhere once it is at another address.
    """
    if before & SHARED == FORKED:
        moved = tag & SHARED != FORKED and before >> WHO_BITS == owner_tag(0, addr, 0) >> WHO_BITS
        return FORKED if moved else -1
    return tag if before >> WHO_BITS == owner_tag(mm, addr, 0) >> WHO_BITS else -1


@kernel
def move_tag(tags, i, mm, addr, tag):
    """Let moved_tag become of `tags[i]`, and return it."""
    before = read_once(tags, i)
    after = moved_tag(before, mm, addr, tag)
    if after >= 0:
        cmpxchg(tags, i, before, after)
    return after


@kernel
def shadow_swapped(m, mm, addr, slot, tag):
    """fork has shared, or mremap has moved, the page in `slot` that was at `addr`: `tag` is what holds from now on.

    The slot is told before the frame that the swap cache may have, for bringing it in (shadow_swap_in). It is told
    behind the frame, for taking it out (shadow_swap_out). The frame may be another page's by now.
    """
    move_tag(m.cache.stored_by, slot, mm, addr, tag)
    frame = read_once(m.cache.frame, slot)
    after = move_tag(m.page_stored_by, frame, mm, addr, tag) if frame != 0 else -1
    known = read_once(m.cache.stored_by, slot)
    if known != 0:
        after = moved_tag(known, mm, addr, tag)
    if after >= 0:
        write_once(m.cache.stored_by, slot, after)


@kernel
def shadow_migrated(m, mm, frame, addr, shared):
    """The frame a page has moved to is mapped at `addr`, and elsewhere if `shared`: fork or mremap came meanwhile."""
    tag = read_once(m.page_stored_by, frame)
    page = owner_tag(0, addr, 0) >> WHO_BITS
    if tag & SHARED == FORKED:
        if tag >> WHO_BITS != page:
            write_once(m.page_stored_by, frame, FORKED)
    elif shared:
        write_once(m.page_stored_by, frame, owner_tag(0, addr, FORKED))
    elif tag >> WHO_BITS != owner_tag(mm, addr, 0) >> WHO_BITS and tag != 0:
        shadow_own(m, mm, frame, addr)


@kernel
def shadow_forget(m, cpu, mm, start, end):
    """This CPU says that nobody needs [start, end): what it stored there may be zero at any time."""
    for slot in range(cpu * SHADOW_ENTRIES, (cpu + 1) * SHADOW_ENTRIES):
        if shadow_key(mm, start) <= m.shadow.key[slot] < shadow_key(mm, end):
            m.shadow.key[slot] = 0
