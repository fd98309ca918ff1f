"""What a kernel's `Locking:` line says of its caller is asked when the kernel begins, wherever it can be asked."""

import ast
import re

import pytest
from support import ROOT

# what a line says, the arguments by which it can be asked, and how the question begins
ASKED = {
    r"\bhold (\w+ )?mmap_lock(?!.* or )": ({"cpu", "mm"}, "mmap_assert_"),
    r"\bhold (the )?ptl(?!.* or )": ({"cpu", "pte"}, "assert_ptl_held"),
    r"\bhold pmd_lock(?!.* or )": ({"cpu", "pmd"}, "assert_ptl_held"),
    r"\bno spinlock": ({"cpu"}, "might_sleep"),
    r"\boutside of rcu_read_lock": ({"cpu"}, "rcu_assert_not_held|might_sleep"),
    r"\binterrupts off": ({"cpu"}, "lockdep_assert_irqs_disabled"),
    r"\b(an open gather|a gather open)(?! if|, where)": ({"cpu"}, "assert_gather_open"),
}
LOCKS = ("_lock", "_unlock", "_downgrade")  # they take or release what the line is about


def kernels_with_a_line():
    """Name, arguments, body as text, and what the line says the caller must do."""
    for path in sorted((ROOT / "emulator").rglob("*.py")):
        text = path.read_text()
        for node in ast.parse(text).body:
            line = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
            must = re.search(r"Locking:[^;.]*?caller must (.*?)(?:\.|;|:|$)", " ".join((line or "").split()))
            if must and not node.name.endswith(LOCKS):
                yield node.name, {arg.arg for arg in node.args.args}, ast.get_source_segment(text, node), must[1]


def missing(pattern):
    """Kernels whose line says it and that do not ask; how many say it."""
    arguments, question = ASKED[pattern]
    says = [one for one in kernels_with_a_line() if arguments <= one[1] and re.search(pattern, one[3])]
    return [name for name, _, body, _ in says if not re.search(question, body)], len(says)


@pytest.mark.parametrize("pattern", ASKED)
def test_what_the_locking_line_says_is_asked(pattern):
    unasked, count = missing(pattern)

    assert unasked == []
    assert count > 0
