"""strace's lines in every shape, as calls; nothing is left out in silence, and no byte of an input can break it.

Covers: scenarios/imports/lines, scenarios/imports/calls, scenarios/imports/account
"""

import bz2
import gzip
import io
import lzma
import os
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scenarios.imports import calls, lines
from scenarios.imports.account import Account
from scenarios.imports.calls import CALL, GONE, PLAIN, bits, call_of, number, split
from scenarios.imports.lines import BLOCK, LONGEST, Lines, Unreadable
from scenarios.imports.strace import Strace, looks_like

DONTNEED = ("madvise", {"start": "0x7f0000200000", "len_in": "4096", "behavior": "MADV_DONTNEED"}, 0)
AT = 0x7F0000000000
MMAP = {"addr": "NULL", "len": "8192", "prot": "PROT_READ|PROT_WRITE", "flags": "MAP_PRIVATE|MAP_ANONYMOUS"}


def read(tmp_path, text, **how):
    """The events of some text and the account of it."""
    path = tmp_path / "log"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    account = Account()
    events = []
    for event in Strace(Lines(str(path)), account, **how):
        events += [call_of(event, one) for one in event.args] if event.kind == PLAIN else [event]
    return events, account


@pytest.mark.parametrize(
    ("before", "tid"),
    [
        ("", 0),
        ("5880  ", 5880),
        ("[pid  5880] ", 5880),
        ("5880<python3> ", 5880),
        ("[pid 5880<python3>] ", 5880),
        ("5880  16:24:31 ", 5880),
        ("5880  16:24:31.442796 ", 5880),
        ("[pid  5880] 1796055752.562942 ", 5880),
        ("1796055752.562942 ", 0),
        ("     0.000222 ", 0),
        ("9102       0.000222 ", 9102),
        ("16:24:31 (+     0.000222) ", 0),
        ("[00007f88a7382000] ", 0),
        ("5880 [  28] ", 5880),
        ("> [pid  5880] ", 5880),
        ("\x1b[33m5880\x1b[0m  ", 5880),
    ],
)
@pytest.mark.parametrize("after", ["", " <0.000031>", " (DELAYED)"])
def test_who_and_when_stand_before_a_call_in_any_way(tmp_path, before, tid, after):
    line = f"{before}madvise(0x7f0000200000, 4096, MADV_DONTNEED) = 0{after}\n"
    events, account = read(tmp_path, line)
    ((kind, found),) = [(event.kind, (event.name, event.args, event.result)) for event in events]
    assert (kind, found, events[0].tid, account.malformed) == (CALL, DONTNEED, tid, 0)


@pytest.mark.parametrize(
    ("text", "args", "result"),
    [
        (
            "mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f88a7382000",
            MMAP,
            0x7F88A7382000,
        ),
        (
            "mmap(addr=NULL, length=8192, prot=PROT_READ|PROT_WRITE, flags=MAP_PRIVATE|MAP_ANONYMOUS, fd=-1, offset=0)"
            "     = 0x7f0000000000",
            MMAP,
            AT,
        ),
        (
            "old_mmap({NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0}) = 0x40000000",
            MMAP,
            0x40000000,
        ),
        (
            'execve("/bin/a, b) = 3", ["a", "--x=(1, 2)"], 0x7ffe92386ee8 /* 35 vars */) = 0',
            {"filename": '"/bin/a, b) = 3"'},
            0,
        ),
        (
            "mmap(NULL, 34547, PROT_READ, MAP_PRIVATE, 3</etc/a, <b>.so>, 0) = 0x7f0000000000",
            {"fd": "3</etc/a, <b>.so>"},
            0x7F0000000000,
        ),
        ("madvise(0x7f0000200000, 4096, 0x66 /* MADV_??? */) = 0", {"behavior": "0x66 /* MADV_??? */"}, 0),
        (
            "mmap(NULL, 8192, 0x3 /* PROT_READ|PROT_WRITE */, 0x22, -1, 0) = 0x7f0000000000",
            {"flags": "0x22"},
            0x7F0000000000,
        ),
    ],
)
def test_operands_are_found_however_they_are_written(tmp_path, text, args, result):
    (event,), account = read(tmp_path, text + "\n")
    assert args.items() <= event.args.items()
    assert (event.result, account.left_out) == (result, 0)


@pytest.mark.parametrize(
    "halves",
    [
        ("<unfinished ...>", "<... madvise resumed>) = 0"),
        ("<unfinished ...>", "<... madvise resumed> )      = 0"),
        ("<unfinished ...>", "<... madvise resumed>)   = 0 <0.000031>"),
    ],
)
def test_halves_of_a_call_are_one_with_its_interval_whatever_stands_between(tmp_path, halves):
    text = f"7 1700000002.5 madvise(0x7f0000200000, 4096, MADV_DONTNEED {halves[0]}\n8 1700000002.6 getpid() = 8\n"
    text += f"7 1700000002.7 {halves[1]}\n"
    events, account = read(tmp_path, text)
    assert [event.kind for event in events] == [CALL]
    assert (events[0].name, events[0].args, events[0].result) == DONTNEED
    assert (events[0].began, events[0].time) == (1700000002.5, 1700000002.7)
    assert (account.others["getpid"], account.left_out) == (1, 0)


def test_operands_may_be_told_in_the_second_half(tmp_path):
    text = "1 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD <unfinished ...>\n"
    events, _ = read(tmp_path, text + "1 <... clone resumed>, child_tidptr=0x7f29bd076e50) = 5924 <0.000438>\n")
    assert (events[1].result, "child_tidptr" in events[1].args["clone_flags"]) == (5924, True)


def test_the_second_half_of_a_call_that_makes_a_task_may_name_neither(tmp_path):
    text = "7 clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>\n, child_tidptr=0x7f81)          = 9\n"
    events, account = read(tmp_path, f"{text}9 brk(NULL) = 0x1000\n")
    assert [(event.kind, event.tid, event.result) for event in events[1:]] == [(CALL, 7, 9), (CALL, 9, 0x1000)]
    assert account.left_out == 0
    _, account = read(tmp_path, "7 brk(NULL) = 0x1000\n, child_tidptr=0x7f81)          = 9\n")
    assert account.malformed == 1


def test_a_line_that_a_message_tore_is_put_together(tmp_path):
    text = "clone(child_stack=NULL, flags=SIGCHLDstrace: Process 5924 attached\n, child_tidptr=0x7f29) = 5924\n"
    (event,), account = read(tmp_path, text)
    assert (event.name, event.result, account.malformed) == ("clone", 5924, 0)


def test_the_first_task_keeps_its_lines_when_it_gets_a_number(tmp_path):
    text = (
        "clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>\n[pid  6] brk(NULL) = 0x55f0f86a9000\n"
        "[pid  5] <... clone resumed>) = 6\n[pid  5] brk(NULL) = 0x55f0f86a9000\n"
    )
    events, _ = read(tmp_path, text)
    assert [event.tid for event in events] == [0, 6, 0, 0]


def test_ends_signals_and_messages_are_no_calls_and_not_malformed(tmp_path):
    text = (
        "1 --- SIGSEGV {si_signo=SIGSEGV, si_addr=NULL} ---\n1 +++ killed by SIGKILL (core dumped) +++\n"
        "strace: Process 9 attached\n > /lib/x.so(f+0x1) [0x2]\n[ Process PID=7 runs in 32 bit mode. ]\n\n"
        "2 +++ exited with 0 +++\n"
    )
    events, account = read(tmp_path, text)
    assert [(event.kind, event.tid) for event in events] == [(GONE, 1), (GONE, 2)]
    assert account.malformed == 0


@pytest.mark.parametrize(
    ("end", "failed"),
    [("-1 ENOMEM (Cannot allocate memory)", "ENOMEM"), ("?", "?"), ("? ERESTARTSYS (To be restarted)", "ERESTARTSYS")],
)
def test_a_call_that_failed_says_so(tmp_path, end, failed):
    (event,), _ = read(tmp_path, f"madvise(0x7f0000200000, 4096, MADV_DONTNEED) = {end}\n")
    assert event.failed == failed


def test_a_task_that_execs_has_the_number_of_its_process(tmp_path):
    text = '9 execve("/bin/true", ["true"], 0x7ffd /* 3 vars */ <unfinished ...>\n'
    text += "7 <... wait4 resumed> <unfinished ...>) = ?\n"
    text += "7 +++ superseded by execve in pid 9 +++\n7 <... execve resumed>) = 0\n"
    events, account = read(tmp_path, text)
    assert [(event.name, event.tid, event.result) for event in events] == [("execve", 7, 0)]
    assert account.left_out == 0


def test_calls_that_this_strace_did_not_know_have_their_names(tmp_path):
    text = "1 syscall_0x1b3(0x7ffd5c5d5b40, 0x58, 0x7f6c, 0x8, 0x7f6d, 0x7ffd) = 42\n42 _exit(0) = ?\n"
    text += "1 SYS_28(0x7f0000200000, 0x1000, 0x4, 0, 0, 0) = 0\n"
    events, account = read(tmp_path, text)
    assert [(event.name, event.tid) for event in events] == [("clone3", 1), ("exit", 42), ("madvise", 1)]
    assert (events[2].args["len_in"], account.left_out) == ("0x1000", 0)


@pytest.mark.parametrize(
    "end", ["<unfinished ...>", "<detached ...>", "<ptrace(SYSCALL):No such process>", "<pid changed to 9 ...>"]
)
def test_a_call_that_does_not_return_is_counted(tmp_path, end):
    events, account = read(tmp_path, f"1 madvise(0x7f0000200000, 4096, MADV_DONTNEED {end}\n")
    assert (events, list(account.not_modelled)) == ([], ["madvise, whose end is not in the log"])
    assert account.malformed == 0
    events, account = read(tmp_path, f"1 munmap(0x7f0000200000, 4096 {end}\n")
    assert ([event.name for event in events], account.left_out) == (["munmap"], 0)


def test_a_call_without_an_end_is_counted_when_its_task_begins_another(tmp_path):
    begin = "1 madvise(0x7f0000200000, 4096, MADV_DONTNEED <unfinished ...>\n"
    events, account = read(tmp_path, begin + begin + "1 <... madvise resumed>) = 0\n")
    assert (len(events), account.left_out) == (1, 1)


def test_what_a_program_reads_or_prints_between_the_lines_is_not_malformed(tmp_path):
    text = '1 read(3, "ELF", 3) = 3\n | 00000  7f 45 4c                   .EL |\n1 write(2, "x\\n", 2x\n) = 2\n'
    _, account = read(tmp_path, text)
    assert (account.malformed, account.others) == (0, {"read": 1, "write": 1})


def test_what_cannot_be_read_is_named_by_its_line(tmp_path):
    _, account = read(
        tmp_path, "1 brk(NULL) = 0x1000\nhello world\n1 madvise(0x1000, 4096, MADV_DONTNEED\n1 brk(NULL) = 0x1000\n"
    )
    assert account.malformed == 2
    assert [text.split(": ")[0].rsplit(":")[-1] for text in account.first_malformed] == ["2", "3"]


@pytest.mark.parametrize("last", ["1 madvise(0x1000, 40", "1 17", "1 1700000001.5 mad"])
def test_a_last_line_that_is_cut_off_is_told_and_not_malformed(tmp_path, last):
    events, account = read(tmp_path, f"1 brk(NULL) = 0x1000\n{last}")
    assert (len(events), account.malformed, len(account.notes)) == (1, 0, 1)


def test_the_first_task_keeps_its_lines_when_a_child_was_made_in_one_line(tmp_path):
    text = (
        "clone(child_stack=NULL, flags=SIGCHLD) = 6\nstrace: Process 6 attached\n[pid  5] brk(NULL) = 0x55f0f86a9000\n"
        "[pid  6] brk(NULL) = 0x55f0f86aa000\n"
    )
    events, _ = read(tmp_path, text)
    assert [event.tid for event in events] == [0, 0, 6]
    quiet, _ = read(tmp_path, "fork() = 6\n[pid  6] brk(NULL) = 0x55f0f86aa000\n[pid  5] brk(NULL) = 0x55f0f86a9000\n")
    assert [event.tid for event in quiet] == [0, 6, 0]  # -q says of no task that it is attached


def test_a_line_of_another_call_that_a_message_tore_is_no_loss(tmp_path):
    text = "read(3) = 1\nread(3, strace: Process 6 attached\n <unfinished ...>\n[pid  6] brk(NULL) = 0x55f0f86aa000\n"
    events, account = read(tmp_path, text)
    assert ([event.tid for event in events], account.malformed) == ([6], 0)


def test_relative_stamps_add_up_and_midnight_goes_on(tmp_path):
    relative, _ = read(tmp_path, "0.5 brk(NULL) = 0x1000\n0.25 brk(NULL) = 0x1000\n")
    assert [event.time for event in relative] == [0.5, 0.75]
    text = "0.5 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3</x>, 0) = 0x1000\n"
    text += "0.25 madvise(0x1000, 4096, 4 <unfinished ...>\n"
    relative, _ = read(tmp_path, f"{text}0.1 getpid() = 1\n0.2 getpid() = 1\n1.0 brk(NULL) = 0x1000\n")
    assert [event.time for event in relative] == pytest.approx([0.5, 2.05])
    beside, _ = read(tmp_path, "0.5 brk(NULL) = 0x1000\n", several=True)
    assert beside[0].time is None  # each file begins at 0
    night, _ = read(tmp_path, "23:59:59 brk(NULL) = 0x1000\n00:00:01 brk(NULL) = 0x1000\n", several=True)
    assert [event.time for event in night] == [86399, 86401]


@pytest.mark.parametrize(
    "pack",
    [lambda text: text, gzip.compress, lzma.compress, bz2.compress, lambda text: text.decode().encode("utf-16")],
)
def test_an_input_is_read_packed_or_in_another_encoding(tmp_path, pack):
    events, account = read(tmp_path, pack(b"1 brk(NULL) = 0x1000\r\n1 brk(NULL) = 0x2000\r\n"))
    assert ([event.result for event in events], account.malformed) == ([0x1000, 0x2000], 0)


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, bz2.compress])
def test_a_packed_input_that_ends_early_gives_what_it_has(tmp_path, compress):
    whole = b"".join(b"1 brk(NULL) = 0x%x000\n" % (i * 7919 % 65536 + 1) for i in range(250_000))
    path = tmp_path / "log.gz"
    path.write_bytes(compress(whole)[:-2000])
    found = Lines(str(path))
    assert sum(map(len, found)) > 1000
    assert "ends early" in found.problem


def test_what_zstd_has_packed_is_told_how_to_be_read(tmp_path):
    (tmp_path / "log.zst").write_bytes(b"\x28\xb5\x2f\xfd\x24\x02")
    with pytest.raises(Unreadable, match=r"zstd -dc \S+log.zst | ptelab import -"):
        Lines(str(tmp_path / "log.zst"))


def test_a_pipe_is_read_and_one_without_a_writer_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(b"1 brk(NULL) = 0x1000\n"))
    writer.start()
    assert [call_of(event, event.args[0]).result for event in Strace(Lines(str(path)), Account())] == [0x1000]
    writer.join()
    monkeypatch.setattr(lines, "PIPE_SECONDS", 0)
    with pytest.raises(Unreadable, match="nobody has written"):
        Lines(str(path))


def test_no_more_than_a_block_and_a_line_are_kept(tmp_path, monkeypatch):
    path = tmp_path / "log"
    with path.open("wb") as log:
        log.write(b"1 brk(NULL) = 0x1000\n" + b"x" * (3 * BLOCK + LONGEST) + b"\n1 brk(NULL) = 0x2000\n" * 2)
    sizes = []
    read_block = io.BufferedReader.read
    found = Lines(str(path))
    monkeypatch.setattr(found, "_read", lambda: sizes.append(len(block := read_block(found._stream, BLOCK))) or block)
    longest = max(sum(map(len, block)) for block in found)
    assert longest <= BLOCK + LONGEST
    assert max(sizes) <= BLOCK


def test_a_line_that_is_too_long_is_malformed_and_the_next_is_read(tmp_path):
    text = b"1 brk(NULL) = 0x1000\n" + b"x" * (2 * BLOCK + LONGEST) + b"\n1 brk(NULL) = 0x2000\n"
    events, account = read(tmp_path, text)
    assert ([event.result for event in events], account.malformed) == ([0x1000, 0x2000], 1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
            st.sampled_from(
                [
                    b"1 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000",
                    b"<... brk resumed>) = 0x1",
                ]
            ).flatmap(lambda line: st.integers(0, len(line)).map(lambda at: line[:at] + b"\x00,(<" + line[at:])),
        ),
        max_size=12,
    )
)
def test_any_bytes_are_events_or_are_accounted_for(tmp_path, parts):
    events, account = read(tmp_path, b"1 brk(NULL) = 0x1000\n" + b"\n".join(parts))
    assert events[0].name == "brk"
    assert account.lines >= len(events)


def test_numbers_and_flags_are_read_in_every_spelling():
    assert [number(text) for text in ("NULL", "0x10", "-1", "3</a>", "0x3 /* PROT_READ */")] == [0, 16, -1, 3, 3]
    assert bits("prot", "PROT_READ|WRITE|0x4") == 7
    assert bits("map", "MAP_PRIVATE|MAP_HUGETLB|21<<MAP_HUGE_SHIFT") == 2 | calls.MAP_HUGETLB | 21 << 26
    assert bits("advice", "MADV_DONTNEED") == 4
    with pytest.raises(calls.Unknown):
        bits("advice", "MADV_NONSENSE")


def test_operands_are_parted_at_commas_outside_of_structures():
    assert split('{a=1, b=[2, 3]}, "x, \\"y", 3</p, q>, 4') == ["{a=1, b=[2, 3]}", '"x, \\"y"', "3</p, q>", "4"]


def test_a_log_is_told_from_other_text():
    assert looks_like(["1 brk(NULL) = 0x1000"])
    assert not looks_like(["import os", "hello (world)"])
