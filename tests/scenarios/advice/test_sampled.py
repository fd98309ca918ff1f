"""Calls seen by strace or perf trace: which lines are releases, which slots they cover, and a process that is sampled.

Covers: workers/host/call_sample
"""

import shutil
import threading

import numpy as np
import pytest
from targets import MIB, Target

from scenarios.advice.sampled import judge
from workers.host.call_sample import Calls, SampleUnavailable, sample
from workers.host.page_scan import PRESENT, RANGE

BASE = 16 << 40
NOTHING = np.empty(0, RANGE)
STRACE = """\
4711  madvise(0x7f0000000000, 2097152, MADV_DONTNEED) = 0
4712  madvise(0x7f0000200000, 65536, MADV_DONTNEED <unfinished ...>
4711  munmap(0x7f0000400000, 4096)      = 0
4712  <... madvise resumed>)            = 0
4711  madvise(0x7f0000401000, 4096, MADV_FREE) = 0
4711  madvise(0x7f0000403001, 4096, MADV_DONTNEED) = -1 EINVAL (Invalid argument)
4711  process_madvise(3, [{iov_base=0x7f0000600000, iov_len=4096}, {iov_base=0x7f0000800000, iov_len=8192}], 2, \
MADV_DONTNEED, 0) = 12288
4711  madvise(0x7f0000405000, 4096, 0x66 /* MADV_??? */) = 0
[pid  4713] madvise(0x7f0000a00000, 4096, MADV_DONTNEED_LOCKED) = 0
4711  +++ exited with 0 +++
"""
PERF = """\
     0.000 ( 0.024 ms): worker/4712 madvise(start: 0x7f0000000000, len_in: 4194304, behavior: MADV_DONTNEED) = 0
     1.117 ( 0.020 ms): madvise(start: 0x7f0000400000, len_in: 65536, behavior: MADV_DONTNEED) = 0
     2.000 ( 0.001 ms): madvise(start: 0x7f0000400001, len_in: 65536, behavior: MADV_DONTNEED) = -1 EINVAL (Invalid)
     2.300 ( 0.010 ms): worker/4712 munmap(addr: 0x7f0000400000, len: 4096) = 0
     2.400 ( 0.010 ms): worker/4712 process_madvise(pidfd: 3, vec: 0x7ffc, vlen: 2, behavior: MADV_DONTNEED) = 12288
LOST 7 events!
"""


def calls_of(text, tool="strace"):
    calls = Calls(tool)
    for line in text.splitlines():
        calls.take(line)
    return calls


def test_releases_are_read_from_strace_with_thread_vector_and_split_calls():
    calls = calls_of(STRACE)

    assert calls.released == [
        (4711, 0x7F0000000000, 2 * MIB),
        (4712, 0x7F0000200000, 65536),
        (4711, 0x7F0000600000, 4096),
        (4711, 0x7F0000800000, 8192),
        (4713, 0x7F0000A00000, 4096),
    ]
    assert dict(calls.others) == {(4711, "munmap"): 1, (4711, "free"): 1}


def test_releases_are_read_from_perf_trace_and_what_it_does_not_show_is_counted():
    calls = calls_of(PERF, "perf")

    assert calls.released == [(4712, 0x7F0000000000, 4 * MIB), (0, 0x7F0000400000, 65536)]
    assert dict(calls.others) == {(4712, "munmap"): 1, (4712, "undecoded"): 1}
    assert calls.lost == 7


def test_a_call_covers_what_it_covers_from_end_to_end():
    calls = Calls("strace")
    calls.released = [(1, BASE + 4096, 4 * MIB), (1, BASE + 8 * MIB, 4 * MIB), (1, BASE, 4096), (2, BASE, 2 * MIB)]

    seen = judge(calls, {1}, NOTHING)
    assert (seen.calls, seen.covering, seen.covered) == (3, 2, 3)
    assert seen.covering_share == pytest.approx(2 / 3)
    assert seen.median == 4 * MIB


def test_a_slot_is_emptied_in_pieces_if_no_call_covered_it_and_no_entry_is_left():
    calls = Calls("strace")
    calls.released = [(0, BASE + slot * 2 * MIB, MIB) for slot in range(3)] + [(0, BASE + 6 * MIB, 2 * MIB)]
    left = np.array([(BASE + 4 * MIB - 4096, BASE + 4 * MIB, PRESENT)], RANGE)  # the last page of the second slot

    assert judge(calls, {0}, left).emptied == 2
    assert judge(calls, {0}, NOTHING).emptied == 3
    assert judge(Calls("strace"), {0}, NOTHING).covering_share == 0


@pytest.mark.parametrize("follow", [False, True])
def test_a_live_process_is_sampled_and_goes_on(follow):
    if not any(map(shutil.which, ("perf", "strace"))):
        pytest.skip("neither perf nor strace is installed")
    with Target() as target:
        target.do(["mmap", BASE, 16 * MIB], ["touch", BASE, 16 * MIB])
        pieces = [[BASE, 2 * MIB], [BASE + 4 * MIB, 65536], [BASE + 4 * MIB + 65536, 65536], [BASE + 8 * MIB, 4096]]
        busy = threading.Thread(target=target.do, args=(["release_for", 3, pieces],))
        busy.start()
        shares = []
        try:
            calls = sample([target.pid], 1.0, shares.append, follow)
        except SampleUnavailable as error:
            pytest.skip(str(error))
        finally:
            busy.join()
        target.do(["touch", BASE, 4096])  # it is alive, and nobody stops it

    assert set(calls.released) <= {(tid, *piece) for piece in pieces for tid in (0, target.pid)}
    seen = judge(calls, {0, target.pid}, NOTHING)
    assert seen.calls > 8
    assert seen.covering_share == pytest.approx(0.25, abs=0.01 + (1 + seen.lost) / seen.calls)
    assert shares == sorted(shares)


def test_a_process_that_is_not_there_cannot_be_sampled():
    with Target() as target:
        pid = target.pid
    with pytest.raises(SampleUnavailable, match=f"cannot sample process {pid}: "):
        sample([pid], 0.5)
