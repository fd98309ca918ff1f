"""A switch in the text: as it was while the word is 0, and one mutant at a time otherwise."""

from types import SimpleNamespace

import pytest

from benchmarks.mutants.mutant import change
from benchmarks.mutants.rewrite import given_the_machine, rewritten

TEXT = '''
def climb(m, start, end):
    """Text that stays."""
    done = 0
    while start < end:
        if start % 2 == 0:
            done += start
        else:
            done -= 1
        start += 1
    m.log.append("end")
    return done
'''
MUTANTS = [
    change("one-short", "climb", "start < end", "start + 1 < end"),
    change("odd", "climb", "start % 2 == 0", "start % 2 == 1"),
    change("twice", "climb", "done += start", "done += 2 * start"),
    change("never", "climb", "            done -= 1\n", "            pass\n"),
    change("unsaid", "climb", '    m.log.append("end")\n', ""),
    change("order", "climb", '    m.log.append("end")\n    return done', '    m.log.append("no")\n    return -done'),
    change("two-places", "climb", "done = 0", "done = 100", "start += 1", "start += 3"),
]


def run(text, number):
    """What `climb` returns and logs under a mutant."""
    m = SimpleNamespace(config=SimpleNamespace(mutant=[number]), log=[])
    scope = {}
    exec(text, scope)
    return scope["climb"](m, 0, 6), m.log


def changed_by_hand(mutant):
    text = TEXT
    for old, new in mutant.edits:
        text = text.replace(old, new)
    return text


def test_without_a_mutant_the_function_is_as_it_was():
    assert run(rewritten(TEXT, enumerate(MUTANTS, 1)), 0) == run(TEXT, 0)


@pytest.mark.parametrize("number", range(1, len(MUTANTS) + 1))
def test_a_mutant_is_its_changed_text_beside_all_others(number):
    together = rewritten(TEXT, enumerate(MUTANTS, 1))

    assert run(together, number) == run(changed_by_hand(MUTANTS[number - 1]), 0) != run(TEXT, 0)


def test_a_switch_stands_as_deep_as_the_change():
    text = rewritten(TEXT, [(3, MUTANTS[2])])

    assert text.count("while") == 1
    assert text.count("done -= 1") == 1


def test_a_helper_is_given_the_machine_where_it_is_defined_and_called():
    text = "def helper(a):\n    return a\n\n\ndef user(m, a):\n    return helper(a) + helper(helper(a))\n"

    given = given_the_machine(text, ["helper"])

    assert given.count("helper(m, ") == 4
    assert given_the_machine(given, ["helper"]) == given
