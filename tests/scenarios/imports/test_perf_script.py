"""What perf trace and perf script write, as calls and touches; what they lost is said.

Covers: scenarios/imports/perf_trace, scenarios/imports/points, scenarios/imports/reader
"""

import re

import pytest

from scenarios.imports import perf_trace
from scenarios.imports.account import Account
from scenarios.imports.calls import CALL, FAULT, GONE, MAPPED
from scenarios.imports.command import import_files
from scenarios.imports.lines import Lines
from scenarios.imports.perf_script import PerfScript, looks_like
from scenarios.imports.perf_trace import PerfTrace

CALLS = """\
         ? (         ): python3/5929  ... [continued]: execve())                    = 0
     0.754 ( 0.011 ms): python3/5929 brk()                                          = 0x559f52d25000
     2.537 ( 0.026 ms): python3/5929 mmap(len: 8192, prot: READ|WRITE, flags: PRIVATE|ANONYMOUS) = 0x7fbc4ca7f000
     2.577 ( 0.000 ms): a b/c/5929 minfault [f+0xce] => //anon@0x7fbc4ca7f008 (d.)
     2.600 ( 0.000 ms): python3/5929 majfault [f+0xce] => 0x7fbc4ca80000 (?k)
     2.700 ( 0.016 ms): python3/5929 madvise(start: 0x7fbc4ca7f000, len_in: 8192, behavior: MADV_DONTNEED) = 0
     2.800 ( 0.016 ms): python3/5929 munmap(addr: 0x7fbc4ca7f000, len: 4096)        ...
     2.801 ( 0.016 ms): python3/5929  ... [continued]: munmap())                    = 0
     2.900 ( 0.016 ms): python3/5929 futex(uaddr: 0x7fbc4ca7f000)                   = 0
     2.950 ( 0.016 ms): python3/5929 mremap(addr: 0x7fbc4ca80000, old_len: 4096, new_len: 8192) = -1 ENOMEM (No)
LOST 13 events!
"""


def read(tmp_path, text, reader):
    """The events of some text and the account of it."""
    path = tmp_path / "log"
    path.write_text(text)
    account = Account()
    return list(reader(Lines(str(path)), account)), account


def imported(tmp_path, text, touch=None):
    """The lines of the trace that some text makes, and what is said of it."""
    (tmp_path / "log").write_text(text)
    found = import_files([str(tmp_path / "log")], str(tmp_path / "out.trace"), touch)
    text = re.sub(r"^on \d+ \d+ \d+ ", "", (tmp_path / "out.trace").read_text(), flags=re.M)
    return [line for line in text.splitlines() if line[0] != "#"], found


def test_perf_trace_has_calls_and_faults_in_one(tmp_path):
    assert perf_trace.looks_like(CALLS.splitlines())
    lines, found = imported(tmp_path, CALLS)
    assert lines == [
        "mm @ 0x2000 0x7fbc4ca7f000 rw",
        "touch @ 0x7fbc4ca7f000 0x2000",
        "dontneed @ 0x7fbc4ca7f000 0x2000",
        "munmap @ 0x7fbc4ca7f000 0x1000",
    ]
    assert (found.faults, found.touch, found.account.lost, found.account.others["futex"]) == (2, "none", 13, 1)
    assert not found.account.whole


def test_a_fault_in_a_file_finds_the_mapping_of_which_only_the_descriptor_is_known(tmp_path):
    text = """\
     1.000 ( 0.016 ms): x/1 mmap(len: 65536, prot: READ, flags: PRIVATE, fd: 4)    = 0x7f0000000000
     1.100 ( 0.000 ms): x/1 minfault [f] => /lib/a.so@0x3010 (d.)
     1.200 ( 0.016 ms): x/1 mmap(len: 65536, prot: READ, flags: PRIVATE, fd: 4)    = 0x7f0000100000
     1.300 ( 0.000 ms): x/1 minfault [f] => /lib/b.so@0x1000 (d.)
     1.400 ( 0.000 ms): x/1 minfault [f] => /lib/a.so@0x4000 (d.)
"""
    lines, found = imported(tmp_path, text)
    assert [line.split()[2] for line in lines if line.startswith("read")] == [
        "0x7f0000003000",
        "0x7f0000101000",
        "0x7f0000004000",
    ]
    assert not found.account.assumed


def test_a_fault_whose_place_nobody_knows_is_put_somewhere_and_said(tmp_path):
    _, found = imported(tmp_path, "     1.100 ( 0.000 ms): x/1 minfault [f] => /bin/x@0x3010 (d.)\n")
    assert sum(found.account.assumed.values()) == 2  # where the file lies, and that it is mapped


SCRIPT = """\
         python3  6545 [001]  1618.321728: PERF_RECORD_COMM exec: python3:6545/6545
         python3  6545 [001]  1618.321746: PERF_RECORD_MMAP2 6545/6545: [0x7ffcdaa53000(0x21000) @ 0x7ffffffde000 00:00 0 0]: rw-p [stack]
         python3  6545 [001]  1618.321755: PERF_RECORD_MMAP2 6545/6545: [0x55a711b30000(0x5000) @ 0x1000 fe:00 26723 0]: r--p /bin/x y
         python3  6545 [001]  1618.321807: exceptions:page_fault_kernel: address=0x55a711b34018 ip=elf_load error_code=0x0
         python3  6545 [001]  1618.321858:     sched:sched_process_exec: filename=/bin/x pid=6545 old_pid=6545
         python3  6545 [001]  1618.321860:     syscalls:sys_exit_execve: 0x0
         python3  6545 [001]  1618.321900:   exceptions:page_fault_user: address=0x7ffcdaa50000 ip=0x1 error_code=0x6
         python3  6545 [001]  1618.322073:      syscalls:sys_enter_mmap: addr: 0x00000000, len: 0x00002000, prot: 0x00000003, flags: 0x00000022, fd: 0xffffffff, off: 0x00000000
         python3  6545 [001]  1618.322079: PERF_RECORD_MMAP2 6545/6545: [0x7fd8fbc42000(0x2000) @ 0x7fd8fbc42000 00:00 0 0]: rw-p //anon
         python3  6545 [001]  1618.322081:       syscalls:sys_exit_mmap: 0x7fd8fbc42000
         python3  6545 [001]  1618.400000:            task:task_newtask: pid=9009 comm=python3 clone_flags=3d0f00 oom_score_adj=0
         python3  9009 [000]  1618.400002:   exceptions:page_fault_user: address=0x7fd8fbc42008 ip=0x1 error_code=0x6
         python3  6545 [001]  1618.500000:            task:task_newtask: pid=9011 comm=python3 clone_flags=1200000 oom_score_adj=0
         python3  9011 [000]  1618.500002:   exceptions:page_fault_user: address=0x7fd8fbc42008 ip=0x1 error_code=0x7
         python3  9011 [000]  1618.500003:     sched:sched_process_exit: comm=python3 pid=9011 prio=120 group_dead=true
"""  # noqa: E501


def test_perf_script_has_what_exec_maps_threads_processes_and_faults(tmp_path):
    assert looks_like(SCRIPT.splitlines())
    lines, found = imported(tmp_path, SCRIPT)
    assert lines == [
        "file 0 0x6000",
        "mm @ 0x21000 0x7ffcdaa53000 rw growsdown",
        "mf @ 0x5000 0x55a711b30000 r private 0 0",
        "read @ 0x55a711b34000 0x1000",
        "mm @ 0x3000 0x7ffcdaa50000 rw growsdown",
        "touch @ 0x7ffcdaa50000 0x1000",
        "mm @ 0x2000 0x7fd8fbc42000 rw",
        "touch @ 0x7fd8fbc42000 0x1000",
        "fork 1",
        "in 1 touch @ 0x7fd8fbc42000 0x1000",
        "exit 1",
    ]
    assert found.account.whole


@pytest.mark.parametrize(
    ("line", "tid", "address"),
    [
        ("  x 8586/8587  480.059750: page-faults:     558baec5d424 ffffffff81775dda", 8587, "0x558baec5d424"),
        (" 8586/8587    480.059750:     558baec5d424 ", 8587, "0x558baec5d424"),
        ("  a b  8587 [000] 480.059750:  1 page-faults:u:  558baec5d424", 8587, "0x558baec5d424"),
    ],
)
def test_samples_of_page_faults_have_an_address(tmp_path, line, tid, address):
    (event,), _ = read(tmp_path, line + "\n", PerfScript)
    assert (event.kind, event.tid, event.args["address"]) == (FAULT, tid, address)


POINTS = """\
 mmap 5 1618.1: syscalls:sys_enter_mmap: addr: 0x0, len: 0x1000, prot: 0x3, flags: 0x22, fd: 0xffffffff, off: 0x0
 mmap 5 1618.2: syscalls:sys_exit_mmap: 0x7f0000000000
 mmap 5 1618.3: exceptions:page_fault_user: address=0x7f0000000010 ip=0x1 error_code=0x6
"""


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("misc", ("mmap 5 ", "mmap 5 [001] K      ")),
        ("pid and tid", ("mmap 5 ", "mmap 5/5 [001] ")),
        ("no comm", (" mmap 5 ", "5 ")),
        ("a comm of two words", (" mmap 5 ", " a 1 b 5 ")),
        ("no time", (r" 1618\.\d: ", "  ")),
        ("nanoseconds", (r"(1618\.\d)", r"\g<1>00000123")),
        ("a period", (r"(1618\.\d): ", r"\1:          1 ")),
        ("the instruction's symbol", ("$", " ffffffff8225fe40 exc_page_fault")),
        ("a call chain", ("$", "\n\t   1cbd1 dl_main+0xc11 (/lib/ld.so)\n\t   1a34f main (/x)\n")),
    ],
)
def test_fields_that_perf_script_adds_or_leaves_out_change_nothing(tmp_path, what, change):
    text = re.sub(*change, POINTS, flags=re.M)
    lines, found = imported(tmp_path, text)
    assert lines == ["mm @ 0x1000 0x7f0000000000 rw", "touch @ 0x7f0000000000 0x1000"]
    assert found.account.whole


def test_stamps_of_deltatime_add_up(tmp_path):
    text = "".join(f" x 5 0.{at}: exceptions:page_fault_user: address=0x7f0000000010\n" for at in (5, 3, 4, 1))
    events, _ = read(tmp_path, text, PerfScript)
    assert [round(event.time, 1) for event in events] == [0.5, 0.8, 1.2, 1.3]


def test_calls_by_number_have_the_names_of_x86_64_and_that_is_said(tmp_path):
    text = " x 5 1.1: raw_syscalls:sys_enter: NR 28 (7f0000000000, 1000, 4, 0, 0, 0)\n"
    text += " x 5 1.2: raw_syscalls:sys_exit: NR 28 = 0\n x 5 1.3: raw_syscalls:sys_enter: NR 0 (3, 0, 0, 0, 0, 0)\n"
    events, account = read(tmp_path, text, PerfScript)
    wanted = {"start": "0x7f0000000000", "len_in": "0x1000", "behavior": "0x4"}
    assert [(event.name, event.args, event.result) for event in events if event.kind == CALL] == [
        ("madvise", wanted, 0)
    ]
    assert (account.others, account.notes != []) == ({"system call 0": 1}, True)


def test_a_sample_of_one_address_is_of_the_page_if_a_call_chain_is_below_it(tmp_path):
    chain = "x 5 1.1:     page-faults:     7fb77dc4f910 rfv.9+0x0 (/lib/ld.so)\n\t           1ba07 _dl_start\n\n"
    plain = "x 5 1.2:     page-faults:     7fb77dc4f911 rfv.9+0x0 (/lib/ld.so)\n"
    both = "x 5 1.3:     page-faults:     7fb77dc4f912 [unknown] (//anon)     7f74c99d2f0b main (/x)\n"
    events, account = read(tmp_path, chain + plain + both + plain, PerfScript)
    assert [event.args["address"][-1] for event in events] == ["0", "2"]
    assert account.not_modelled["a page fault without its address (perf script -F +addr)"][0] == 2


def test_perf_trace_has_tracepoints_chains_and_summaries_too(tmp_path):
    text = """\
     0.249 x/5 syscalls:sys_enter_mmap(len: 8192, prot: READ|WRITE, flags: PRIVATE|ANONYMOUS)
     0.259 x/5 syscalls:sys_exit_mmap(__syscall_nr: 9, ret: 139637976727552)
                                       elf_load ([kernel.kallsyms])
     0.265 x/5 exceptions:page_fault_user(address: 0x7f0000001008, ip: 140188364948030, error_code: 6)
     0.270 x/5 sched:sched_process_exec(filename: "/bin/x", pid: 5, old_pid: 5)
     0.275 x/5 raw_syscalls:sys_enter(id: 12, args: 140172971923076)
     0.280 ( 0.000 ms): x/5 minfault [/lib/a.so@f+0x1] => /lib/a.so@main+0x0 (d.)
Summary of events:

   syscall            calls  errors  total
"""
    lines, found = imported(tmp_path, text)
    assert lines == [
        "mm @ 0x2000 0x7f0000000000 rw",
        "touch @ 0x7f0000001000 0x1000",
        "munmap @ 0x7f0000000000 0x2000",
    ]
    assert (found.touch, found.account.malformed, len(found.account.not_modelled)) == ("none", 0, 2)


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        (PerfScript, " x 1 [0] 1.5: syscalls:sys_enter_madvise: start: 0x1, len_in: 0x1000, behavior: 0x4\n" * 2),
        (PerfTrace, "     1.000 ( 0.016 ms): x/1 madvise(start: 0x1, len_in: 1, behavior: FREE) ...\n" * 2),
    ],
)
def test_a_call_whose_end_is_not_in_the_log_is_counted(tmp_path, reader, text):
    _, account = read(tmp_path, text, reader)
    assert account.not_modelled["madvise, whose end is not in the log"][0] == 2


def test_samples_without_an_address_are_counted(tmp_path):
    text = "  x 1 480.1:  1 page-faults:  ffffffff81775dda elf_load+0x28a ([kernel.kallsyms])\n"
    events, account = read(tmp_path, text, PerfScript)
    assert (events, account.left_out) == ([], 1)


def test_calls_before_the_log_and_strange_lines_are_counted(tmp_path):
    text = " x 1 [0] 1.5: syscalls:sys_exit_mmap: 0x7f0000000000\nnonsense here\n"
    text += " x 1 [0] 1.6: syscalls:sys_exit_madvise: 0xfffffffffffffff4\n"
    _, account = read(tmp_path, text, PerfScript)
    assert (account.left_out, account.malformed) == (3, 1)


def test_a_negative_result_is_an_error(tmp_path):
    text = " x 1 [0] 1.5: syscalls:sys_enter_munmap: addr: 0x1, len: 0x1000\n"
    text += " x 1 [0] 1.6: syscalls:sys_exit_munmap: 0xffffffffffffffea\n"
    events, _ = read(tmp_path, text, PerfScript)
    assert (events[-1].kind, events[-1].result, events[-1].failed != "") == (CALL, -22, True)


def test_a_child_of_clone3_is_a_thread_until_it_execs(tmp_path):
    text = """\
     1.000 ( 0.016 ms): x/1 mmap(len: 8192, prot: READ|WRITE, flags: PRIVATE|ANONYMOUS)  = 0x7f0000000000
     1.100 ( 0.016 ms): x/1 clone3(uargs: 0x7ffe34155850, size: 88)                      = 2
         ? (         ): x/2  ... [continued]: clone3())                                  = 0
     1.200 ( 0.016 ms): x/2 munmap(addr: 0x7f0000001000, len: 4096)                      = 0
     1.300 ( 0.016 ms): x/2 execve(filename: 0xf7f93130, argv: 0x5624f7f93170)           = 0
     1.400 ( 0.016 ms): x/2 mmap(len: 4096, prot: READ, flags: PRIVATE|ANONYMOUS)        = 0x7e0000000000
     1.500 (         ): x/2 exit_group()                                                 = ?
     1.600 ( 0.016 ms): x/1 madvise(start: 0x7f0000000000, len_in: 4096, behavior: MADV_FREE) = 0
"""
    lines, _ = imported(tmp_path, text, "none")
    assert lines[1:] == [
        "munmap @ 0x7f0000001000 0x1000",
        "fork 1",
        "in 1 munmap @ 0x7f0000000000 0x1000",
        "in 1 mm @ 0x1000 0x7e0000000000 r",
        "exit 1",
        "free @ 0x7f0000000000 0x1000",
    ]


def test_faults_of_exec_are_in_the_new_memory_and_a_childs_return_is_no_loss(tmp_path):
    text = " x 1 [0] 1.0: exceptions:page_fault_kernel: address=0x564000001000 ip=elf_load error_code=0x2\n"
    text += " x 1 [0] 1.1: syscalls:sys_exit_execve: 0x0\n x 1 [0] 1.2: syscalls:sys_enter_clone: clone_flags: 0x11\n"
    text += " x 2 [0] 1.3: syscalls:sys_exit_clone: 0x0\n x 1 [0] 1.4: syscalls:sys_exit_clone: 0x2\n"
    lines, found = imported(tmp_path, text)
    assert lines[-2:] == ["touch @ 0x564000001000 0x1000", "fork 1"]
    assert found.account.left_out == 0


def test_faults_of_a_child_that_execs_are_not_in_the_memory_it_shared(tmp_path):
    text = " x 1 [0] 1.0: syscalls:sys_enter_mmap: addr: 0x0, len: 0x1000, prot: 0x3, flags: 0x22, fd: 0xffffffff\n"
    text += " x 1 [0] 1.1: syscalls:sys_exit_mmap: 0x7f0000000000\n x 1 [0] 1.2: syscalls:sys_enter_vfork: \n"
    text += " x 2 [0] 1.3: exceptions:page_fault_user: address=0x7f0000000000 ip=0x1 error_code=0x6\n"
    text += " x 2 [0] 1.4: syscalls:sys_enter_execve: filename: 0x7f0000000010, argv: 0x1, envp: 0x1\n"
    text += " x 2 [0] 1.5: exceptions:page_fault_kernel: address=0x564000001000 ip=elf_load error_code=0x2\n"
    text += " x 2 [0] 1.6: syscalls:sys_exit_execve: 0x0\n x 1 [0] 1.7: syscalls:sys_exit_vfork: 0x2\n"
    lines, found = imported(tmp_path, text)
    assert lines == [
        "mm @ 0x1000 0x7f0000000000 rw",
        "touch @ 0x7f0000000000 0x1000",
        "fork 1",
        "in 1 munmap @ 0x7f0000000000 0x1000",
        "in 1 mm @ 0x1000 0x564000001000 rw",
        "in 1 touch @ 0x564000001000 0x1000",
    ]
    assert found.account.left_out == 0


def test_operands_without_names_and_points_without_a_duration_are_read_as_well(tmp_path):
    text = """\
    12.100 ( 0.004 ms): psq/11143 mmap(arg0: 0, arg1: 65536, arg2: 3, arg3: 34, arg4: -1, arg5: 0) = 0x7f5d4586c000
    12.160 ( 0.004 ms): psq/11143 madvise(arg0: 140038575144960, arg1: 4096, arg2: 4, arg3: -4194304, arg4: 0) = 0
    12.170 ( 0.000 ms): psq/11143 minfault [/lib64/libc-2.22.so@__memset_avx2+0x12e] => //anon@0x7f5d4586d000 (d.)
  3711.661 a.out/11143 exceptions:page_fault_user(address: 0x7f5d4586e420, ip: 4195786, error_code: 6)
"""
    lines, _ = imported(tmp_path, text)
    assert lines == [
        "mm @ 0x10000 0x7f5d4586c000 rw",
        "dontneed @ 0x7f5d4586c000 0x1000",
        "touch @ 0x7f5d4586d000 0x2000",
    ]


def test_records_of_tasks_say_who_is_a_thread_of_whom(tmp_path):
    text = "  x 5 [001] 500.3: PERF_RECORD_FORK(5:6):(5:5)\n  x 5 [001] 500.4: PERF_RECORD_FORK(7:7):(5:5)\n"
    text += "  x 6 [001] 500.5: PERF_RECORD_EXIT(5:6):(1:1)\n"
    text += "  x 5 [001] 500.6: PERF_RECORD_MMAP2 5/5: [0x1000(0x1000) @ 0 00:00 0 0]: r-xp [vdso]\n"
    events, _ = read(tmp_path, text, PerfScript)
    assert [(event.kind, event.result or 0, event.tid) for event in events] == [
        (CALL, 6, 5),
        (CALL, 7, 5),
        (GONE, 0, 6),
        (MAPPED, 0, 5),
    ]
