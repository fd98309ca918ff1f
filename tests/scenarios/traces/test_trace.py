"""The trace language: what it means, and what is said about a trace that has no meaning.

Covers: scenarios/traces/footprint, scenarios/traces/process, workers/programs/program
"""

from __future__ import annotations

import gzip

import pytest

from emulator.mm_types import PAGE_SIZE
from emulator.segment import SegmentTooLarge
from emulator.syscalls import madvise
from scenarios.traces.footprint import geometry_for
from scenarios.traces.replay import run_replay
from scenarios.traces.trace import TraceError, parse
from workers.programs.program import (
    MARK,
    REAP,
    advise,
    dontneed,
    fork,
    free,
    mlock,
    mmap,
    mprotect,
    mremap,
    mremap_fixed,
    munlock,
    munmap,
    process_madvise,
    read,
    touch,
)

BASE, WINDOW = 16 << 40, 64 << 30
K, M, G = 1 << 10, 1 << 20, 1 << 30


@pytest.fixture
def write(tmp_path):
    """Write a trace, as text or as bytes; its path."""

    def write(text, name="a.trace"):
        path = tmp_path / name
        content = text if isinstance(text, bytes) else text.encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


def complaint(path):
    """What is said about a trace behind its name; it must be one line."""
    with pytest.raises(TraceError) as error:
        run_replay(path)
    text = str(error.value)
    assert text.startswith(f"{path}:")
    assert "\n" not in text
    return text.removeprefix(f"{path}:")


@pytest.mark.parametrize(
    ("line", "insn"),
    [
        ("mmap 0 1G", mmap(BASE, G)),
        ("mmap 3 4p 2M", mmap(BASE + 3 * WINDOW + 2 * M, 4 * PAGE_SIZE)),
        ("mmapr 1 0x1000 0xABC000", mmap(BASE + WINDOW + 0xABC000, 0x1000, writable=False)),
        ("touch 0 0 64K", touch(BASE, 64 * K)),
        ("touch 0 1 2M 1M", touch(BASE + 1, 2 * M, M)),
        ("read 0 4096 1p 512", read(BASE + 4096, PAGE_SIZE, 512)),
        ("dontneed 0 0 2M", dontneed(BASE, 2 * M)),
        ("dontneed 0 0 2M 4K", dontneed(BASE, 2 * M, 4 * K)),
        ("free 0 0 2M", free(BASE, 2 * M)),
        ("munmap 1791 0 0x10p", munmap((1 << 47) - WINDOW, 16 * PAGE_SIZE)),
        ("munmap 0 0 1G 2M", munmap(BASE, G, 2 * M)),
        ("cold 0 0 2M 1M", advise(madvise.MADV_COLD, BASE, 2 * M, M)),
        ("populate 0 0 2M", advise(madvise.MADV_POPULATE_WRITE, BASE, 2 * M)),
        ("guard 0 4K 4K", advise(madvise.MADV_GUARD_INSTALL, BASE + 4 * K, 4 * K)),
        ("vdontneed 0 0 2M 4K", process_madvise(madvise.MADV_DONTNEED, BASE, 2 * M, 4 * K)),
        ("mprotect 0 0 2M none", mprotect(BASE, 2 * M, "none")),
        ("mremap 0 4M", mremap(BASE, 0, 4 * M)),
        ("mremapmv 0 0 2M 1 4M", mremap_fixed(BASE, 2 * M, BASE + WINDOW + 4 * M)),
        ("mlock 0 0 2M", mlock(BASE, 2 * M)),
        ("munlock 0 0 2M", munlock(BASE, 2 * M)),
        ("fork", fork()),
        ("forkhold", fork(hold=True)),
        ("reap", REAP),
        ("mark", MARK),
    ],
)
def test_a_line_means_one_instruction(write, line, insn):
    assert [operation.insn for operation in parse(write(line)).operations] == [insn]


def test_forkdo_gives_the_child_the_operation_and_one_row_to_both(write):
    trace = parse(write("mmap 0 1G\nforkdo touch 0 0 8K\nmark\n"))

    assert trace.program() == [
        mmap(BASE, G)._replace(record=0),
        fork(1)._replace(record=1),
        touch(BASE, 8 * K),
        MARK._replace(record=2),
    ]


@pytest.mark.parametrize(
    ("before", "size"),
    [("mmap 0 2M", 2 * M), ("mmap 0 2M\nmremap 0 6M", 6 * M), ("mmap 0 2M\nmmap 0 1M 8M", 2 * M), ("mmap 1 2M", 0)],
)
def test_mremap_begins_with_the_size_that_was_mapped_last_at_the_window(write, before, size):
    assert parse(write(f"{before}\nmremap 0 4M\n")).operations[-1].insn == mremap(BASE, size, 4 * M)


def test_comments_and_blank_lines_have_no_row_but_count_as_lines(write):
    path = write("# a comment\n\n  mmap 0 1G   # big\r\n\t\n\tmark\n")

    operations = parse(path).operations

    assert [(operation.line, operation.text) for operation in operations] == [(3, "mmap 0 1G"), (5, "mark")]
    assert run_replay(path).rows == ["0\t0\t0\t0\t\tmmap 0 1G", "0\t0\t0\t0\t\tmark"]


def test_a_compressed_trace_has_numbered_rows(write):
    path = write("# comment\nmmap 0 1G\ntouch 0 0 8K\n", "a.trace.gz")

    assert run_replay(path).rows == ["2\t0\t0\t0\t0", "3\t12\t8\t2\t0"]


def test_an_empty_trace_has_no_rows(write):
    result = run_replay(write("# nothing\n"))

    assert result.rows == []
    assert result.passed


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (
            "jump 0 1G",
            "unknown operation 'jump'; known: mmap, mmapr, mmapthp, mmapsh, mmapfile, touch, read, dontneed, free, ",
        ),
        ("MMAP 0 1G", "unknown operation 'MMAP'"),
        ("\x1b[31m 0", "unknown operation '\\x1b[31m'"),
        ("x" * 60, f"unknown operation '{'x' * 37}...'"),
        ("mmap 0", "'mmap' takes ID SIZE [OFF], not 1 operand"),
        ("mmap", "'mmap' takes ID SIZE [OFF], not 0 operands"),
        ("touch 0 0", "'touch' takes ID OFF LEN [STRIDE], not 2 operands"),
        ("touch 0 0 4K 4K 4K", "'touch' takes ID OFF LEN [STRIDE], not 5 operands"),
        ("mark 0", "'mark' takes no operands, not 1 operand"),
        ("mmap 0 big", "SIZE 'big' is not a number; known: decimal or 0x, with K, M, G, T or p (4 KiB)"),
        ("mmap 0 -4096", "SIZE '-4096' is not a number"),
        ("mmap 0 4k", "SIZE '4k' is not a number"),
        ("mmap 0 4X", "SIZE '4X' is not a number"),
        ("mmap 0 0x", "SIZE '0x' is not a number"),
        ("mmap 0 1.5G", "SIZE '1.5G' is not a number"),
        ("mmap 0 1_000", "SIZE '1_000' is not a number"),
        ("mmap 0 \N{ARABIC-INDIC DIGIT ONE}", "SIZE '\\u0661' is not a number"),
        ("mmap x 4K", "ID 'x' is not a number"),
        ("mmap 0 200000G", "SIZE '200000G' does not fit into user space; known: up to 0x800000000000"),
        ("mmap 0 " + "9" * 30, f"SIZE '{'9' * 30}' does not fit into user space"),
        ("mmap 0 " + "9" * 4000, f"SIZE '{'9' * 37}...' is not a number"),
        ("touch 0 0 0x800000000001", "LEN '0x800000000001' does not fit into user space"),
        ("mmap 1792 4K", "ID '1792' lies outside of user space; known: 0 to 1791"),
        ("touch 0 0x700000000001 4K", "OFF 0x700000000001 lies outside of user space; known: up to 0x700000000000"),
        ("touch 0 0 4K 0", "STRIDE 0 leads nowhere"),
        ("munmap 0 0 4K 0", "STEP 0 leads nowhere"),
        ("vdontneed 0 0 4K", "'vdontneed' takes ID OFF LEN STEP, not 3 operands"),
        ("vdontneed 0 0 4K 0", "STEP 0 leads nowhere"),
        ("mprotect 0 0 4K", "'mprotect' takes ID OFF LEN PROT, not 3 operands"),
        ("mprotect 0 0 4K q", "PROT 'q' is no protection; known: none, r, w, rw, x, rx, wx, rwx"),
        ("mremap 0", "'mremap' takes ID NEWSIZE, not 1 operand"),
        ("mremapmv 0 0 4K 1792 0", "ID '1792' lies outside of user space; known: 0 to 1791"),
        ("mremapmv 0 0 4K 1 0x700000000001", "DSTOFF 0x700000000001 lies outside of user space"),
        ("forkdo", "'forkdo' takes an operation, not nothing"),
        ("forkdo fork", "'forkdo' takes an operation, not 'fork'"),
        ("forkdo touch 0 0", "'touch' takes ID OFF LEN [STRIDE], not 2 operands"),
        ("fork 1 2", "'fork' takes [K], not 2 operands"),
        ("#" * 5000, "the line is longer than 4096 bytes"),
    ],
)
def test_a_bad_line_is_one_error_with_its_number(write, line, what):
    assert complaint(write(f"mmap 0 4K\n{line}\nmark\n")).startswith(f"2: {what}")


def test_text_that_is_not_utf8_is_an_error_on_its_line(write):
    assert complaint(write(b"mmap 0 4K\nmark # \xff\n")).startswith("2: not UTF-8: invalid start byte at byte 8")


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    assert complaint(tmp_path / "missing.trace") == "1: cannot be read: No such file or directory"
    assert complaint(tmp_path) == "1: cannot be read: Is a directory"
    assert complaint(tmp_path / "missing.trace.gz") == "1: cannot be read: No such file or directory"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-8] + bytes(8),
        lambda content: content[:20] + bytes(b ^ 255 for b in content[20:60]) + content[60:],
        lambda content: b"mmap 0 1G\n",
    ],
    ids=["cut", "checksum", "garbled", "plain text"],
)
def test_a_corrupt_gzip_file_is_an_error(tmp_path, spoil):
    text = "".join(f"touch 0 {i * 7919 % 100_003} {i + 1}\n" for i in range(500))
    path = tmp_path / "a.trace.gz"
    path.write_bytes(spoil(gzip.compress(text.encode())))

    assert ": corrupt gzip: " in complaint(path)


def rows(write, text):
    """VmPTE, RssAnon, minor faults and errno of each line."""
    return [tuple(map(int, row.split("\t")[:4])) for row in run_replay(write(text)).rows]


ECHILD, EFAULT, ENOMEM, EINVAL = -10, -14, -12, -22
END = 0x6FFF_FFFF_F000  # the page behind user space, seen from window 0


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("touch 0 0 4K", (0, 0, 0, EFAULT)),
        ("mmap 0 16K\ntouch 0 0 64K", (12, 16, 4, EFAULT)),
        ("mmap 0 16K\ntouch 0 1 4K", (12, 4, 1, 0)),
        ("mmap 0 16K\ntouch 0 4095 2 1", (12, 8, 2, 0)),
        ("mmap 0 16K\ntouch 0 100M 0", (0, 0, 0, 0)),
        ("mmapr 0 16K\nread 0 0 8K\ntouch 0 0 8K", (12, 0, 2, EFAULT)),
        ("mmap 0 16K\nread 0 0 8K\ntouch 0 0 8K", (12, 8, 4, 0)),
        ("mmap 0 5000\ntouch 0 0 8K", (12, 8, 2, 0)),
        ("mmap 0 0", (0, 0, 0, EINVAL)),
        ("mmap 0 4K 1", (0, 0, 0, EINVAL)),
        (f"mmap 0 4K {END:#x}", (0, 0, 0, ENOMEM)),
        ("mmap 0 0x800000000000 1", (0, 0, 0, ENOMEM)),
        (f"mmap 0 4K {END - 4096:#x}\ntouch 0 {END - 4096:#x} 8K", (12, 4, 1, EFAULT)),
        ("mmap 0 16K\ntouch 0 0 16K\nmmap 0 8K 4K", (12, 8, 4, 0)),
        ("mmap 0 16K\ntouch 0 0 16K\nmmap 0 4M", (0, 0, 4, 0)),
        ("munmap 0 0 4K", (0, 0, 0, 0)),
        ("munmap 0 0 0", (0, 0, 0, EINVAL)),
        ("munmap 0 1 4K", (0, 0, 0, EINVAL)),
        (f"munmap 0 {END:#x} 4K", (0, 0, 0, EINVAL)),
        ("mmap 0 16K\ntouch 0 0 16K\nmunmap 0 4K 1", (12, 12, 4, 0)),
        ("mmap 0 16K\ntouch 0 0 16K\nmunmap 0 0 16K 6000", (12, 8, 4, EINVAL)),
        ("dontneed 0 0 4K", (0, 0, 0, ENOMEM)),
        ("dontneed 0 0 0", (0, 0, 0, 0)),
        ("dontneed 0 1 0", (0, 0, 0, EINVAL)),
        (f"dontneed 0 {END:#x} 4K", (0, 0, 0, ENOMEM)),
        ("mmap 0 16K\ntouch 0 0 16K\ndontneed 0 0 5000", (12, 8, 4, 0)),
        ("mmap 0 8K\nmmap 0 8K 1M\ntouch 0 0 8K\ntouch 0 1M 8K\ndontneed 0 0 4M", (12, 0, 4, ENOMEM)),
        ("mmap 0 16K\ntouch 0 0 16K\ndontneed 0 0 16K 1000", (12, 12, 4, EINVAL)),
        ("mmap 0 16K\ntouch 0 0 16K\nfree 0 0 16K\ntouch 0 0 16K", (12, 16, 4, 0)),
        ("free 0 0 4K", (0, 0, 0, ENOMEM)),
        ("free 0 1 4K", (0, 0, 0, EINVAL)),
        ("mmap 0 16K\ntouch 0 0 16K\nmprotect 0 0 8K r\ntouch 0 0 8K", (12, 16, 4, EFAULT)),
        ("mmap 0 16K\ntouch 0 0 16K\nmprotect 0 0 8K r\nread 0 0 16K", (12, 16, 4, 0)),
        ("mmap 0 16K\ntouch 0 0 16K\nmprotect 0 0 8K none\nread 0 0 8K", (12, 16, 4, EFAULT)),
        ("mmap 0 16K\ntouch 0 0 16K\nmprotect 0 0 8K none\nmprotect 0 0 8K rw\ntouch 0 0 8K", (12, 16, 4, 0)),
        ("mmap 0 16K\nread 0 0 16K\nmprotect 0 0 8K r\nmprotect 0 0 8K rw\ntouch 0 0 8K", (12, 8, 6, 0)),
        ("mmap 0 16K\nmmap 0 16K 32K\nmprotect 0 0 48K r", (0, 0, 0, ENOMEM)),
        ("mprotect 0 1 4K r", (0, 0, 0, EINVAL)),
        ("mprotect 0 0 0 r", (0, 0, 0, 0)),
        ("mmap 0 16K\npopulate 0 0 32K", (12, 16, 4, ENOMEM)),
        ("mmapr 0 16K\npopulate 0 0 16K", (0, 0, 0, EINVAL)),
        ("mmapr 0 16K\npopulate_read 0 0 16K", (12, 0, 4, 0)),
        ("mmap 0 16K\nread 0 0 8K\npopulate 0 0 16K", (12, 16, 6, 0)),
        ("mmap 0 16K\nguard 0 4K 4K\ntouch 0 0 16K", (12, 4, 1, EFAULT)),
        ("mmap 0 16K\nguard 0 4K 4K\ndontneed 0 0 16K\nread 0 4K 4K", (12, 0, 0, EFAULT)),
        ("mmap 0 16K\nguard 0 4K 4K\nunguard 0 0 16K\ntouch 0 0 16K", (12, 16, 4, 0)),
        ("mmap 0 16K\nguard 0 4K 4K\npopulate 0 0 16K", (12, 4, 1, EFAULT)),
        ("mmap 0 16K\nguard 0 4K 4K\nmunmap 0 0 16K", (0, 0, 0, 0)),
        ("mmap 0 16K\nremove 0 0 16K", (0, 0, 0, EINVAL)),
        ("mmap 0 16K\nmlock 0 0 8K\ndontneed 0 0 16K", (12, 8, 2, EINVAL)),
        ("mmap 0 16K\nmlock 0 0 8K\nguard 0 0 16K", (12, 8, 2, EINVAL)),
        ("mmap 0 16K\nmlock 0 0 8K\ndontneed_locked 0 0 16K", (12, 0, 2, 0)),
        ("mmap 0 16K\nmlock 0 0 8K\nmunlock 0 0 8K\nfree 0 0 16K", (12, 8, 2, 0)),
        ("mmap 0 16K\nmprotect 0 4K 4K none\nmlock 0 0 16K", (12, 4, 1, ENOMEM)),
        ("mmap 0 16K\ntouch 0 0 16K\nvdontneed 0 0 32K 4K", (12, 0, 4, 0)),
        ("vdontneed 0 0 32K 4K", (0, 0, 0, ENOMEM)),
        ("mmap 0 16K\ntouch 0 0 16K\nmremap 0 8K", (12, 8, 4, 0)),
        ("mmap 0 16K\nmmap 0 4K 16K\nmremap 0 32K", (0, 0, 0, ENOMEM)),
        ("mmap 0 16K\nmremap 0 0", (0, 0, 0, EINVAL)),
        ("mmap 0 16K\nmlock 0 0 16K\nmremap 0 32K", (12, 32, 8, 0)),
        ("mremapmv 0 0 4K 1 0", (0, 0, 0, EFAULT)),
        ("mmap 0 16K\nmremapmv 0 0 16K 0 8K", (0, 0, 0, EINVAL)),
        ("mmap 0 16K\nmremapmv 0 1 4K 1 0", (0, 0, 0, EINVAL)),
        ("mmap 0 16K\ntouch 0 0 16K\nmremapmv 0 0 16K 1 0\ntouch 1 0 16K", (12, 16, 4, 0)),
        ("mmap 0 16K\ntouch 0 0 16K\nmremapmv 0 0 16K 1 0\nread 0 0 4K", (12, 16, 4, EFAULT)),
        ("mmap 0 1G\ntouch 0 0 1G 2M\nmremapmv 0 0 1G 1 0", (2056, 2048, 512, 0)),
        ("mmap 0 4M\ntouch 0 0 4M\nmprotect 0 2M 2M r\nmremapmv 0 0 4M 1 1M", (20, 4096, 1024, 0)),
        ("mmap 0 16K\ntouch 0 0 16K\nfork\ntouch 0 0 16K\ntouch 0 0 16K", (12, 16, 8, 0)),
        ("mmap 0 16K\ntouch 0 0 16K\nforkhold\nmprotect 0 0 8K r\nmprotect 0 0 8K rw\ntouch 0 0 8K", (12, 16, 6, 0)),
        ("reap", (0, 0, 0, ECHILD)),
    ],
)
def test_linux_decides_what_an_edge_case_does(write, text, last):
    assert rows(write, text)[-1] == last


def needed_bytes(write, text):
    """Size of the segment for a trace."""
    trace = parse(write(text))
    return geometry_for(trace.program(), trace.files).offsets()[1]


def test_sparse_touches_take_room_for_what_they_touch(write):
    small = needed_bytes(write, "mark")

    assert needed_bytes(write, "mmap 0 64G\ntouch 0 0 64G 1G") - small < M
    assert needed_bytes(write, "mmap 0 4K\ntouch 0 0 64G") - small < M
    assert needed_bytes(write, "mmapr 0 64G\ntouch 0 0 64G\nread 0 0 64G 1G") - small < M
    assert needed_bytes(write, "mmap 0 1G\n" + "touch 0 0 4M\ndontneed 0 0 4M\n" * 50) - small < M
    fresh = "".join(f"mmap 0 1M {i}M\ntouch 0 {i}M 4K\nmunmap 0 {i}M 1M\n" for i in range(999))
    assert needed_bytes(write, fresh) - small < M


@pytest.mark.parametrize(
    ("line", "child"),
    [
        ("fork", "12:16:0"),
        ("forkhold", "12:16:0"),
        ("forkdo touch 0 0 16K", "12:16:4"),
        ("forkdo read 0 0 16K", "12:16:0"),
        ("forkdo touch 0 0 32K", "12:16:4"),
        ("forkdo dontneed 0 0 8K", "12:8:0"),
        ("forkdo munmap 0 0 16K", "0:0:0"),
        ("forkdo mremapmv 0 0 16K 1 2M", "12:16:0"),
        ("forkdo mark", "12:16:0"),
    ],
)
def test_a_child_has_what_it_inherits_and_its_own_faults(write, line, child):
    result = run_replay(write(f"mmap 0 16K\ntouch 0 0 16K\n{line}\nreap\n"))

    assert result.rows[2].split("\t")[4] == child
    assert result.rows[2].split("\t")[:3] == ["12", "16", "4"]
    assert result.passed, (result.violation, result.checks)


def test_a_trace_that_fits_no_memory_says_so_before_it_starts(write, monkeypatch):
    monkeypatch.setattr("emulator.segment.available_bytes", lambda: 16 * M)

    with pytest.raises(SegmentTooLarge):
        run_replay(write("mmap 0 1G\ntouch 0 0 1G\n"))


@pytest.mark.parametrize(
    ("word", "size"), [("1T", 1 << 40), ("2G", 2 << 30), ("3M", 3 << 20), ("4K", 4096), ("1p", 4096)]
)
def test_sizes_have_the_units_of_the_command_line_and_pages(word, size, tmp_path):
    file = tmp_path / "sizes.trace"
    file.write_text(f"mm @ {word} 0x100000000000 rw\n")

    (operation,) = parse(file).operations
    assert size in operation.done
