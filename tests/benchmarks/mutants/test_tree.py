"""The mutants: each applies to the kernel as it is, and the kernel knows nothing of them.

Covers: benchmarks/mutants/listed, benchmarks/mutants/mutant, benchmarks/mutants/flushing, benchmarks/mutants/locking,
benchmarks/mutants/counting, benchmarks/mutants/addresses, benchmarks/mutants/contents, benchmarks/mutants/attack,
benchmarks/mutants/__main__
"""

import ast
import builtins

import pytest
from support import ROOT

from benchmarks.mutants.__main__ import chosen, equivalents, score
from benchmarks.mutants.attack import Kill
from benchmarks.mutants.listed import KINDS, MUTANTS
from benchmarks.mutants.mutant import change
from benchmarks.mutants.rewrite import DoesNotApply, functions
from benchmarks.mutants.tree import applied, kernel_files
from scenarios import stress

FILES = kernel_files()


def names_of(module):
    """The names that a module defines or imports."""
    found = set(dir(builtins))
    for node in module.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {name.asname or name.name for name in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        else:
            found |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return found


def is_kernel(node):
    """True if a function is compiled."""
    return any("kernel" in ast.unparse(one) for one in node.decorator_list)


def test_every_mutant_applies_once_and_changes_something():
    texts = applied(FILES)

    switched = "".join(texts.values())
    assert all(f"m.config.mutant[0] == {number}" in switched for number in range(1, len(MUTANTS) + 1))


def test_the_kernel_with_its_mutants_uses_names_that_its_files_have():
    unknown = []
    for text in applied(FILES).values():
        module = ast.parse(text)
        known = names_of(module)
        for node in filter(is_kernel, functions(text).values()):
            names = [one for one in ast.walk(node) if isinstance(one, ast.Name)]
            own = {one.id for one in names if isinstance(one.ctx, ast.Store)}
            own |= {one.arg for one in ast.walk(node) if isinstance(one, ast.arg)}
            unknown += [(node.name, one.id) for one in names if one.id not in known | own]

    assert unknown == []


def test_a_mutant_of_a_text_that_has_changed_is_refused_by_name():
    gone = change("gone", "spin_unlock", "smp_store_release(lock, i, 7)", "pass")

    with pytest.raises(DoesNotApply, match="gone: 0 times in spin_unlock"):
        applied(FILES, {"gone": gone})


def test_a_mutant_that_changes_nothing_is_refused():
    same = change("same", "spin_unlock", "lock_release(m, cpu, lock_class)", "lock_release(m,  cpu, lock_class)")

    with pytest.raises(DoesNotApply, match="same: spin_unlock stays as it is"):
        applied(FILES, {"same": same})


def test_mutants_are_spread_over_the_kernel_and_named_once():
    folders = {
        path.parent
        for path, text in FILES.items()
        for name in functions(text)
        if name in {mutant.function for mutant in MUTANTS.values()}
    }

    assert len(MUTANTS) == sum(map(len, KINDS.values())) >= 120
    assert {folder.name for folder in folders} >= {"cpu", "locking", "pages", "tables", "policy", "huge", "rmap_walks",
                                                  "fault", "walks", "syscalls"}  # fmt: skip


def test_the_kernel_itself_knows_no_mutant():
    assert [path for path, text in FILES.items() if "mutant" in text] == []


def test_the_score_leaves_out_what_nobody_can_notice():
    equivalent = next(name for name, mutant in MUTANTS.items() if mutant.equivalent)
    killed, survivor = [name for name, mutant in MUTANTS.items() if not mutant.equivalent][:2]
    kills = {equivalent: Kill(), killed: Kill("stress"), survivor: Kill()}

    assert score(kills, kills, ("stress",)) == (1, 2)
    assert equivalents(kills) == []
    assert equivalents({**kills, equivalent: Kill("stress")}) == [equivalent]


def test_what_stress_says_of_itself_is_what_was_judged():
    judged = (ROOT / "docs" / "judged.md").read_text()

    equivalent = sum(bool(mutant.equivalent) for mutant in MUTANTS.values())
    assert len(MUTANTS) - equivalent == stress.MUTANTS
    assert f"| all | {len(MUTANTS)} | {equivalent} | {stress.NOTICED} |" in judged
    assert f"{stress.NOTICED} were noticed, in {stress.SCORE_SECONDS} s" in stress.worth()


def test_a_sample_is_named_by_its_seed():
    assert chosen(None, "", 5, 3) == chosen(None, "", 5, 3) != chosen(None, "", 5, 4)
    assert chosen("barriers", "", 0, 0) == [mutant.name for mutant in KINDS["barriers"]]


def test_every_equivalent_mutant_says_why_in_a_sentence():
    said = [mutant for mutant in MUTANTS.values() if mutant.equivalent]

    assert said != []
    assert all(len(mutant.equivalent.split()) > 5 for mutant in said)
