"""The text of `perf trace`: calls in one or two lines, page faults with addresses (-F all), and tracepoints (-e).

Source: tools/perf/builtin-trace.c of Linux 4.x to 6.x, as it writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from scenarios.imports.account import Account
from scenarios.imports.calls import CALL, CREATES, FAULT, PARAMETERS, Event
from scenarios.imports.lines import Lines
from scenarios.imports.points import Points
from scenarios.imports.reader import WANTED, named, result

_HEAD = re.compile(
    r"\s*(\d+\.\d+|\?) (?:\( *(\d[\d.]*)? *(?:ms)? *\):? (?:(.{0,16}?)/(\d+) )?"
    r"|(.{0,16}?)/(\d+) (?=[\w-]+:\w+\())\s*(\S.*)$"
)
_POINT = re.compile(r"([\w-]+):(\w+)\((.*)\)\s*$")
_RETURNED = re.compile(r"(?:.*, )?ret: (-?\d+)$")
_FAULT = re.compile(r"(?:min|maj)fault \[(.*)\] => (?:(.*)@)?(\S+) \((.)(.)\)")
_NAME = re.compile(r"([a-z_0-9]+)\(")
_END = re.compile(r"(.*)\)\s+= (-?(?:0x[0-9a-f]+|\d+)|\?|)(.*)", re.S)
_CONTINUED = re.compile(r"\.\.\. \[continued\]: ([a-z_0-9]+)\(")
_CHAIN = re.compile(r"\s{16,}\S.* \((?:\S.*)\)\s*$")
_SUMMARY = re.compile(r"\s*(?:Summary of events|Stats):")
_ABSOLUTE = ("//anon", "[stack]", "[heap]", "[unknown]", "anon")


def looks_like(lines: list[str]) -> bool:
    """True if some lines look like those of perf trace."""
    return any(_HEAD.match(line) for line in lines)


def _by_name(call: str, args: dict[str, str]) -> dict[str, str]:
    """Operands by the kernel's names, though a perf that does not know the call has them as arg0, arg1 and so on."""
    if "arg0" not in args:
        return args
    return {name: args[f"arg{i}"] for i, name in enumerate(PARAMETERS.get(call, ())) if f"arg{i}" in args}


class PerfTrace(Points):
    """The lines of one file: `T (duration): comm/tid call(operands) = result`, faults and tracepoints between them."""

    def __init__(self, lines: Lines, account: Account) -> None:
        super().__init__(lines, account)
        self._summary = False  # a table follows, to the end

    def _read(self, line: str) -> Iterator[Event]:
        found = _HEAD.match(line)
        if found is None:
            self._summary = self._summary or _SUMMARY.match(line) is not None
            if not self._summary and not _CHAIN.match(line):
                self._refuse(line)
            return
        began = None if found[1] == "?" else float(found[1]) / 1000
        time = None if began is None else began + float(found[2] or 0) / 1000
        tid, rest = int(found[4] or found[6] or 0), found[7]
        if point := _POINT.match(rest):
            yield from self._traced(time, tid, point[2], point[3])
        elif fault := _FAULT.match(rest):
            where, address = fault[2] or "", fault[3]
            if not address.startswith("0x"):  # -v: a symbol has no place
                self._account.leave_out("a page fault whose address is a symbol's (perf trace -v)", self._where)
                return
            absolute = not where or where.startswith(_ABSOLUTE)
            args = {"address": address} if absolute else {"file": where.partition("+")[0], "offset": address}
            yield self._event(FAULT, time, tid, "fault", args)
        elif going_on := _CONTINUED.match(rest):
            name, args = self._open.pop(tid, (going_on[1], {}))
            if name in CREATES and name == going_on[1] and not args:
                return  # the child's own return from the call that made it
            yield from self._returned(began, time, tid, going_on[1], args, rest[going_on.end() :])
        elif call := _NAME.match(rest):
            if call[1] not in WANTED:
                self._account.others[call[1]] += 1
            elif rest.endswith("..."):
                operands = rest[call.end() :].removesuffix("...").rstrip().removesuffix(")")
                yield self._begin(time, tid, 0, call[1], named(operands))
            else:
                yield from self._returned(began, time, tid, call[1], None, rest[call.end() :])
        else:
            self._refuse(line)

    def _traced(self, time: float | None, tid: int, name: str, text: str) -> Iterator[Event]:
        """A tracepoint, whose fields are written as operands are."""
        if name.startswith("sys_enter_"):
            yield from self._point(time, tid, 0, name, text)
        elif name.startswith("sys_exit_"):
            returned = _RETURNED.match(text)
            yield from self._point(time, tid, 0, name, returned[1] if returned else "0")
        elif name in ("sys_enter", "sys_exit"):
            self._account.leave_out(
                "a call by its number, without its operands (perf trace -e raw_syscalls:*)", self._where
            )
        else:
            fields = {key: value.strip('"') for key, value in named(text).items()}
            yield from self._point(time, tid, 0, name, " ".join(f"{key}={value}" for key, value in fields.items()))

    def _returned(
        self, began: float | None, time: float | None, tid: int, name: str, args: dict[str, str] | None, rest: str
    ) -> Iterator[Event]:
        if name not in WANTED:
            self._account.others[name] += 1
            return
        end = _END.match(rest)
        if end is None:
            self._refuse(rest)
            return
        operands = _by_name(name, named(end[1]) if args is None else args)
        if name in ("clone", "clone3") and "clone_flags" not in operands:
            operands = {"uargs": "", **operands}
        value, failed = result(end[2], end[3])
        yield self._event(CALL, time, tid, name, operands, result=value, failed=failed, began=began)
