"""The kernel's own trace, in each of its formats: the same events; what it had no room for is said."""

import re

import pytest

from scenarios.imports.account import Account
from scenarios.imports.command import import_files
from scenarios.imports.ftrace import Ftrace, looks_like
from scenarios.imports.inputs import Inputs
from scenarios.imports.lines import Lines, Unreadable

TRACE = """\
# tracer: nop
#
# entries-in-buffer/entries-written: 8/8   #P:2
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
            a b-10370   [000] .....   929.722828: sys_openat(dfd: 0xffffff9c, filename: 0x7f3175a6c0b1, flags: 0, mode: 0)
            a b-10370   [000] .....   929.722831: sys_openat -> 0x3
            a b-10370   [000] .....   929.722840: sys_mmap(addr: 0, len: 0x2000, prot: 3, flags: 0x22, fd: 0xffffffff, off: 0)
            a b-10370   [001] .....   929.722850: sys_mmap -> 0x7f39a41fa000
            a b-10370   [001] d....   929.722860: page_fault_user: address=0x7f39a41fb0f8 ip=0x7f39a41fa109 error_code=0x6
            a b-10370   [001] .....   929.722870: task_newtask: pid=10371 comm=a b clone_flags=3d0f00 oom_score_adj=0
            a b-10371   [000] d....   929.722880: page_fault_user: address=0x7f39a41fa0f8 ip=0x7f39a41fa109 error_code=0x6
            a b-10371   [000] .....   929.722890: sched_process_exit: comm=a b pid=10371 prio=120 group_dead=false
"""  # noqa: E501
HEAD = re.compile(r"^ *a b-(\d+)   \[00(\d)\] (\S+)   929\.(\d+): ", re.M)


def fields(text):
    """The text with the option `fields`."""
    text = text.replace(
        "sys_openat(dfd: 0xffffff9c, filename: 0x7f3175a6c0b1,", "sys_enter_openat: __syscall_nr=0x101 (257)"
    )
    text = re.sub(r"sys_(\w+) -> (\w+)", r"sys_exit_\1: __syscall_nr=0x9 (9) ret=\2 (-2)", text)
    text = re.sub(r"sys_mmap\((.*)\)", r"sys_enter_mmap: __syscall_nr=0x9 (9), \1", text)
    text = re.sub(r"(addr|len|prot|flags|fd|off): (\w+),?", r"\1=\2 (12)", text)
    return text.replace("pid=10371", "pid=0x2883 (10371)").replace("=3d0f00", "=0x3d0f00 (4001536)")


FORMATS = {
    "as it comes": lambda text: text,
    "record-tgid": lambda text: HEAD.sub(r" a b-\1  (  10370) [00\2] \3   929.\4: ", text),
    "noirq-info": lambda text: HEAD.sub(r" a b-\1 [00\2]   929.\4: ", text),
    "latency-format": lambda text: HEAD.sub(r" a b-\1     \2\3 \4us : ", text),
    "an old latency-format": lambda text: HEAD.sub(r" a b-\1    \2d..2.  \4us+: ", text),
    "verbose": lambda text: HEAD.sub(
        r" a b   \1   \2 1 00000000 0000000a [378b27f5] 13.\4ms (+0.007ms): ",
        re.sub(r"(?<=[(,])( ?)(\w+:)", r"\1const char * \2", text),
    ),
    "fields": fields,
    "hexadecimal without 0x": lambda text: re.sub(r"(?<=: )0x", "", text),
    "raw_syscalls": lambda text: re.sub(
        r"sys_mmap\(.*\)", "sys_enter: NR 9 (0, 2000, 3, 22, ffffffff, 0)", text
    ).replace("sys_mmap -> 0x7f39a41fa000", f"sys_exit: NR 9 = {0x7F39A41FA000}"),
    "trace-cmd report": lambda text: (
        HEAD.sub(r" a b-\1 [00\2]   929.\4: ", text)
        .replace(": ad", ":      ad")
        .replace("sys_mmap(", "sys_enter_mmap:  ")
    ),
    "trace-cmd report -l": lambda text: HEAD.sub(r" a b-\1    \2\3   929.\4: ", text),
    "the clock counter": lambda text: HEAD.sub(r" a b-\1 [00\2] \3  \4: ", text),
    "printf of bpftrace": lambda text: HEAD.sub(r"a b-\1 (10370) [00\2] 929\g<4>000: ", text),
    "with stacks": lambda text: (
        text + " <stack trace>\n => exc_page_fault\n => asm_exc_page_fault\n <user stack trace>\n"
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_events_are_in_each_format(tmp_path, name):
    text = FORMATS[name](TRACE)
    assert name in ("as it comes", "with stacks") or text != TRACE
    (tmp_path / "log").write_text(text)
    inputs = Inputs([str(tmp_path / "log")], Account())
    assert [kind for kind, _ in inputs.files] == ["ftrace"]
    inputs.close()
    found = import_files([str(tmp_path / "log")], str(tmp_path / "out.trace"))
    lines = (tmp_path / "out.trace").read_text().splitlines()
    assert [re.sub(r"^on (\d) \d+ \d+ ", r"\1 ", line) for line in lines if line[0] != "#"] == [
        "mm @ 0x2000 0x7f39a41fa000 rw",
        "touch @ 0x7f39a41fb000 0x1000",
        "1 touch @ 0x7f39a41fa000 0x1000",
    ]
    assert (found.touch, found.account.whole) == ("none", True)


def test_what_the_ring_had_no_room_for_is_counted(tmp_path):
    text = TRACE.replace("8/8", "8/108") + "CPU:1 [LOST 20 EVENTS]\nCPU:0 [3 EVENTS DROPPED]\nLost 7 events\n"
    (tmp_path / "log").write_text(text)
    account = Account()
    list(Ftrace(Lines(str(tmp_path / "log")), account))
    assert (account.lost, account.malformed) == (130, 0)
    (tmp_path / "log").write_text("# latency: 0 us, #20/50, CPU#0 | (M:PREEMPT)\n")
    list(Ftrace(Lines(str(tmp_path / "log")), account))
    assert account.lost == 160


@pytest.mark.parametrize("line", ["sys_execve -> 0x0", "10699 0 932754528004 type: 190", "000029fa 00000001 type: 190"])
def test_a_trace_that_names_no_tasks_is_refused_with_what_to_set(tmp_path, line):
    (tmp_path / "log").write_text(f"# tracer: nop\n#\n{line}\n")
    with pytest.raises(Unreadable, match="context-info"):
        Inputs([str(tmp_path / "log")], Account())


def test_other_events_and_strange_lines_are_counted(tmp_path):
    text = " x-1 [0] d... 1.5: mutex_unlock <-f\n x-1 [0] d... 1.5: sched_switch: prev_pid=1\nnonsense here\n"
    (tmp_path / "log").write_text(text)
    account = Account()
    assert looks_like(text.splitlines())
    assert list(Ftrace(Lines(str(tmp_path / "log")), account)) == []
    assert (sum(account.others.values()), account.malformed) == (2, 1)
