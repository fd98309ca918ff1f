"""The text of `perf trace` (-F all) and of `perf script`: calls in one or two lines, and page faults with addresses.

Source: tools/perf/builtin-trace.c, builtin-script.c of Linux 4.x to 6.x, as they write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from scenarios.imports.account import Account
from scenarios.imports.calls import (
    CALL,
    CREATES,
    ENTER,
    FAULT,
    GONE,
    MAPPED,
    NOT_MODELLED,
    PARAMETERS,
    WITHOUT_EFFECT,
    Event,
    Unknown,
    number,
    split,
)
from scenarios.imports.lines import Lines
from scenarios.imports.snapshot import Line

_TRACE = re.compile(
    r"\s*(\d+\.\d+|\?) (?:\( *(\d[\d.]*)? *(?:ms)? *\):? (?:(.{0,16}?)/(\d+) )?"
    r"|(.{0,16}?)/(\d+) (?=[\w-]+:\w+\())\s*(\S.*)$"
)
_POINT = re.compile(r"(?:exceptions:)(page_fault_(?:user|kernel))\((.*)\)\s*$")
_FTRACE = re.compile(  # trace-cmd report, /sys/kernel/tracing/trace
    r"\s*(.{1,16}?)-(\d+)\s+(?:\( *[\d-]+\)\s+)?\[(\d+)\]\s+(?:\S{4,5}\s+)?(\d+\.\d+):\s+(?:exceptions:)?(\w+):\s(.*)$"
)
_FAULT = re.compile(r"(?:min|maj)fault \[(.*)\] => (?:(.*)@)?(0x[0-9a-f]+) \((.)(.)\)")
_SCRIPT = re.compile(
    r"\s*(?:(\S.*?)\s+)?(\d+)(?:/(\d+))?\s+(?:\[(\d+)\]\s+)?(?:[^\s\d]\S{3,4}\s+)?(\d+\.\d+):\s+(?:\d+\s+)?(\S.*)$"
)
_EVENT = re.compile(r"(?:([\w-]+):)?([\w-]+):[uHkpPGD]*:? *(.*)$")
_NAME = re.compile(r"([a-z_0-9]+)\(")
_END = re.compile(r"(.*)\)\s+= (-?(?:0x[0-9a-f]+|\d+)|\?|)(.*)", re.S)
_CONTINUED = re.compile(r"\.\.\. \[continued\]: ([a-z_0-9]+)\(")
_LOST = re.compile(r"\s*(?:LOST (\d+) events|.*PERF_RECORD_LOST.* lost (\d+))")
_RECORD = re.compile(r"PERF_RECORD_(\w+)")
_FORK = re.compile(r"PERF_RECORD_FORK\((\d+):(\d+)\):\((\d+):(\d+)\)")
_OPERAND = re.compile(r"(\w+): ?")
_PAIR = re.compile(r"(\w+)=(\S+)")
_EXEC = re.compile(r"PERF_RECORD_COMM exec: .*:\d+/(\d+)$")
_MMAP = re.compile(
    r"PERF_RECORD_MMAP2? (-?\d+)/(\d+): \[(0x[0-9a-f]+)\((0x[0-9a-f]+)\) @ (?:0x)?([0-9a-f]+)"
    r"(?: [0-9a-f]+:[0-9a-f]+ (\d+) \d+| <[^>]*>)?\]: (?:([-r][-w][-x])([ps]) |x )(.*)$"
)
_HEXADECIMAL = re.compile(r"([0-9a-f]{4,16})(?: |$)")
_WANTED = {*PARAMETERS, *WITHOUT_EFFECT, *NOT_MODELLED, *CREATES} - {"ioctl"}  # whose operands it does not show
_SAMPLES = ("page-faults", "faults", "minor-faults", "major-faults")
_ABSOLUTE = ("//anon", "[stack]", "[heap]", "[unknown]", "anon")


def looks_like_trace(lines: list[str]) -> bool:
    """True if some lines look like those of perf trace."""
    return any(_TRACE.match(line) for line in lines)


def looks_like_script(lines: list[str]) -> bool:
    """True if some lines look like those of perf script."""
    return any(_SCRIPT.match(line) or _FTRACE.match(line) for line in lines if not line.startswith("#"))


def _named(text: str) -> dict[str, str]:
    """Operands that are written with their names; those that are 0 may be missing."""
    args = {}
    for part in split(text):
        if found := _OPERAND.match(part):
            args[found[1]] = part[found.end() :].strip()
    return args


def _by_name(call: str, args: dict[str, str]) -> dict[str, str]:
    """Operands by the kernel's names, though a perf that does not know the call has them as arg0, arg1 and so on."""
    if "arg0" not in args:
        return args
    return {name: args[f"arg{i}"] for i, name in enumerate(PARAMETERS.get(call, ())) if f"arg{i}" in args}


class _Perf:
    """The lines of one file: what is common to both."""

    def __init__(self, lines: Lines, account: Account) -> None:
        self._lines, self._account, self._source = lines, account, lines.name
        self._open: dict[int, tuple[str, dict[str, str]]] = {}
        self._line = 0

    def __iter__(self) -> Iterator[Event]:
        """The events of the file."""
        for block in self._lines:
            self._account.lines += len(block)
            for line in block:
                self._line += 1
                if "LOST" in line and (lost := _LOST.match(line)):
                    self._account.lost += int(lost[1] or lost[2])
                elif line.strip() and not line.startswith("#"):
                    try:
                        yield from self._read(line)
                    except (Unknown, KeyError, ValueError):
                        self._refuse(line)

    def _read(self, line: str) -> Iterator[Event]:
        raise NotImplementedError

    def _refuse(self, line: str) -> None:
        if self._lines.cut_off:
            self._account.note(f"{self._source}:{self._line}: the last line is cut off")
        else:
            self._account.refuse(f"{self._source}:{self._line}", f"not a line of perf's: {line.strip()[:40]!a}")

    def _event(self, kind: str, time: float | None, tid: int, name: str, args: Any, **more: object) -> Event:
        return Event(kind, self._source, self._line, time, tid, name, args, **more)  # type: ignore[arg-type]

    def _result(self, text: str, tail: str = "") -> tuple[int | None, str]:
        """A result and the errno."""
        if text in ("?", ""):
            return (None, "?") if text == "?" else (0, "")
        value = number(text)
        value -= (value >> 63) << 64
        if -4096 < value < 0:
            found = re.match(r" (E[A-Z0-9]+)", tail)
            return value, found[1] if found else {-12: "ENOMEM"}.get(value, "?")
        return value, ""


class PerfTrace(_Perf):
    """perf trace: `T (duration): comm/tid call(operands) = result`, and faults between them."""

    def _read(self, line: str) -> Iterator[Event]:
        found = _TRACE.match(line)
        if found is None:
            self._refuse(line)
            return
        began = None if found[1] == "?" else float(found[1]) / 1000
        time = None if began is None else began + float(found[2] or 0) / 1000
        tid, rest = int(found[4] or found[6] or 0), found[7]
        if point := _POINT.match(rest):
            args = _named(point[2])
            write = str(number(args.get("error_code", "0")) >> 1 & 1)
            yield self._event(FAULT, time, tid, "fault", {"address": args.get("address", ""), "write": write})
            return
        if fault := _FAULT.match(rest):
            where, address = fault[2] or "", fault[3]
            absolute = not where or where.startswith(_ABSOLUTE)
            args = {"address": address} if absolute else {"file": where.partition("+")[0], "offset": address}
            yield self._event(FAULT, time, tid, "fault", args)
        elif going_on := _CONTINUED.match(rest):
            name, args = self._open.pop(tid, (going_on[1], {}))
            if name in CREATES and name == going_on[1] and not args:
                return  # the child's own return from the call that made it
            yield from self._call(began, time, tid, going_on[1], args, rest[going_on.end() :])
        elif call := _NAME.match(rest):
            if call[1] not in _WANTED:
                self._account.others[call[1]] += 1
            elif rest.endswith("..."):
                operands = rest[call.end() :].removesuffix("...").rstrip().removesuffix(")")
                self._open[tid] = (call[1], _named(operands))
                yield self._event(ENTER, time, tid, *self._open[tid])
            else:
                yield from self._call(began, time, tid, call[1], None, rest[call.end() :])
        else:
            self._refuse(line)

    def _call(
        self, began: float | None, time: float | None, tid: int, name: str, args: dict[str, str] | None, rest: str
    ) -> Iterator[Event]:
        if name not in _WANTED:
            self._account.others[name] += 1
            return
        end = _END.match(rest)
        if end is None:
            self._refuse(rest)
            return
        operands = _by_name(name, _named(end[1]) if args is None else args)
        if name in ("clone", "clone3") and "clone_flags" not in operands:
            operands = {"uargs": "", **operands}
        value, failed = self._result(end[2], end[3])
        yield self._event(CALL, time, tid, name, operands, result=value, failed=failed, began=began)


class PerfScript(_Perf):
    """perf script: tracepoints of faults, calls and tasks, samples of page-faults, and task events."""

    def __init__(self, lines: Lines, account: Account) -> None:
        super().__init__(lines, account)
        self._flags: dict[int, str] = {}  # task -> the flags of the clone it is in
        self._groups: dict[int, int] = {}
        self._entered: dict[int, float] = {}  # task -> when its latest call began
        self._executed: set[int] = set()  # tasks whose exec a record of perf's has said

    def _read(self, line: str) -> Iterator[Event]:
        if (plain := _FTRACE.match(line)) and plain[5].startswith("page_fault_"):
            args = dict(_PAIR.findall(plain[6]))
            write = str(number(args.get("error_code", "0")) >> 1 & 1)
            yield self._fault(float(plain[4]), int(plain[2]), 0, args.get("address", ""), write)
            return
        found = _SCRIPT.match(line)
        if found is None:
            if not re.match(r"\s+[0-9a-f]+ \S", line):  # a call chain
                self._refuse(line)
            return
        pid, second, time, rest = int(found[2]), found[3], float(found[5]), found[6]
        tid = int(second) if second else pid
        group = pid if second else self._groups.get(tid, 0)
        if _RECORD.match(rest):
            yield from self._record(time, rest)
            return
        if plain := _HEXADECIMAL.match(rest):  # -F pid,tid,time,addr
            yield self._fault(time, tid, group, plain[1], "")
            return
        event = _EVENT.match(rest)
        if event is None:
            self._refuse(line)
            return
        system, name, text = event.groups()
        if name in ("page_fault_user", "page_fault_kernel"):
            args = dict(_PAIR.findall(text))
            code = number(args["error_code"]) if "error_code" in args else None
            write = "" if code is None else str(code >> 1 & 1)
            yield self._fault(time, tid, group, args.get("address", ""), write)
        elif name in _SAMPLES or system in _SAMPLES:  # page-faults:u:
            address = _HEXADECIMAL.match(text)
            behind = text[address.end() :].strip() if address else ""
            if address is None or (behind and not _HEXADECIMAL.match(behind)):  # it was the instruction's
                self._account.leave_out("a page fault without its address (perf script -F +addr)", self._where)
                return
            yield self._fault(time, tid, group, address[1], "")
        elif system == "syscalls":
            yield from self._call(time, tid, group, name, text)
        else:
            yield from self._task(time, tid, name, text)

    @property
    def _where(self) -> str:
        return f"{self._source}:{self._line}"

    def _fault(self, time: float, tid: int, group: int, address: str, write: str) -> Event:
        at = address if address.startswith("0x") else f"0x{address}"
        return self._event(FAULT, time, tid, "fault", {"address": at, "write": write}, group=group)

    def _call(self, time: float, tid: int, group: int, name: str, text: str) -> Iterator[Event]:
        """sys_enter_NAME and sys_exit_NAME."""
        entering, call = name.startswith("sys_enter_"), name.partition("_")[2].partition("_")[2]
        if call in ("newfstat", "newfstatat") or call not in _WANTED:
            self._account.others[call] += entering
        elif entering:
            self._open[tid] = (call, _named(text))
            self._entered[tid] = time
            yield self._event(ENTER, time, tid, *self._open[tid], group=group)
        else:
            begun, args = self._open.pop(tid, (call, {}))
            value, failed = self._result(text.strip().partition(" ")[0])
            more = {"result": value, "failed": failed, "group": group}
            if value == 0 and call in (*CREATES, "execve", "execveat"):
                if call in CREATES or tid in self._executed:  # the child's own return, or it was said before
                    self._executed.discard(tid)
                    self._account.understood += 1
                else:  # its faults since it began are in the new memory
                    yield self._event(
                        CALL, self._entered.get(tid) if begun == call and args else None, tid, call, args, **more
                    )
            elif begun != call or (not args and PARAMETERS.get(call)):
                self._account.leave_out(f"{call}, which began before the log", self._where)
            else:
                yield self._event(CALL, time, tid, call, args, **more, began=self._entered.get(tid))

    def _task(self, time: float, tid: int, name: str, text: str) -> Iterator[Event]:
        """Tasks that begin, execute and end."""
        args = dict(_PAIR.findall(text))
        if name == "task_newtask":
            self._flags[int(args["pid"])] = args.get("clone_flags", "0")
            yield self._created(time, tid, int(args["pid"]), f"0x{args.get('clone_flags', '0')}")
        elif name == "sched_process_fork":
            child = int(args["child_pid"])
            if child not in self._flags:
                yield self._created(time, tid, child, "")
        elif name == "sched_process_exec":
            if tid not in self._executed:
                yield self._event(CALL, time, tid, "execve", {}, result=0)
            self._executed.add(tid)
        elif name == "sched_process_exit":
            yield self._event(GONE, time, tid, "process" if args.get("group_dead") == "true" else "", {})
        else:
            self._account.others[name] += 1

    def _created(self, time: float, tid: int, child: int, flags: str) -> Event:
        args = {"clone_flags": f"flags={flags}"} if flags else {"uargs": ""}
        return self._event(CALL, time, tid, "clone", args, result=child)

    def _mapped(self, time: float, found: re.Match[str]) -> Iterator[Event]:
        """A mapping that perf saw being made: by exec, unless the task is in a call that says it, too."""
        group, tid, start, length, offset, inode, prot, sharing, name = found.groups()
        if self._open.get(int(tid), ("",))[0] in ("mmap", "brk", "mremap", "shmat", "mprotect"):
            self._account.understood += 1
            return
        named = inode not in (None, "0")
        line = Line(
            int(start, 16),
            int(start, 16) + int(length, 16),
            sum(bit for bit, letter in zip((1, 2, 4), prot or "r-x", strict=True) if letter != "-"),
            sharing == "s",
            int(offset, 16) if named else 0,
            int(inode or 0),
            name,
        )
        yield self._event(MAPPED, time, int(tid), "a mapping", {"mapping": line}, group=int(group))

    def _record(self, time: float, text: str) -> Iterator[Event]:
        """perf's own records, of --show-task-events."""
        if found := _FORK.match(text):
            group, tid, parent_group, parent = map(int, found.groups())
            self._groups[tid] = group
            if tid not in self._flags:
                self._flags[tid] = ""
                flags = "VM|THREAD" if group == parent_group else "0"
                yield self._created(time, parent, tid, flags)
        elif text.startswith("PERF_RECORD_EXIT("):
            tid = int(re.findall(r"\d+", text)[1])
            yield self._event(GONE, time, tid, "", {})
        elif found := _EXEC.match(text):
            self._executed.add(int(found[1]))
            yield self._event(CALL, time, int(found[1]), "execve", {}, result=0)
        elif (found := _MMAP.match(text)) and int(found[2]) > 0:
            yield from self._mapped(time, found)
        else:
            self._account.others["a record of perf's"] += 1
