"""The reference of the trace language says what the parser takes, and docs/traces.md and the command say the same.

Covers: scenarios/traces/verbs
"""

from __future__ import annotations

import pytest
from command import ptelab
from support import ROOT

from scenarios.traces.reference import BEGIN, END, OPERANDS, WIDTH, numbers, reference
from scenarios.traces.trace import TraceError, parse_text
from scenarios.traces.verbs import DANGEROUS, VERBS, WORDS

SAMPLES = {"ID": "0", "DSTID": "1", "K": "1", "N": "0", "PAGE": "0", "NUMBER": "4", "BYTE": "1", "ON": "1"}


def sample(verb):
    """The operands of a verb, each with a value."""
    return [SAMPLES.get(name, next(iter(WORDS[name])) if name in WORDS else "4K") for name in verb.operands]


def test_the_page_has_the_reference():
    text = (ROOT / "docs" / "traces.md").read_text()

    assert text.partition(BEGIN)[2].partition(END)[0] == f"\n\n```\n{reference()}```\n\n"


def test_the_command_prints_it():
    result = ptelab("help", "traces")

    assert (result.returncode, result.stdout) == (0, reference())


def test_no_line_is_wider_than_a_terminal():
    for width in (60, 72, WIDTH):
        assert max(map(len, reference(width).splitlines())) <= width


@pytest.mark.parametrize("name", [name for name in VERBS if name not in ("in", "on", "forkdo")])
def test_a_verb_takes_the_operands_that_the_reference_names_and_no_more(name):
    operands = sample(VERBS[name])
    before = [] if name == "file" else ["file 0 1M"]

    parse_text([*before, " ".join([name, *operands])])
    parse_text([*before, " ".join([name, *operands[: VERBS[name].required]])])
    with pytest.raises(TraceError, match=f"'{name}' takes "):
        parse_text([*before, " ".join([name, *operands, "4K"])])


def test_every_operand_is_explained():
    assert {name for verb in VERBS.values() for name in verb.operands} <= {*OPERANDS, *numbers(), *WORDS}


@pytest.mark.parametrize("advice", DANGEROUS)
def test_advice_that_takes_memory_from_the_machine_is_refused(advice):
    with pytest.raises(TraceError, match="takes memory away from the whole machine"):
        parse_text([f"adv 0 0 4K {advice}"])


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (["mf 0 4K 0 rw shared 3 0"], "there is no file 3; known: none; `file N SIZE` makes one"),
        (["file 1 4K", "trunc 2 4K"], "there is no file 2; known: 1"),
        (["file 1 4K", "file 1 8K"], "file 1 is there already"),
        (["mr 0 0 4K 4K may,fixed 1"], "'mr' takes ID OFF OLD NEW MOVEFLAGS \\[DSTID DSTOFF\\], not 6 operands"),
        (["mr 0 0 4K 4K maybe"], "MOVEFLAGS 'maybe' is no word for it; known: 0, may, fixed, keep"),
        (["mm 0 4K 0 rw hugetlb"], "MAPFLAGS 'hugetlb' is no word for it"),
        (["in 1 in 2 mark"], "'in' takes K OPERATION, not '1 in 2 mark'"),
        (["in 1"], "'in' takes K OPERATION, not '1'"),
        (["in 0 mark"], "K '0' is out of range; known: 1 to 63"),
        (["fork 64"], "K '64' is out of range"),
        (["put 0 0 4K 256"], "BYTE '256' is out of range; known: 1 to 255"),
        (["dontneed 0 0 0x10000000000000000"], "LEN '0x10000000000000000' has more than 64 bits"),
        (["mremap @ 4K"], "ID '@' is not a number"),
        (["touch @ 0x800000000001 4K"], "OFF '0x800000000001' does not fit into user space"),
        (["uffd 0 0 4K minor"], "FOR 'minor' is no word for it; known: missing, wp"),
    ],
)
def test_a_bad_line_is_refused_by_name(lines, what):
    with pytest.raises(TraceError, match=what):
        parse_text(lines)
