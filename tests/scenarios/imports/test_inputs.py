"""Which tool wrote a file, several files at once, and what cannot be read at all.

Covers: scenarios/imports/snapshot, scenarios/imports/syzkaller, scenarios/imports/command
"""

import bz2
import gzip
import json
import lzma

import pytest
from command import ptelab
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scenarios.imports.account import Account
from scenarios.imports.command import import_files
from scenarios.imports.inputs import Inputs
from scenarios.imports.lines import Unreadable
from scenarios.imports.touches import MODES
from scenarios.session.errors import UserError
from scenarios.traces.trace import parse

RW = "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0"
SYZ = """\
# {Threaded:true Repeat:true}
r0 = mmap(&(0x7f0000000000/0x3000)=nil, 0x3000, 0x3, 0x32, 0xffffffffffffffff, 0x0)
madvise(&(0x7f0000000000/0x400000)=nil, 0x400000, 0x4) (async)
openat$x(0xffffffffffffff9c, &(0x7f0000000040)='./file0\\x00', 0x2, 0x0)
mremap(&(0x7f0000000000/0x1000)=nil, 0x1000, 0x1000, 0x3, &(0x7f0000ffe000/0x1000)=nil)
madvise(&(0x7f0000000000/0x1000)=nil, 0x1000, 0xe)
"""


def log(tmp_path, name, text):
    """A file with some text; its name."""
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(tmp_path / name)


def lines_of(tmp_path, *files, touch="none"):
    """The lines of the trace that some files make."""
    found = import_files(files, str(tmp_path / "out.trace"), touch)
    return [line for line in (tmp_path / "out.trace").read_text().splitlines() if line[0] != "#"], found


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("12 brk(NULL) = 0x1000\n", "strace"),
        ("     0.754 ( 0.011 ms): python3/5929 brk() = 0x559f52d25000\n", "perf trace"),
        (
            " x 6545 [001] 1618.3: exceptions:page_fault_user: address=0x7fd8fbc42008 ip=0x1 error_code=0x6\n",
            "perf script",
        ),
        ("7f0000000000-7f0000002000 rw-p 00000000 00:00 0 \n", "snapshot"),
        ("7f0000000000-7f0000002000 anon\n", "snapshot"),
        (SYZ, "syzkaller"),
    ],
)
def test_who_wrote_a_file_is_seen_in_its_lines(tmp_path, text, kind):
    inputs = Inputs([log(tmp_path, "any.name", text)], Account())
    assert [found for found, _ in inputs.files] == [kind]
    inputs.close()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "empty"),
        (bytes(range(256)) * 40, "binary data of an unknown tool"),
        (b"a(\n" + bytes(500) + b"\na(\n", "binary data of an unknown tool"),
        (b"PERFILE2\x68\0\0\0", "the output of perf script -i"),
        (b"def hello:\n    return 1\n", "of an unknown tool"),
        (
            "% time     seconds  usecs/call     calls    errors syscall\n------ ----------- ---\n",
            "summary of strace -c",
        ),
    ],
)
def test_what_is_no_log_is_refused_in_one_line(tmp_path, text, why):
    with pytest.raises(Unreadable, match=why):
        Inputs([log(tmp_path, "x", text)], Account())


def test_a_syzkaller_program_begins_with_what_its_executor_maps(tmp_path):
    lines, found = lines_of(tmp_path, log(tmp_path, "repro.prog", SYZ))
    assert lines == [
        "mm @ 0x1000000 0x7f0000000000 rwx",
        "mm @ 0x3000 0x7f0000000000 rw",
        "on 1 3 1000003 dontneed @ 0x7f0000000000 0x400000",  # nobody waits for it
        "on 0 5 5 mr @ 0x7f0000000000 0x1000 0x1000 may,fixed @ 0x7f0000ffe000",
        "on 0 6 6 mm @ 0x1000 0x7f0000000000 rw",
        "on 0 6 6 hugepage @ 0x7f0000000000 0x1000",
    ]
    assert any("async" in text for text in found.account.notes)


SHOWN = {
    "maps": """\
55eed387b000-55eed3880000 r-xp 00002000 fe:00 260875                     /usr/bin/sleep
7f1000000000-7f1000002000 rw-p 00000000 00:00 0
""",
    "pmap": """\
31513:   sleep 100
000055eed387b000     20K r-x-- /usr/bin/sleep
00007f1000000000      8K rw---   [ anon ]
 total             5516K
""",
    "pmap -x": """\
31513:   sleep 100
Address           Kbytes     RSS   Dirty Mode  Mapping
000055eed387b000      20       8       0 r-x-- /usr/bin/sleep
00007f1000000000       8       4       4 rw---   [ anon ]
---------------- ------- ------- -------
total kB               5516    1900     100
""",
    "pmap -XX": """\
31513:   sleep 100
         Address Perm   Offset Device  Inode Size KernelPageSize Rss VmFlags              Mapping
    55eed387b000 r-xp 00002000  fe:00 260875   20              4   8 rd ex mr mw me sd    sleep
    7f1000000000 rw-p 00000000  00:00      0    8              4   4 rd wr mr mw me ac sd
                                             ==== ============== ===
                                             5516             88  12 KB
""",
    "gdb": """\
process 31513
Mapped address spaces:

          Start Addr           End Addr       Size     Offset  Perms  objfile
      0x55eed387b000     0x55eed3880000     0x5000     0x2000  r-xp   /usr/bin/sleep
      0x7f1000000000     0x7f1000002000     0x2000        0x0  rw-p
[Inferior 1 (process 31513) detached]
""",
    "a tombstone": """\
    000055ee'd387b000-000055ee'd387ffff r-x      2000      5000  /usr/bin/sleep (BuildId: 12ab)
    00007f10'00000000-00007f10'00001fff rw-         0      2000  [anon:scudo:primary]
""",
}


@pytest.mark.parametrize("tool", SHOWN)
def test_the_mappings_of_a_process_are_read_as_any_tool_shows_them_and_may_be_all_there_is(tmp_path, tool):
    lines, found = lines_of(tmp_path, log(tmp_path, "maps", SHOWN[tool]))
    assert lines == [
        "file 0 0x6000",
        "mf @ 0x5000 0x55eed387b000 rx private 0 0",
        "mm @ 0x2000 0x7f1000000000 rw",
    ]
    assert (found.account.understood, found.account.whole) == (2, True)


def test_mappings_of_a_core_have_no_protection_and_pmap_says_what_is_resident(tmp_path):
    core = "Core was generated by `x'.\nMapped address spaces:\n\n  0x7f1000000000  0x7f1000002000  0x2000  0x0 /x.so\n"
    assert lines_of(tmp_path, log(tmp_path, "core", core))[0][-1] == "mf @ 0x2000 0x7f1000000000 rw private 0 0"
    lines, _ = lines_of(tmp_path, log(tmp_path, "maps", SHOWN["pmap -x"]), touch="rss")
    assert lines[3:] == ["read @ 0x55eed387b000 0x2000", "touch @ 0x7f1000000000 0x1000"]


def test_files_of_strace_ff_are_merged_by_their_times(tmp_path):
    parent = f"1796055752.1 mmap(NULL, 8192, {RW}) = 0x7f0000000000\n1796055752.2 fork() = 8\n"
    parent += "1796055752.6 madvise(0x7f0000000000, 4096, MADV_FREE) = 0\n"
    child = "1796055752.5 munmap(0x7f0000000000, 8192) = 0\n1796055752.7 +++ exited with 0 +++\n"
    files = [log(tmp_path, "log.8", child), log(tmp_path, "log.7", parent)]
    lines, _ = lines_of(tmp_path, *files)
    assert [" ".join(line.split()[:3]) for line in lines] == [
        "mm @ 0x2000",
        "fork 1",
        "in 1 munmap",
        "free @ 0x7f0000000000",
        "exit 1",
    ]


@pytest.mark.parametrize(("pack", "suffix"), [(gzip.compress, "gz"), (lzma.compress, "xz"), (bz2.compress, "bz2")])
def test_a_packed_file_of_strace_ff_is_of_the_task_in_its_name(tmp_path, pack, suffix):
    parent = f"1796055752.1 mmap(NULL, 8192, {RW}) = 0x7f0000000000\n1796055752.2 fork() = 8\n"
    child = "1796055752.5 munmap(0x7f0000000000, 8192) = 0\n"
    files = [log(tmp_path, f"log.{task}.{suffix}", pack(text.encode())) for task, text in ((7, parent), (8, child))]
    lines, _ = lines_of(tmp_path, *files)
    assert [" ".join(line.split()[:3]) for line in lines] == ["mm @ 0x2000", "fork 1", "in 1 munmap"]


def test_files_without_a_common_clock_are_taken_one_after_the_other_and_that_is_said(tmp_path):
    files = [log(tmp_path, f"log.{i}", f"mmap(NULL, 8192, {RW}) = 0x7f000{i}000000\n") for i in (1, 2)]
    _, found = lines_of(tmp_path, *files)
    assert any("no common clock" in text for text in found.account.notes)


@pytest.mark.parametrize("stamp", ["", "     0.000100 "])
def test_without_a_common_clock_a_task_is_taken_where_it_is_made(tmp_path, stamp):
    first = f"mmap(NULL, 8192, {RW}) = 0x7f0000000000\nfork() = 10\nmadvise(0x7f0000000000, 4096, MADV_FREE) = 0\n"
    files = [
        log(tmp_path, name, "".join(stamp + line for line in text.splitlines(keepends=True)))
        for name, text in (("log.10", "munmap(0x7f0000000000, 8192) = 0\n+++ exited with 0 +++\n"), ("log.9", first))
    ]
    lines, found = lines_of(tmp_path, *files)
    assert [line.split()[0] for line in lines] == ["mm", "fork", "in", "exit", "free"]
    assert any("no common clock" in text for text in found.account.notes)


def test_the_command_says_what_it_understood_and_strict_fails_on_the_rest(tmp_path):
    good = log(tmp_path, "good", f"mmap(NULL, 8192, {RW}) = 0x7f0000000000\n" * 3)
    bad = log(tmp_path, "bad", f'mmap(NULL, 8192, {RW}) = 0x7f0000000000\nuselib("x") = 3\n???\n')
    out = str(tmp_path / "out.trace")
    run = ptelab("import", good, "-o", out, "--strict", "--json", str(tmp_path / "json"))
    assert (run.returncode, run.stdout) == (0, "")
    assert "understood 100.0 %: 3 of 3 lines" in run.stderr
    (row,) = json.loads((tmp_path / "json").read_text())["rows"]
    assert (row["understood"], row["operations"], row["touch"]) == (3, 6, "all")
    lenient = ptelab("import", bad, "-o", out)
    assert lenient.returncode == 0
    assert "not modelled: uselib, 1 times, first" in lenient.stderr
    assert "bad:3: " in lenient.stderr
    assert ptelab("import", bad, "-o", out, "--strict").returncode == 1


@pytest.mark.parametrize("arguments", [["/nonexistent"], [], ["/"]])
def test_a_file_that_cannot_be_read_is_one_line_and_status_2(tmp_path, arguments):
    run = ptelab("import", *arguments, "-o", str(tmp_path / "out.trace"))
    assert (run.returncode, run.stderr.count("\n")) == (2, 1)
    assert list(tmp_path.iterdir()) == []


def test_of_a_log_that_only_looks_like_one_the_first_strange_line_is_named(tmp_path):
    run = ptelab("import", log(tmp_path, "x", "a(\nb\nc"), "-o", str(tmp_path / "out.trace"))
    assert (run.returncode, run.stderr.count("\n"), "x:2: not a line of strace's: 'b'" in run.stderr) == (2, 1, True)


def test_a_log_without_a_word_of_memory_is_refused(tmp_path):
    run = ptelab("import", log(tmp_path, "x", "1 getpid() = 1\n"), "-o", str(tmp_path / "out.trace"))
    assert (run.returncode, run.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "out.trace").exists()


SAMPLES = [
    f"1 mmap(NULL, 8192, {RW}) = 0x7f0000000000",
    "1 mremap(0x7f0000000000, 8192, 16384, MREMAP_MAYMOVE) = 0x7f0000100000",
    "1 clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>",
    "2 mprotect(0x7f0000000000, 4096, PROT_NONE) = 0",
    "1 <... clone resumed>) = 2",
    '2 execve("/bin/x", ["x"], 0x7ffe /* 3 vars */) = 0',
    "1 brk(0x555500021000) = 0x555500021000",
    "1 madvise(0x7f0000000000, 4096, MADV_DONTNEED) = 0",
    "     2.700 ( 0.016 ms): x/1 madvise(start: 0x7fbc4ca7f000, len_in: 8192, behavior: MADV_DONTNEED) = 0",
    "     2.577 ( 0.000 ms): x/1 minfault [f+0xce] => /lib/a.so@0x7fbc4ca7f008 (d.)",
    " x 1 [0] 1.1: exceptions:page_fault_user: address=0x7f0000000000 ip=0x1 error_code=0x6",
    " x 1 [0] 1.2: syscalls:sys_enter_munmap: addr: 0x1000, len: 0x1000",
    " x 1 [0] 1.3: syscalls:sys_exit_munmap: 0x0",
    " x 1 [0] 1.4: PERF_RECORD_MMAP2 1/1: [0x1000(0x1000) @ 0 00:00 0 0]: r-xp [vdso]",
    "    a b-1   [000] .....   929.722840: sys_mmap(addr: 0, len: 0x2000, prot: 3, flags: 0x22, fd: 0, off: 0)",
    "    a b-1     0d.... 722850us : sys_mmap -> 0x7f39a41fa000",
    "    a b-1     0d.... 722860us+: page_fault_user: address=0x7f39a41fb0f8 ip=0x7f39a41fa109 error_code=0x6",
    " x 5 1.1: raw_syscalls:sys_enter: NR 28 (7f0000000000, 1000, 4, 0, 0, 0)",
    "     0.259 x/5 syscalls:sys_exit_mmap(__syscall_nr: 9, ret: 139637976727552)",
    "7f0000000000-7f0000002000 rw-p 00000000 00:00 0 [heap]",
    "000055eed387b000      20       8       0 r-x-- /usr/bin/sleep",
    "      0x55eed387b000     0x55eed3880000     0x5000     0x2000  r-xp   /usr/bin/sleep",
    "7f0000000000-7f0000002000 anon",
    "madvise(&(0x7f0000000000/0x400000)=nil, 0x400000, 0x4) (async)",
]
DAMAGE = ["", "-1", "ffffffffffffffff", "(", ")", "<", '"', "|", "4096", "\0", " ", "0x"]


@st.composite
def damaged(draw):
    """A line of some tool, of which a part is something else."""
    line = draw(st.sampled_from(SAMPLES))
    at = draw(st.integers(0, len(line)))
    return line[:at] + draw(st.sampled_from(DAMAGE)) + line[at + draw(st.integers(0, 4)) :]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.sampled_from(SAMPLES), damaged()), min_size=1, max_size=15), st.sampled_from(MODES))
def test_of_damaged_logs_there_is_a_trace_that_can_be_replayed_or_one_line(tmp_path, text, touch):
    out = str(tmp_path / "out.trace")
    problem = ""
    try:
        import_files([log(tmp_path, "damaged", "\n".join(text))], out, touch)
    except UserError as error:
        problem = str(error)
    assert "\n" not in problem
    if not problem:
        parse(out)
