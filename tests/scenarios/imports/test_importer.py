"""What events mean for a trace: who does it, whose memory it is, what is mapped, what is assumed.

Covers: scenarios/imports/people, scenarios/imports/memory_calls, scenarios/imports/touches,
scenarios/imports/placing, scenarios/imports/writer, scenarios/imports/order
"""

import gzip
import os
import re
import threading

import pytest

from scenarios.imports import writer
from scenarios.imports.account import Account
from scenarios.imports.command import import_files
from scenarios.imports.importer import Importer
from scenarios.imports.lines import Lines
from scenarios.imports.strace import Strace
from scenarios.session.errors import UserError
from scenarios.traces.trace import parse
from scenarios.traces.verbs import LIMITS

RW = "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0"


def trace(tmp_path, text, touch="none", name="log", more=(), timed=False):
    """The lines that an import of some text writes, if they are `timed` with threads and times, and what it says."""
    path = tmp_path / name
    path.write_text(text)
    out = tmp_path / "out.trace"
    imported = import_files([str(path), *map(str, more)], str(out), touch)
    parse(out)  # whatever it is, the language can say it
    text = out.read_text() if timed else re.sub(r"^on \d+ \d+ \d+ ", "", out.read_text(), flags=re.M)
    return [line for line in text.splitlines() if not line.startswith("#")], imported


THREADS = (
    f"1 1700000010.000001 mmap(NULL, 8192, {RW}) = 0x7f0000000000\n"
    "1 1700000010.000002 clone3({flags=CLONE_VM|CLONE_THREAD, stack=0x7f}, 88) = 2\n"
    "1 1700000010.000010 madvise(0x7f0000000000, 4096, MADV_DONTNEED <unfinished ...>\n"
    "2 1700000010.000015 madvise(0x7f0000001000, 4096, MADV_DONTNEED) = 0 <0.000003>\n"
    "2 1700000010.000019 munmap(0x7f0000001000, 4096 <unfinished ...>\n"
    "1 1700000010.000020 <... madvise resumed>) = 0\n"
    f"1 1700000010.000021 mmap(NULL, 4096, {RW}) = 0x7f0000001000\n"
    "2 1700000010.000024 <... munmap resumed>) = 0\n"
    "2 1700000010.000030 fork() = 3\n"
    f"3 1700000010.000031 mmap(NULL, 4096, {RW}) = 0x7e0000000000\n"
    "2 1700000010.000040 +++ exited with 0 +++\n"
    "3 1700000010.000041 +++ exited with 0 +++\n"
)


def test_where_several_threads_are_each_line_has_its_own_and_its_interval(tmp_path):
    lines, _ = trace(tmp_path, THREADS, timed=True)
    assert lines == [
        "mm @ 0x2000 0x7f0000000000 rw",
        "on 1 14 17 dontneed @ 0x7f0000001000 4096",
        "on 0 9 19 dontneed @ 0x7f0000000000 4096",
        "on 1 18 20 munmap @ 0x7f0000001000 0x1000",  # another maps there before it has returned
        "on 0 20 20 mm @ 0x1000 0x7f0000001000 rw",
        "on 1 29 29 fork 1",
        "on 1 30 30 in 1 mm @ 0x1000 0x7e0000000000 rw",  # a child's CPU is the one that forked it
        "on 1 40 40 exit 1",
    ]


def test_without_stamps_the_lines_of_the_log_are_the_clock(tmp_path):
    lines, _ = trace(tmp_path, re.sub(r" 1700000010\.\d+", "", THREADS), timed=True)
    assert lines[1:5] == [
        "on 1 3 3 dontneed @ 0x7f0000001000 4096",
        "on 0 2 5 dontneed @ 0x7f0000000000 4096",
        "on 1 4 6 munmap @ 0x7f0000001000 0x1000",
        "on 0 6 6 mm @ 0x1000 0x7f0000001000 rw",
    ]


def both(first, second):
    """A log of two threads: the calls of both begin, that of the second returns, then that of the first."""
    begun = f"1 1.0 mmap(NULL, 65536, {RW}) = 0x7f0000000000\n1 1.1 clone3({{flags=CLONE_VM|CLONE_THREAD}}, 88) = 2\n"
    (one, done), (two, returned) = first, second
    return (
        f"{begun}2 1.2 {two} <unfinished ...>\n1 1.3 {one} <unfinished ...>\n"
        f"2 1.4 <... {two.partition('(')[0]} resumed>) = {returned}\n"
        f"1 1.5 <... {one.partition('(')[0]} resumed>) = {done}\n"
    ).replace(" 1.", " 170000000.")


HERE, THERE = "0x7f0000000000", "0x7f0000002000"


@pytest.mark.parametrize(
    ("first", "second", "intervals"),
    [
        ((f"munmap({THERE}, 4096", 0), (f"mmap(NULL, 4096, {RW}", HERE), [(2, 4), (3, 5)]),
        ((f"munmap({HERE}, 4096", 0), (f"mmap(NULL, 4096, {RW}", HERE), [(3, 4), (4, 4)]),
        ((f"mmap(NULL, 4096, {RW}", THERE), (f"mremap({HERE}, 4096, 4096, 3, 0x7e0000000000", 0x7E0000000000),
         [(2, 4), (3, 5)]),
        ((f"mmap(NULL, 4096, {RW}", HERE), (f"mremap({HERE}, 4096, 4096, 3, 0x7e0000000000", 0x7E0000000000),
         [(2, 4), (4, 5)]),
        ((f"madvise({HERE}, 4096, MADV_DONTNEED", 0), (f"mprotect({HERE}, 4096, PROT_READ", 0), [(2, 4), (3, 5)]),
        ((f"mmap(NULL, 4096, {RW}", HERE), ("fork(", 7), [(4, 4), (4, 5)]),
        ((f"munmap({HERE}, 4096", 0), ("fork(", 7), [(3, 4), (4, 4)]),
    ],
)  # fmt: skip
def test_calls_overlap_as_they_did_unless_the_kernel_has_taken_one_after_the_other(tmp_path, first, second, intervals):
    lines, _ = trace(tmp_path, both(first, second), timed=True)
    assert [tuple(round(int(word) / 1e5) for word in line.split()[2:4]) for line in lines[1:]] == intervals


MOVE = (f"mremap({HERE}, 65536, 131072, MREMAP_MAYMOVE", 0x7E0000000000)
TAKEN = f"mmap(NULL, 4096, {RW}"


def test_what_the_kernel_maps_where_a_move_has_not_returned_is_mapped_behind_the_move(tmp_path, monkeypatch):
    log = both(MOVE, (TAKEN, THERE)) + f"2 170000001.0 madvise({THERE}, 4096, MADV_DONTNEED) = 0\n"
    lines, found = trace(tmp_path, log, timed=True)
    assert [line.split(" ", 4)[4] for line in lines[1:]] == [
        "mr @ 0x7f0000000000 0x10000 0x20000 may,fixed @ 0x7e0000000000",
        "mm @ 0x1000 0x7f0000002000 rw",
        "dontneed @ 0x7f0000002000 4096",
    ]
    assert [tuple(round(int(word) / 1e5) for word in line.split()[2:4]) for line in lines[1:3]] == [(3, 4), (4, 4)]
    assert (found.account.whole, found.account.assumed) == (True, {})
    monkeypatch.setattr(Importer, "_makes_room", lambda self, task, event: None)
    broken, _ = trace(tmp_path, log)
    assert [line.split()[0] for line in broken[1:3]] == ["mm", "mr"]  # the new mapping moves with the old one


@pytest.mark.parametrize(
    ("second", "end", "verbs"),
    [
        (("mremap(0x7f1000000000, 4096, 4096, MREMAP_MAYMOVE", THERE), None, ["mm", "mr", "mr"]),
        ((f"mmap({THERE}, 4096, {RW.replace('ANONYMOUS', 'ANONYMOUS|MAP_FIXED')}", THERE), None, ["mm", "mm", "mr"]),
        ((TAKEN, "0x7f2000000000"), None, ["mm", "mm", "mr"]),
        ((TAKEN, THERE), "-1 ENOMEM (Cannot allocate memory)", ["mm", "mm"]),
        ((TAKEN, THERE), "", ["mm", "mm"]),
    ],
)
def test_only_what_the_kernel_has_placed_there_waits_and_only_for_a_call_that_returns(tmp_path, second, end, verbs):
    log = f"1 170000000.0 mmap(NULL, 4096, {RW}) = 0x7f1000000000\n" + both(MOVE, second)
    if end is not None:
        log = log[: log.index("1 170000000.5")] + (f"1 170000000.5 <... mremap resumed>) = {end}\n" if end else "")
    lines, found = trace(tmp_path, log)
    assert [line.split()[0] for line in lines] == ["mm", *verbs]
    assert found.account.left_out == (1 if end == "" else 0)


def test_a_mapping_keeps_its_address_and_its_flags(tmp_path):
    lines, _ = trace(
        tmp_path,
        "mmap(NULL, 5000, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE, -1, 0) = 0x7f1234567000\n"
        "mmap(0x10000, 4096, PROT_READ|PROT_EXEC, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_LOCKED, -1, 0) = 0x10000\n"
        "mmap(0x20000, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_GROWSDOWN|MAP_POPULATE, -1, 0) = 0x20000\n",
    )
    assert lines == [
        "mm @ 0x2000 0x7f1234567000 none",
        "mm @ 0x1000 0x10000 rx locked",
        "mm @ 0x1000 0x20000 r populate,growsdown",
    ]


def test_files_lie_end_to_end_and_a_part_of_one_is_where_it_was(tmp_path):
    lines, _ = trace(
        tmp_path,
        "mmap(NULL, 0x6000, PROT_READ, MAP_PRIVATE, 3</lib/a.so>, 0) = 0x7f0000000000\n"
        "mmap(NULL, 4096, PROT_READ, MAP_SHARED, 4</lib/b.so>, 0x9000) = 0x7f0000010000\n"
        "mmap(0x7f0000002000, 8192, PROT_READ|PROT_EXEC, MAP_PRIVATE|MAP_FIXED, 3</lib/a.so>, 0x2000)"
        " = 0x7f0000002000\n",
    )
    assert lines == [
        "file 0 0x9000",
        "mf @ 0x6000 0x7f0000000000 r private 0 0",
        "mf @ 0x1000 0x7f0000010000 r shared 0 7",
        "mf @ 0x2000 0x7f0000002000 rx private 0 2",
    ]


def test_a_descriptor_without_a_path_is_a_file_of_its_own_each_time_it_is_mapped(tmp_path):
    lines, _ = trace(
        tmp_path,
        "mmap(NULL, 0x6000, PROT_READ, MAP_PRIVATE, 3, 0) = 0x7f0000000000\n"
        "mmap(0x7f0000002000, 8192, PROT_READ, MAP_PRIVATE|MAP_FIXED, 3, 0x2000) = 0x7f0000002000\n"
        "mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x7f0000010000\n",
    )
    assert [line.split()[-1] for line in lines[1:]] == ["0", "2", "7"]


def test_the_heap_is_what_brk_says(tmp_path):
    lines, _ = trace(
        tmp_path, "".join(f"brk({to}) = {to}\n" for to in ("0x555500000800", "0x555500022000", "0x555500011000"))
    )
    assert lines == ["mm @ 0x21000 0x555500001000 rw", "munmap @ 0x555500011000 0x11000"]


def test_a_heap_that_grows_stays_one_mapping(tmp_path):
    ends = [0x555500000000 + 0x1000 * at for at in range(1, 50)]
    path = tmp_path / "log"
    path.write_text("".join(f"1 brk({end:#x}) = {end:#x}\n" for end in ends))
    with writer.Writer(str(tmp_path / "out.trace")) as body:
        importer = Importer(body, Account(), "none")
        importer.take(Strace(Lines(str(path)), Account()))
    assert [(one.start, one.end) for one in importer.people.main.space] == [(ends[0], ends[-1])]


def test_mremap_moves_grows_and_shrinks(tmp_path):
    lines, imported = trace(
        tmp_path,
        f"mmap(NULL, 8192, {RW}) = 0x7f0000000000\n"
        "mremap(0x7f0000000000, 8192, 16384, MREMAP_MAYMOVE) = 0x7f0000100000\n"
        "mremap(0x7f0000100000, 16384, 4096, MREMAP_MAYMOVE) = 0x7f0000100000\n"
        "mremap(0x7f0000100000, 4096, 4096, MREMAP_MAYMOVE|MREMAP_DONTUNMAP, 0x7f0000200000) = 0x7f0000200000\n"
        "madvise(0x7f0000100000, 4096, MADV_DONTNEED) = 0\n",
    )
    assert lines[1:4] == [
        "mr @ 0x7f0000000000 0x2000 0x4000 may,fixed @ 0x7f0000100000",
        "mr @ 0x7f0000100000 0x4000 0x1000 0",
        "mr @ 0x7f0000100000 0x1000 0x1000 may,fixed,keep @ 0x7f0000200000",
    ]
    assert not imported.account.assumed  # both places are mapped after DONTUNMAP


@pytest.mark.parametrize("first", [True, False])
def test_a_child_is_a_child_whether_it_speaks_before_its_parent_returns(tmp_path, first):
    child = "2 munmap(0x7f0000000000, 4096) = 0\n"
    returned = "1 <... clone resumed>) = 2\n"
    lines, _ = trace(
        tmp_path,
        f"1 mmap(NULL, 4096, {RW}) = 0x7f0000000000\n1 clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>\n"
        + (child + returned if first else returned + child)
        + "2 +++ exited with 0 +++\n1 munmap(0x7f0000000000, 4096) = 0\n",
    )
    munmap = "munmap @ 0x7f0000000000 0x1000"
    assert lines[1:] == ["fork 1", f"in 1 {munmap}", "exit 1", munmap]


def test_threads_are_one_process_and_their_end_is_not_its_end(tmp_path):
    flags = "CLONE_VM|CLONE_FS|CLONE_THREAD|CLONE_SIGHAND"
    lines, imported = trace(
        tmp_path,
        f"1 mmap(NULL, 4096, {RW}) = 0x7f0000000000\n1 clone3({{flags={flags}, stack=0x7f}}, 88) = 2\n"
        "2 madvise(0x7f0000000000, 4096, MADV_DONTNEED) = 0\n2 exit(0) = ?\n2 +++ exited with 0 +++\n"
        "1 munmap(0x7f0000000000, 4096) = 0\n1 exit_group(0) = ?\n",
    )
    assert [line.split()[0] for line in lines] == ["mm", "dontneed", "munmap"]
    assert imported.processes == 1


def test_a_task_that_nobody_made_is_a_thread_until_it_execs(tmp_path):
    lines, imported = trace(
        tmp_path,
        f"1 mmap(NULL, 4096, {RW}) = 0x7f0000000000\n2 madvise(0x7f0000000000, 4096, MADV_DONTNEED) = 0\n"
        '2 execve("/bin/x", ["x"], 0x7ffe) = 0\n1 madvise(0x7f0000000000, 4096, MADV_FREE) = 0\n',
    )
    assert lines[1:] == [
        "dontneed @ 0x7f0000000000 0x1000",
        "fork 1",
        "in 1 munmap @ 0x7f0000000000 0x1000",
        "free @ 0x7f0000000000 4096",
    ]
    assert sum(imported.account.assumed.values()) == 1


def test_exec_gives_a_process_empty_memory(tmp_path):
    lines, _ = trace(
        tmp_path,
        f"mmap(NULL, 4096, {RW}) = 0x7f0000000000\nmmap(NULL, 4096, {RW}) = 0x7f0000001000\n"
        'execve("/bin/x", ["x"], 0x7ffe /* 3 vars */) = -1 ENOENT (No such file or directory)\n'
        'execve("/usr/bin/x", ["x"], 0x7ffe /* 3 vars */) = 0\n',
    )
    assert lines[2:] == ["munmap @ 0x7f0000000000 0x2000"]


def test_after_vfork_and_exec_the_parent_keeps_its_memory(tmp_path):
    lines, _ = trace(
        tmp_path,
        f"1 mmap(NULL, 4096, {RW}) = 0x7f0000000000\n1 vfork( <unfinished ...>\n"
        '2 execve("/bin/x", ["x"], 0x7ffe) = 0\n1 <... vfork resumed>) = 2\n'
        f"2 mmap(NULL, 4096, {RW}) = 0x7e0000000000\n"
        "2 exit_group(0) = ?\n1 madvise(0x7f0000000000, 4096, MADV_FREE) = 0\n",
    )
    assert lines[1:] == [
        "fork 1",
        "in 1 munmap @ 0x7f0000000000 0x1000",
        "in 1 mm @ 0x1000 0x7e0000000000 rw",
        "exit 1",
        "free @ 0x7f0000000000 4096",
    ]


def test_more_processes_than_the_language_has_names_for_are_left_out_and_counted(tmp_path):
    text = f"1 mmap(NULL, 4096, {RW}) = 0x7f0000000000\n"
    text += "".join(f"1 fork() = {child}\n" for child in range(2, 3 + writer.MOST_CHILDREN))
    text += f"{2 + writer.MOST_CHILDREN} munmap(0x7f0000000000, 4096) = 0\n"
    lines, imported = trace(tmp_path, text)
    assert len(lines) == 1 + writer.MOST_CHILDREN
    assert imported.account.left_out == 2
    assert LIMITS["K"] == writer.MOST_CHILDREN


def test_munmap_counts_from_its_beginning_since_somebody_may_map_there_before_it_returns(tmp_path):
    lines, _ = trace(
        tmp_path,
        f"1 mmap(NULL, 4096, {RW}) = 0x7f0000000000\n1 munmap(0x7f0000000000, 4096 <unfinished ...>\n"
        f"2 mmap(NULL, 4096, {RW}) = 0x7f0000000000\n1 <... munmap resumed>) = 0\n",
    )
    assert [line.split()[0] for line in lines] == ["mm", "munmap", "mm"]


def test_what_is_used_and_was_never_mapped_is_assumed_and_said(tmp_path):
    lines, imported = trace(tmp_path, "mprotect(0x555555558000, 4096, PROT_READ) = 0\n")
    assert lines == ["mm @ 0x1000 0x555555558000 rw", "mprotect @ 0x555555558000 0x1000 r"]
    assert sum(imported.account.assumed.values()) == 1


@pytest.mark.parametrize(
    ("call", "what"),
    [
        ("mmap(NULL, 2097152, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_HUGETLB, -1, 0) = 0x7f0000000000", "hugetlb"),
        ('uselib("x.so") = 0', "uselib"),
        ("io_destroy(0x7f0000000000) = 0", "io_destroy"),
        ("remap_file_pages(0x7f0000000000, 4096, 0, 0, 0) = 0", "remap_file_pages"),
        (
            "ioctl(3, UFFDIO_REGISTER, {range={start=0x10000, len=0x1000}, mode=UFFDIO_REGISTER_MODE_WP}) = 0",
            "write protection",
        ),
        ("madvise(0x7f0000000000, 4096, MADV_HWPOISON) = 0", "whole machine"),
        ("shmat(5, NULL, 0) = 0x7f0000000000", "shmat"),
        ('openat(AT_FDCWD, "/proc/self/clear_refs", O_WRONLY) = 3</proc/7/clear_refs>', "soft-dirty"),
    ],
)
def test_what_the_language_has_no_word_for_is_counted_with_its_first_line(tmp_path, call, what):
    _, imported = trace(tmp_path, f"brk(NULL) = 0x555500000000\n{call}\n{call}\n")
    ((reason, (count, first)),) = imported.account.not_modelled.items()
    assert what in reason
    assert (count, first.rsplit(":")[-1]) == (2, "2")
    assert imported.account.percent < 100


def test_what_a_memory_call_of_any_kind_maps_is_mapped(tmp_path):
    lines, imported = trace(
        tmp_path,
        'memfd_create("x", 0) = 4\nmmap(NULL, 16384, PROT_READ, MAP_SHARED, 4, 0) = 0x7f0000000000\n'
        "remap_file_pages(0x7f0000000000, 8192, 0, 2, 0) = 0\n"
        "map_shadow_stack(NULL, 8192, SHADOW_STACK_SET_TOKEN) = 0x7e0000000000\n"
        "io_setup(1000, [0x7d0000000000]) = 0\nio_destroy(0x7d0000000000) = 0\n"
        "userfaultfd(O_CLOEXEC) = 3\npkey_alloc(0, 0) = 1\nmembarrier(MEMBARRIER_CMD_QUERY, 0) = 0x1\n"
        "mbind(0x7f0000000000, 4096, MPOL_BIND, NULL, 0, 0) = 0\nioctl(1, TCGETS, {c_iflag=0}) = 0\n",
    )
    assert lines[1:] == [
        "mf @ 0x4000 0x7f0000000000 r shared 0 0",
        "mf @ 0x2000 0x7f0000000000 r shared 0 2",
        "mm @ 0x2000 0x7e0000000000 rw",
        "mf @ 0x10000 0x7d0000000000 rw shared 0 5",  # 32 bytes for each of 2,002 events
        "munmap @ 0x7d0000000000 0x10000",
    ]
    assert imported.account.whole


def test_what_userfaultfd_fills_is_filled_and_a_half_of_another_ioctl_is_no_loss(tmp_path):
    lines, imported = trace(
        tmp_path,
        f"1 mmap(NULL, 65536, {RW}) = 0x7f0000000000\n1 ioctl(3, UFFDIO_API, {{api=0xaa, features=0}}) = 0\n"
        "1 ioctl(3, UFFDIO_REGISTER, {range={start=0x7f0000000000, len=0x8000}, "
        "mode=UFFDIO_REGISTER_MODE_MISSING, ioctls=1<<_UFFDIO_WAKE}) = 0\n"
        "2 ioctl(0, TCGETS <unfinished ...>\n"
        "1 ioctl(3, UFFDIO_COPY, {dst=0x7f0000001000, src=0x10000, len=0x2000, mode=0 <unfinished ...>\n"
        "2 <... ioctl resumed>, {c_iflag=0}) = 0\n1 <... ioctl resumed>, copy=0x2000}) = 0\n"
        "1 ioctl(3, UFFDIO_ZEROPAGE, {range={start=0x7f0000004000, len=0x1000}, mode=0, zeropage=0x1000}) = 0\n"
        "1 ioctl(3, UFFDIO_UNREGISTER, {start=0x7f0000000000, len=0x8000}) = 0\n",
    )
    assert lines[1:] == [
        "uffd @ 0x7f0000000000 0x8000 missing",
        "uncopy @ 0x7f0000001000 0x2000",
        "uzero @ 0x7f0000004000 0x1000",
        "unreg @ 0x7f0000000000 0x8000",
    ]
    assert imported.account.whole


BEHIND = """\
5555000-5556000 r-xp 00000000 08:01 7 /bin/x
5556000-5557000 rw-p 00000000 00:00 0
7d0000000000-7d0000001000 rw-p 00000000 00:00 0
7e0000000000-7e0000001000 rw-s 00000000 00:01 9 /memfd:x (deleted)
7f0000000000-7f0000004000 r--p 00000000 08:01 8 /lib/ld.so
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]
"""


def test_what_exec_has_mapped_comes_from_the_first_look_behind_it_and_nothing_else_does(tmp_path):
    (tmp_path / "maps").write_text(BEHIND)
    lines, imported = trace(
        tmp_path,
        'execve("/bin/x", ["x"], 0x7ffe) = 0\nmmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x10000\n'
        "mprotect(0x7f0000001000, 4096, PROT_READ) = 0\n",
        more=[tmp_path / "maps"],
    )
    assert [line.split()[2:4] for line in lines if line.startswith("m")] == [
        ["0x1000", "0x10000"],
        ["0x1000", "0x7f0000001000"],
        ["0x7f0000001000", "0x1000"],
        ["0x1000", "0x5555000"],
        ["0x1000", "0x5556000"],
        ["0x1000", "0x7f0000000000"],
        ["0x2000", "0x7f0000002000"],
        ["0x21000", "0x7ffc00000000"],
    ]
    assert "3 in one of both alone; the first is 0x10000-0x11000 in the trace" in imported.account.notes[-1]


def test_a_stack_that_was_touched_keeps_its_pages_when_a_look_says_where_it_is(tmp_path):
    (tmp_path / "maps").write_text(BEHIND + "7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0 [vdso]\n")
    text = " x 1 [0] 1.0: syscalls:sys_exit_execve: 0x0\n"
    for at, address in enumerate(("0x7ffc00010000", "0x7ffc0001f000", "0x7ffd00001000")):
        text += f" x 1 [0] 1.{at}: exceptions:page_fault_user: address={address} ip=0x1 error_code=0x6\n"
    text += " x 1 [0] 1.5: syscalls:sys_enter_brk: brk: 0x0\n x 1 [0] 1.6: syscalls:sys_exit_brk: 0x5557000\n"
    lines, _ = trace(tmp_path, text, more=[tmp_path / "maps"])
    assert [line for line in lines if "0x7ffc" in line] == [
        "mm @ 0x21000 0x7ffc00010000 rw growsdown",
        "touch @ 0x7ffc00010000 0x1000",
        "touch @ 0x7ffc0001f000 0x1000",
        "munmap @ 0x7ffc00021000 0x10000",  # all but what is the stack
        "mm @ 0x10000 0x7ffc00000000 rw growsdown",
    ]


def test_a_stack_that_has_grown_between_two_looks_is_mapped_and_touched_there(tmp_path):
    stack = "-7ffc00021000 rw-p 00000000 00:00 0 [stack]\n"
    first, second = tmp_path / "maps.1", tmp_path / "again.1"
    first.write_text(f"7ffc00000000{stack}7ffc00020000-7ffc00021000 anon\n")
    second.write_text(f"7ffb00000000{stack}7ffb00000000-7ffb00001000 anon\n")
    (tmp_path / "log").write_text("1 brk(NULL) = 0x1000\n")
    out = tmp_path / "out.trace"
    found = import_files([str(first), str(tmp_path / "log"), str(second)], str(out), "pagemap")
    assert [line for line in out.read_text().splitlines() if line[0] != "#"] == [
        "mm @ 0x21000 0x7ffc00000000 rw growsdown",
        "touch @ 0x7ffc00020000 0x1000",
        "mm @ 0x100000000 0x7ffb00000000 rw growsdown",
        "touch @ 0x7ffb00000000 0x1000",
    ]
    assert found.account.notes[-1].endswith("all the same")
    second.write_text(
        "7ffa00000000-7ffa00021000 rw-p 00000000 00:00 0 [stack]\n"
    )  # of another program: an exec is near
    import_files([str(first), str(tmp_path / "log"), str(second)], str(out), "pagemap")
    assert "growsdown" not in out.read_text().split("growsdown", 1)[1]


def test_a_page_that_was_touched_before_anybody_knew_what_it_is_has_the_protection_of_the_look(tmp_path):
    (tmp_path / "maps").write_text(BEHIND + "7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0 [vdso]\n")
    fault = " x 1 [0] 1.{}: exceptions:page_fault_user: address={} ip=0x1 error_code=0x4\n"
    text = " x 1 [0] 1.0: syscalls:sys_exit_execve: 0x0\n" + "".join(
        fault.format(at, address) for at, address in enumerate(("0x7f0000001000", "0x7ffd00001000", "0x7d0000000000"))
    )
    text += " x 1 [0] 1.5: syscalls:sys_enter_brk: brk: 0x0\n x 1 [0] 1.6: syscalls:sys_exit_brk: 0x5557000\n"
    lines, imported = trace(tmp_path, text, more=[tmp_path / "maps"])
    assert "mprotect @ 0x7f0000001000 0x1000 r" in lines
    assert imported.account.notes[-1].endswith(
        "1 in one of both alone; the first is 0x7e0000000000-0x7e0000001000 in /proc"
    )


def test_a_file_that_was_put_somewhere_is_moved_to_where_the_look_has_it(tmp_path):
    (tmp_path / "maps").write_text(BEHIND)
    text = "     0.000 ( 0.000 ms): x/1 minfault [elf_load+0x28a] => 0x7f0000802018 (?k)\n"
    text += "     0.010 ( 0.000 ms): x/1 minfault [_start+0x0] => /lib/ld.so@0x1ab0 (d.)\n"
    text += "     0.100 ( 0.016 ms): x/1 brk()   = 0x5557000\n"
    lines, imported = trace(tmp_path, text, more=[tmp_path / "maps"])
    assert lines[-4:-2] == ["munmap @ 0x7f0000801000 0x1000", "read @ 0x7f0000001000 0x1000"]
    assert "2 in one of both alone; the first is 0x7d0000000000-0x7d0000001000 in /proc" in imported.account.notes[-1]


@pytest.mark.parametrize("address", ["0x8", "0xffff", "0xffffffffff600000"])
def test_a_fault_where_nothing_can_be_mapped_is_a_signal_and_maps_nothing(tmp_path, address):
    text = f" x 1 [0] 1.0: exceptions:page_fault_user: address={address} ip=0x1 error_code=0x6\n"
    text += " x 1 [0] 1.0: exceptions:page_fault_user: address=0x10000 ip=0x1 error_code=0x6\n"
    lines, imported = trace(tmp_path, text)
    assert lines == ["mm @ 0x1000 0x10000 rw", "touch @ 0x10000 0x1000"]
    assert imported.account.whole


RUNTIME = """\
execve("/usr/bin/x", ["x"], 0x7ffd /* 30 vars */) = 0
arch_prctl(ARCH_SET_FS, 0x2d5c0b0)      = 0
mmap(0xc000000000, 67108864, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0xc000000000
mmap(0xc000000000, 4194304, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0) = 0xc000000000
prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, 0xc000000000, 4194304, "heap") = -1 EINVAL (Invalid argument)
madvise(0xc000000000, 4194304, MADV_COLLAPSE) = -1 EINVAL (Invalid argument)
clone(child_stack=0xc000060000, flags=CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_THREAD, tls=0xc000058090) = 2951
strace: Process 2951 attached
[pid  2951] gettid()                    = 2951
[pid  2950] madvise(0xc000100000, 65536, MADV_DONTNEED <unfinished ...>
[pid  2951] mmap2(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0 <unfinished ...>
[pid  2950] <... madvise resumed> )     = 0
[pid  2951] <... mmap2 resumed>)        = 0xa6c00000
[pid  2951] --- SIGURG {si_signo=SIGURG, si_code=SI_TKILL, si_pid=2950, si_uid=0} ---
[pid  2951] rt_sigreturn({mask=[]})     = 824634433536
[pid  2951] exit_group(0 <unfinished ...>
[pid  2950] <... futex resumed>)        = ?
[pid  2951] <... exit_group resumed>)   = ?
[pid  2950] +++ exited with 0 +++
+++ exited with 0 +++
"""


@pytest.mark.parametrize("quoted", ["", "> ", "> > "])
def test_a_runtime_with_threads_is_understood_whole_quoted_or_not(tmp_path, quoted):
    lines, imported = trace(tmp_path, "".join(quoted + line for line in RUNTIME.splitlines(True)))
    assert [line.split()[0] for line in lines] == ["mm", "mm", "dontneed", "mm"]
    assert (imported.account.whole, imported.account.understood) == (True, 10)


def test_every_advice_has_its_number_or_its_word(tmp_path):
    lines, _ = trace(
        tmp_path,
        f"mmap(NULL, 65536, {RW}) = 0x7f0000000000\nmadvise(0x7f0000000000, 4096, MADV_GUARD_INSTALL) = 0\n"
        "madvise(0x7f0000000000, 4096, 0x66 /* MADV_??? */) = 0\nmadvise(0x7f0000000000, 4096, 77) = -1 EINVAL (x)\n"
        "madvise(0x7f0000000000, 4096, 0x1a /* MADV_??? */) = 0\n",
    )
    assert [line.split()[0] for line in lines[1:]] == ["guard", "guard", "adv"]
    _, imported = trace(tmp_path, f"mmap(NULL, 4096, {RW}) = 0x7f0000000000\nmadvise(0x7f0000000000, 4096, -1) = 0\n")
    assert imported.account.malformed == 1


def test_process_madvise_is_done_to_the_process_of_the_descriptor(tmp_path):
    lines, _ = trace(
        tmp_path,
        f"1 mmap(NULL, 65536, {RW}) = 0x7f0000000000\n1 fork() = 2\n1 pidfd_open(2, 0) = 5\n"
        "1 process_madvise(5, [{iov_base=0x7f0000000000, iov_len=4096}, {iov_base=0x7f0000004000, iov_len=8192}], 2, "
        "MADV_PAGEOUT, 0) = 8192\n",
    )
    assert lines[2:] == ["in 1 pageout @ 0x7f0000000000 0x1000", "in 1 pageout @ 0x7f0000004000 0x1000"]


def test_shared_memory_is_one_file_for_all_who_attach_it(tmp_path):
    lines, _ = trace(
        tmp_path,
        "shmget(IPC_PRIVATE, 8192, IPC_CREAT|0600) = 5\nshmat(5, NULL, 0) = 0x7f0000000000\n"
        "shmat(5, NULL, SHM_RDONLY) = 0x7f0000010000\nshmdt(0x7f0000000000) = 0\n",
    )
    assert lines[1:] == [
        "mf @ 0x2000 0x7f0000000000 rw shared 0 0",
        "mf @ 0x2000 0x7f0000010000 r shared 0 0",
        "munmap @ 0x7f0000000000 0x2000",
    ]


def test_a_hole_in_a_file_is_one_in_the_part_that_is_mapped(tmp_path):
    lines, _ = trace(
        tmp_path,
        "mmap(NULL, 16384, PROT_READ, MAP_SHARED, 3</memfd:x>, 0x8000) = 0x7f0000000000\n"
        "fallocate(3</memfd:x>, FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 0x9000, 8192) = 0\n"
        "ftruncate(3</memfd:x>, 0xb000) = 0\n",
    )
    assert lines[2:] == ["punch 0 0x1000 0x2000", "punch 0 0x3000 0x1000"]


def test_all_touches_each_page_once_when_it_can_be_and_the_end_of_a_stack(tmp_path):
    lines, imported = trace(
        tmp_path,
        f"mmap(NULL, 8192, {RW}) = 0x7f0000000000\n"
        "mmap(NULL, 1048576, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000100000\n"
        "mprotect(0x7f0000100000, 4096, PROT_READ|PROT_WRITE) = 0\n"
        "mmap(NULL, 0x80000000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE, -1, 0)"
        " = 0x7e0000000000\n"
        "madvise(0x7e0000400000, 4096, MADV_DONTNEED) = 0\n"
        "mmap(NULL, 8388608, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_STACK, -1, 0) = 0x7f0001000000\n",
        "all",
    )
    touched = [tuple(int(word, 16) for word in line.split()[2:]) for line in lines if line.startswith("touch")]
    assert touched == [
        (0x7F0000000000, 0x2000),
        (0x7F0000100000, 0x1000),
        (0x7E0000400000, 0x1000),
        (0x7F00017F0000, 0x10000),
    ]
    assert sum(imported.account.assumed.values()) == 4


MAPS = (
    "555555554000-555555556000 r--p 00000000 fe:00 26723 /bin/x\n"
    "555555556000-555555558000 rw-p 00002000 fe:00 26723 /bin/x\n"
    "555555600000-555555621000 rw-p 00000000 00:00 0 [heap]\n7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0 [stack]\n"
    "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n"
)


def test_a_snapshot_before_the_calls_is_where_they_begin(tmp_path):
    maps = tmp_path / "maps"
    maps.write_text(MAPS)
    log = tmp_path / "calls"
    log.write_text("brk(0x555555642000) = 0x555555642000\n")
    out = tmp_path / "out.trace"
    import_files([str(maps), str(log)], str(out), "none")
    lines = [line for line in out.read_text().splitlines() if line[0] != "#"]
    assert [line.split()[0] for line in lines] == ["file", "mf", "mf", "mm", "mm", "mm"]
    assert lines[-1] == "mm @ 0x21000 0x555555621000 rw"


@pytest.mark.parametrize(
    ("end", "said"), [("7f0000002000", "all the same"), ("7f0000003000", "2 in one of both alone")]
)
def test_a_snapshot_behind_the_calls_is_held_against_them(tmp_path, end, said):
    maps = tmp_path / "maps"
    maps.write_text(f"7f0000000000-{end} rw-p 00000000 00:00 0\n")
    _, imported = trace(tmp_path, f"mmap(NULL, 8192, {RW}) = 0x7f0000000000\n", more=[maps])
    assert said in " ".join(imported.account.notes)


def test_smaps_and_pagemap_say_which_pages_are_touched(tmp_path):
    smaps = tmp_path / "smaps"
    smaps.write_text("7f0000000000-7f0000004000 rw-p 00000000 00:00 0\nRss:  8 kB\nAnonymous: 4 kB\nVmFlags: rd wr\n")
    calls = f"mmap(NULL, 16384, {RW}) = 0x7f0000000000\n"
    lines, _ = trace(tmp_path, calls, None, more=[smaps])
    assert lines[1:] == ["touch @ 0x7f0000000000 0x1000", "read @ 0x7f0000001000 0x1000"]
    pagemap = tmp_path / "pagemap"
    pagemap.write_text("7f0000001000-7f0000003000 anon\n7f0000003000-7f0000004000 guard\n")
    lines, imported = trace(tmp_path, calls, None, more=[pagemap])
    assert lines[1:] == ["touch @ 0x7f0000001000 0x2000", "guard @ 0x7f0000003000 0x1000"]
    assert imported.touch == "pagemap"


def test_neighbouring_touches_are_one_line(tmp_path):
    text = " x 1/1 [000] 1.0: syscalls:sys_enter_mmap: addr: 0x0, len: 0x8000, prot: 0x3, flags: 0x22, fd: 0xffffffff\n"
    text += " x 1/1 [000] 1.0: syscalls:sys_exit_mmap: 0x7f0000000000\n"
    for page in (1, 2, 3, 5):
        text += f" x 1/1 [000] 2.0: exceptions:page_fault_user: address=0x7f000000{page}000 ip=0x1 error_code=0x6\n"
    lines, _ = trace(tmp_path, text)
    assert lines[1:] == ["touch @ 0x7f0000001000 0x3000", "touch @ 0x7f0000005000 0x1000"]


def test_a_trace_that_cannot_be_written_leaves_nothing(tmp_path):
    log = tmp_path / "log"
    log.write_text("brk(NULL) = 0x1000\n")
    with pytest.raises(UserError, match="cannot write"):
        import_files([str(log)], str(tmp_path / "nowhere" / "out.trace"))
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_what_is_no_regular_file_is_written_to_and_stays_what_it_is(tmp_path, capsys):
    log = tmp_path / "log"
    log.write_text(f"mmap(NULL, 8192, {RW}) = 0x7f0000000000\n")
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    import_files([str(log)], str(tmp_path / "pipe"), "none")
    reader.join()
    assert read[0].splitlines()[-1] == "mm @ 0x2000 0x7f0000000000 rw"
    assert (tmp_path / "pipe").is_fifo()
    import_files([str(log)], "-", "none")
    assert capsys.readouterr().out == read[0]
    with pytest.raises(UserError, match="cannot write"):
        import_files([str(log)], str(tmp_path), "none")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "pipe"]


def test_a_trace_is_packed_if_its_name_says_so(tmp_path):
    log = tmp_path / "log"
    log.write_text(f"mmap(NULL, 8192, {RW}) = 0x7f0000000000\n")
    import_files([str(log)], str(tmp_path / "out.trace.gz"), "none")
    assert re.search(rb"^mm @ 0x2000", gzip.decompress((tmp_path / "out.trace.gz").read_bytes()), re.M)
