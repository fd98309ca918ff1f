"""What tracepoints and samples say, whichever tool wrote their lines: faults, calls in two halves, tasks.

Source: the formats of exceptions, syscalls, raw_syscalls, task and sched in /sys/kernel/tracing/events.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from scenarios.imports.account import Account
from scenarios.imports.calls import CALL, CREATES, FAULT, GONE, NUMBERS, PARAMETERS, Event, number
from scenarios.imports.lines import Lines
from scenarios.imports.reader import WANTED, Reader, named, result

POINT = re.compile(r"(?:([\w-]+):)?([\w-]+):[uHkpPGD]*:? *(.*)$")
_PAIR = re.compile(r"(\w+)=\(?([^\s()]+)\)?")
_BY_NUMBER = re.compile(r"(?:NR|id:?) (-?\d+)(?: \((.*)\)| = (-?\d+))?")
_QUOTED = re.compile(r'(0x[0-9a-f]+) ("(?:[^"\\]|\\.)*")')  # a pointer, and what is there
_UNREAD = ("newfstat", "newfstatat")


class Points(Reader):
    """The lines of one file of tracepoints."""

    def __init__(self, lines: Lines, account: Account) -> None:
        super().__init__(lines, account)
        self._flags: dict[int, str] = {}  # task -> the flags of the clone it is in
        self._groups: dict[int, int] = {}
        self._entered: dict[int, float | None] = {}  # task -> when its latest call began
        self._executed: set[int] = set()  # tasks whose exec a record of perf's has said

    def _point(self, time: float | None, tid: int, group: int, name: str, text: str) -> Iterator[Event]:
        """The events of one tracepoint, by what stands behind its name."""
        if name in ("page_fault_user", "page_fault_kernel"):
            args = dict(_PAIR.findall(text))
            write = str(number(args["error_code"]) >> 1 & 1) if "error_code" in args else ""
            yield self._fault(time, tid, group, args.get("address", ""), write)
        elif name in ("sys_enter", "sys_exit"):
            yield from self._numbered(time, tid, group, name, text)
        elif name.startswith(("sys_enter_", "sys_exit_")):
            yield from self._call(time, tid, group, name, text)
        else:
            yield from self._task(time, tid, name, text)

    def _fault(self, time: float | None, tid: int, group: int, address: str, write: str) -> Event:
        at = address if address.startswith("0x") else f"0x{address}"
        return self._event(FAULT, time, tid, "fault", {"address": at, "write": write}, group=group)

    def _numbered(self, time: float | None, tid: int, group: int, name: str, text: str) -> Iterator[Event]:
        """raw_syscalls: a call by its number, its operands in hexadecimal without names."""
        found = _BY_NUMBER.match(text)
        if found is None:
            self._refuse(text)
            return
        call = NUMBERS.get(int(found[1]), f"system call {found[1]}")
        if call in WANTED:
            self._account.note("calls are by number: taken as those of x86-64")
        values = [f"0x{value.strip()}" for value in (found[2] or "").split(",")]
        pairs = zip(PARAMETERS.get(call, ()), values, strict=False)
        operands = ", ".join(f"{operand}: {value}" for operand, value in pairs)
        yield from self._call(time, tid, group, f"{name}_{call}", operands if name == "sys_enter" else found[3] or "?")

    def _call(self, time: float | None, tid: int, group: int, name: str, text: str) -> Iterator[Event]:
        """sys_enter_NAME and sys_exit_NAME."""
        entering, call = name.startswith("sys_enter_"), name.partition("_")[2].partition("_")[2]
        if call in _UNREAD or call not in WANTED:
            self._account.others[call] += entering
        elif entering:
            args = dict(_PAIR.findall(text)) if "__syscall_nr=" in text else named(_QUOTED.sub(r"\2", text))
            self._entered[tid] = time
            yield self._begin(time, tid, group, call, args)
        else:
            begun, args = self._open.pop(tid, (call, {}))
            value, failed = result(text.strip().rpartition("ret=")[2].partition(" ")[0])
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

    def _task(self, time: float | None, tid: int, name: str, text: str) -> Iterator[Event]:
        """Tasks that begin, execute and end."""
        args = dict(_PAIR.findall(text))
        if name == "task_newtask":
            child, flags = number(args["pid"]), args.get("clone_flags", "0").removeprefix("0x")
            self._flags[child] = flags
            yield self._created(time, tid, child, f"0x{flags}")
        elif name == "sched_process_fork":
            child = number(args["child_pid"])
            if child not in self._flags:
                yield self._created(time, tid, child, "")
        elif name == "sched_process_exec":
            if tid not in self._executed:
                yield self._event(CALL, time, tid, "execve", {}, result=0)
            self._executed.add(tid)
        elif name == "sched_process_exit":
            yield self._event(GONE, time, tid, "process" if args.get("group_dead") in ("true", "1") else "", {})
        else:
            self._account.others[name] += 1

    def _created(self, time: float | None, tid: int, child: int, flags: str) -> Event:
        args = {"clone_flags": f"flags={flags}"} if flags else {"uargs": ""}
        return self._event(CALL, time, tid, "clone", args, result=child)
