"""Where things lie that no call has mapped: what exec maps, and what a snapshot of /proc says is there."""

from __future__ import annotations

from collections.abc import Iterable

from scenarios.imports.calls import SNAPSHOT, Event, number
from scenarios.imports.memory_calls import MemoryCalls
from scenarios.imports.people import Memory, People
from scenarios.imports.snapshot import Line, Snapshot
from scenarios.imports.space import PAGE, TOP, Mapping, page_up
from scenarios.imports.touches import Touches

LOWEST = 64 << 10  # mmap_min_addr
_SLOT = 2 << 20
_STACK_TOP, _STACKS_FROM = 0x7FFFFFFFF000, 0x7FF000000000
_STACK = 33 * PAGE  # what exec gives a process
_GROWTH = 8 << 20  # as far as a stack may grow
_KERNEL_MADE = ("[vvar]", "[vvar_vclock]", "[vdso]", "[vsyscall]")
_GUESSED = "a touch of a file whose place is not in the input, put near what is known"
_ADOPTED = "a mapping that a snapshot has and no call has made: made by exec"
_UNMAPPED = "a touch of a page that nothing was seen to map: made by exec, or before the log"


def mapping_of(line: Line) -> Mapping:
    """A line of maps as a mapping."""
    file, offset = (line.name, line.offset) if line.inode else ("", 0)
    return Mapping(line.start, line.end, line.prot, line.shared, file, offset)


class Placing:
    """Puts mappings where the input says only that somebody uses them."""

    def __init__(self, calls: MemoryCalls, touches: Touches) -> None:
        self._calls, self._touches = calls, touches
        self._account = touches.account
        self._waiting: Snapshot | None = None  # of a process that has yet to begin
        self.comparisons: dict[int, str] = {}  # process -> what the latest snapshot said of its mappings

    def executed(self, memory: Memory) -> None:
        """exec has given a process new memory: with a snapshot of it what that says, else a stack if all is touched."""
        if self._waiting is not None and memory.number == 0:
            snapshot, self._waiting = self._waiting, None
            self._begin(memory, snapshot)
        elif self._touches.mode == "all":
            stack = Mapping(_STACK_TOP - _STACK, _STACK_TOP, 3)
            self._calls.map(memory, stack, ("growsdown",))
            memory.stack = stack.start
            self._touches.mapped(memory, stack, stack=True)

    def fault(self, memory: Memory, event: Event) -> None:
        """A page fault: at an address, or at a place in a file."""
        args = event.args
        write = {"1": True, "0": False}.get(args.get("write", ""))
        if "file" in args:
            address = self._address_of(memory, args["file"], number(args["offset"]))
        else:
            address = number(args["address"])
        if not LOWEST <= address < TOP:
            self._account.others["a page fault where nothing can be mapped: a signal"] += 1
            return
        if not self._touches.fault(memory, address, write):
            self._map_around(memory, address // PAGE * PAGE)
            self._touches.fault(memory, address, write)

    def unmapped(self, memory: Memory, event: Event) -> bool:
        """True if a fault is at an address where nothing is known to be mapped."""
        address = number(event.args.get("address", "0"))
        return LOWEST <= address < TOP and memory.space.at(address) is None

    def _map_around(self, memory: Memory, page: int) -> None:
        """Map a page that is touched: the stack grows, or nobody was seen to map it."""
        if memory.stack is not None and memory.stack - _GROWTH <= page < memory.stack:
            end = min([memory.stack, *(one.start for one in memory.space.within(page, memory.stack))])
            self._calls.map(memory, Mapping(page, end, 3), ("growsdown",))
            memory.stack = page
            return
        self._account.assumed[_UNMAPPED] += 1
        if memory.stack is None and page >= _STACKS_FROM:
            memory.stack = page
            self._calls.map(memory, Mapping(page, min(page + _STACK, _STACK_TOP), 3), ("growsdown",))
        else:
            self._calls.map(memory, Mapping(page, page + PAGE, 3), ())

    def _address_of(self, memory: Memory, file: str, offset: int) -> int:
        """The address of a place in a file. A mapping of which only the descriptor is known may turn out to be it."""
        if file not in memory.guesses:
            wanted = memory.bound.get(file, file)
            latest = None
            for one in memory.space:
                if one.file and one.offset <= offset < one.offset + one.end - one.start:
                    if one.file == wanted:
                        return one.start + offset - one.offset
                    if one.file.startswith("descriptor ") and one.file not in memory.bound.values():
                        age = int(one.file.rsplit(" ", 1)[1])
                        latest = max(latest or (0, one), (age, one), key=lambda found: found[0])
            if latest is not None and wanted == file:
                memory.bound[file] = latest[1].file
                return latest[1].start + offset - latest[1].offset
        self._account.assumed[_GUESSED] += 1
        if file not in memory.guesses:
            below = [one.start for one in memory.space if one.start < _STACKS_FROM] or [_STACKS_FROM]
            memory.guesses[file] = (max if ".so" in file or file in _KERNEL_MADE else min)(below) // _SLOT * _SLOT
        return memory.guesses[file] + offset % _SLOT

    def snapshot(self, people: People, snapshot: Snapshot) -> None:
        """What /proc says: a beginning if the process has nothing yet, else what is there now."""
        task = people.tasks.get(snapshot.pid)
        memory = task.memory if task else people.main
        if memory is None:
            self._waiting = snapshot
        elif not len(memory.space) and memory.number is not None:
            self._begin(memory, snapshot)
        elif memory.number is not None:
            if not memory.placed:
                self._adopt(memory, snapshot)
            self._grow(memory, snapshot)
            self._now(memory, snapshot)
            if snapshot.whole:
                self._compare(memory, snapshot)

    def begin_late(self, people: People) -> None:
        """The first event is no exec: the process was there before, as the snapshot says."""
        if self._waiting is not None and people.main is not None:
            snapshot, self._waiting = self._waiting, None
            self._begin(people.main, snapshot)

    def begin_alone(self, people: People) -> None:
        """There is a snapshot, and nothing else: that is all there is."""
        if self._waiting is not None and people.main is None:
            people.of(Event(SNAPSHOT, "", 0, None, self._waiting.pid or 1))
            self.begin_late(people)

    def mapped(self, memory: Memory, line: Line) -> None:
        """Map what a line of maps says."""
        stack = line.name == "[stack]"
        self._calls.map(memory, mapping_of(line), ("growsdown",) if stack else ())
        memory.stack = line.start if stack else memory.stack
        if line.name == "[heap]":
            memory.heap, memory.brk = line.start, line.end

    def _begin(self, memory: Memory, snapshot: Snapshot) -> None:
        """Map what a snapshot has."""
        for line in snapshot.mappings:
            self.mapped(memory, line)
        memory.placed = True
        self._now(memory, snapshot)

    def _adopt(self, memory: Memory, snapshot: Snapshot) -> None:
        """The first look at a process that has begun: what exec has mapped is there, and no call has said it."""
        memory.placed = True
        made = 0  # where exec's latest ends: its bss has no name
        for line in snapshot.mappings:
            of_a_file = line.inode and not line.name.endswith("(deleted)")
            if not (of_a_file or line.name.startswith("[") or line.start == made):
                continue
            if line.name == "[stack]" and memory.stack is not None:  # it is not all where it was taken to be
                for part in memory.space.within(memory.stack, _STACK_TOP):
                    for low, high in _outside(part, snapshot.mappings):
                        self._calls.unmap(memory, low, high)
            for part in memory.space.within(line.start, line.end):
                if not part.file and part.prot != line.prot:  # somebody touched it, and nobody knew what it was
                    self._touches.writer.protect(memory.who, hex(part.start), part.end - part.start, line.prot)
                    memory.space.protect(part.start, part.end, line.prot)
            for low, high in memory.space.holes(line.start, line.end):
                self.mapped(memory, line._replace(start=low, end=high, offset=line.offset + low - line.start))
                self._account.assumed[_ADOPTED] += 1
                made = line.end
        for file, base in memory.guesses.items():
            self._settle(memory, file, base, snapshot)
        memory.guesses = {}

    def _grow(self, memory: Memory, snapshot: Snapshot) -> None:
        """The stack has grown since the look before: no call says it."""
        for line in snapshot.mappings:
            if line.name == "[stack]" and memory.stack is not None and line.start < memory.stack < line.end:
                for low, high in memory.space.holes(line.start, memory.stack):
                    self._calls.map(memory, Mapping(low, high, line.prot), ("growsdown",))
                memory.stack = line.start

    def _settle(self, memory: Memory, file: str, base: int, snapshot: Snapshot) -> None:
        """A file is not where it was taken to lie: what was touched there was touched where the file is."""
        known = [(line.start, line.end) for line in snapshot.mappings]
        places = [line for line in snapshot.mappings if line.name == file]
        for part in memory.space.within(base, base + _SLOT):
            if part.file or any(start < part.end and part.start < end for start, end in known):
                continue
            self._calls.unmap(memory, part.start, part.end)
            for line in places:
                at = line.start + (part.start - base - line.offset) % _SLOT
                if at < line.end:
                    self._touches.fault(memory, at, False)

    def _now(self, memory: Memory, snapshot: Snapshot) -> None:
        """Touch what a snapshot says is there, as far as that was asked for."""
        if self._touches.mode == "rss":
            for line in snapshot.mappings:
                for one in memory.space.within(line.start, line.end) if line.rss > 0 else ():
                    anon, rest = page_up(max(line.anonymous, 0)), page_up(line.rss)
                    self._touches.present(memory, one.cut(one.start, min(one.end, line.start + anon)), "anon")
                    self._touches.present(memory, one.cut(line.start + anon, min(one.end, line.start + rest)), "file")
        elif self._touches.mode == "pagemap":
            for start, end, kind in snapshot.pages:
                for one in memory.space.within(start, end):
                    self._touches.present(memory, one, kind)

    def _compare(self, memory: Memory, snapshot: Snapshot) -> None:
        """Say whether the mappings are those of /proc, but for what the kernel makes by itself."""
        made = [(line.start, line.end) for line in snapshot.mappings if line.name in _KERNEL_MADE]
        ours = _plain(
            (one.start, one.end, one.prot & 7, one.shared)
            for one in memory.space
            if not any(start <= one.start and one.end <= end for start, end in made)
        )
        theirs = _plain(
            (line.start, line.end, line.prot, line.shared)
            for line in snapshot.mappings
            if (line.start, line.end) not in made
        )
        if not theirs:
            return
        wrong = sorted(set(ours) ^ set(theirs))
        text = f"mappings at the last look: {len(theirs)} ranges in /proc/PID/maps, {len(ours)} in the trace"
        if not wrong:
            self.comparisons[memory.number or 0] = f"{text}, all the same"
            return
        side = "the trace" if wrong[0] in set(ours) else "/proc"
        only = f"{len(wrong)} in one of both alone"
        self.comparisons[memory.number or 0] = (
            f"{text}, {only}; the first is {wrong[0][0]:#x}-{wrong[0][1]:#x} in {side}"
        )


def _outside(part: Mapping, lines: Iterable[Line]) -> list[tuple[int, int]]:
    """The ranges of a mapping that no line of maps has."""
    found, at = [], part.start
    for line in sorted(lines):
        if at < line.end and line.start < part.end:
            if at < line.start:
                found.append((at, line.start))
            at = line.end
    return [*found, (at, part.end)] if at < part.end else found


_Range = tuple[int, int, int, bool]


def _plain(ranges: Iterable[_Range]) -> list[_Range]:
    """Ranges, neighbours of one protection as one."""
    found: list[_Range] = []
    for one in ranges:
        if found and found[-1][1] == one[0] and found[-1][2:] == one[2:]:
            found[-1] = (found[-1][0], *one[1:])
        else:
            found.append(one)
    return found
