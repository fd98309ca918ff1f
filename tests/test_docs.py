"""What the documents list is what the code has, their links lead somewhere, and their sentences are short."""

import ast
import re
from dataclasses import fields

import pytest
from support import ROOT

from emulator.checks import CHECKS
from emulator.knobs import KNOBS, SETTINGS
from emulator.policy.policies import POLICIES
from emulator.watch.bugs import Bug
from emulator.watch.paths import PATHS
from scenarios.proofs.claims import CLAIMS
from scenarios.zoo.race import RACES, load_race
from scenarios.zoo.tables import written
from workers.telling.violation import Event, Participant, Violation

DETECTORS = {bug.detector for bug in Bug if bug != Bug.NONE}


def tables(document):
    """The tables of a document: heading of the first column -> rows of cells."""
    found, rows = {}, []
    for line in (ROOT / "docs" / document).read_text().splitlines():
        if not line.startswith("|"):
            rows = []
            continue
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not rows:
            found.setdefault(tuple(cells)[:2], rows)
        rows.append(cells)
    return {heading: rows[2:] for heading, rows in found.items()}


def names(text):
    """What stands in backticks."""
    return re.findall(r"`([\w/-]+)`", text)


def names_of_code(text):
    """File and function of `file.py:function`."""
    return re.fullmatch(r"`(\w+\.py):(\w+)`", text).groups()


def source(file):
    """The text of a file of the emulator."""
    (path,) = (ROOT / "emulator").rglob(file)
    return path.read_text()


def test_the_tables_of_the_zoo_are_as_the_code_has_them():
    document = (ROOT / "docs" / "races.md").read_text()

    assert written(document) == document, "ptelab races --tables docs/races.md writes them"


def test_every_race_that_needs_a_policy_or_setting_says_why():
    for race in map(load_race, RACES):
        needs = race.policy != "refcount" or bool(race.settings)
        assert needs == bool(race.why), race.name
        assert set(race.settings) <= set(SETTINGS), race.name


def test_every_detector_is_explained():
    listed = [names(row[0])[0] for row in tables("checks.md")["detector", "condition"] if row[0]]

    assert sorted(listed) == sorted(DETECTORS)


def test_every_check_of_an_audit_is_explained():
    assert [names(row[0])[0] for row in tables("checks.md")["check", "sentence"]] == list(CHECKS)


def test_every_design_that_is_not_linux_or_v1_has_a_claim_and_a_race_of_its_own():
    ours = {name for name in POLICIES if not re.match(r"none|refcount(?!-transfer)|pt-reclaim", name)}
    as_posted = {"two-counter": ["free-ptes-at-once"]}  # the knob makes the repaired one what was posted
    listed = tables("policies.md")["policy", "audit, beside that of all"]

    assert {names(row[0])[0] for row in listed} == ours
    for policy, audit, claims, races in listed:
        name = names(policy)[0]
        assert names(audit) == list(POLICIES[name].invariants)
        assert names(claims) == [claim for claim, of in CLAIMS.items() if of.policy == name] != []
        assert names(races) == as_posted.get(name, [race for race in RACES if load_race(race).policy == name]) != []


def test_a_race_of_the_designs_that_is_said_to_be_here_is():
    listed = [name for row in tables("policies.md")["race", "here"] for name in names(row[1])]

    assert {name for name in listed if "-" in name} <= {*RACES, *KNOBS}
    for number in ("D12", "D13", "D14", "D15", *(f"H{n}" for n in range(30, 43)), "R-epoch", "R-zero-delta", "R-bias"):
        assert any(re.search(rf"\b{number}\b", row[0]) for row in tables("policies.md")["race", "here"]), number


def test_every_field_of_a_violation_is_explained():
    listed = tables("json.md")
    for heading, record in (("violation", Violation), ("participant", Participant), ("event", Event)):
        explained = [names(row[0])[0] for row in listed[heading, "type, unit"]]
        assert explained == [field.name for field in fields(record)]


PATH_TABLE = ("path", "class")


def test_every_path_has_its_row_in_the_protocol_and_is_counted_in_the_function_the_row_names():
    rows = tables("paths.md")[PATH_TABLE]

    assert tuple(row[0] for row in rows) == PATHS
    for path, *_, where, _ in rows:
        file, function = names_of_code(where)
        constant = re.search(rf'^(\w+) = path_number\("{re.escape(path)}"\)$', source(file), re.MULTILINE)
        assert constant is not None, path
        body = re.search(rf"^def {function}\(.*?(?=^\S|\Z)", source(file), re.DOTALL | re.MULTILINE)
        assert body is not None, path
        assert f"took(m, cpu, {constant[1]})" in body[0], path


def test_every_path_is_shown_by_a_race_a_claim_or_a_test_file():
    shown = [(row[0], names(row[-1])) for row in tables("paths.md")[PATH_TABLE]]

    known = {*RACES, *CLAIMS, *(test.stem for test in (ROOT / "tests").rglob("test_*.py"))}
    assert [(path, by) for path, by in shown if not by or not set(by) <= known] == []
    assert {row[1] for row in tables("paths.md")[PATH_TABLE]} == {"full", "semi", "hw", "alone", "-"}


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchors(document):
    """What can be linked to in a document: its headings, as GitHub names them."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_leads_to_a_file_and_to_a_heading_of_it():
    dead = []
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", document.read_text()):
            file, _, anchor = target.partition("#")
            there = document.parent / file if file else document
            if not there.exists() or (anchor and anchor not in anchors(there)):
                dead.append(f"{document.name}: {target}")

    assert dead == []


def prose(text):
    """The sentences of a document, and the cells of its tables, without code, links and comments."""
    text = re.sub(r"^```.*?^```$|<!--.*?-->", "\n", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`]*`", "CODE", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)|\*+", r"\1", text)
    text = re.sub(r"^(?:    |#|!).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\s*(?:[-*]|\d+\\?\.) |^\|", "\n\n", text, flags=re.MULTILINE)
    paragraphs = [" ".join(one.split()) for one in text.split("\n\n")]
    sentences = [one for text in paragraphs if " | " not in text for one in re.split(r"(?<=[.!?])[\"')]*\s", text)]
    return sentences, [cell for text in paragraphs if " | " in text for cell in text.split(" | ")]


LONGEST = 25  # words


def too_long(sentences):
    """The sentences that are too long."""
    return [one for one in sentences if len([word for word in one.split() if re.search(r"\w", word)]) > LONGEST]


def with_who(texts):
    """The texts with a clause that begins with "who"."""
    return [one for one in texts if re.search(r"\bwho(?:m?ever|m)?\b", one, re.IGNORECASE)]


def clumsy(text):
    """What is not plain English in a document and its tables."""
    sentences, cells = prose(text)
    return too_long(sentences) + with_who([*sentences, *cells])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_documents_are_plain_english(document):
    assert clumsy(document.read_text()) == []


def test_what_is_not_plain_english_is_seen():
    words = " ".join(["word"] * (LONGEST - 1))

    assert clumsy(f"A {words}. B {words}.\n\n- A `code with blanks` {words}") == [f"A CODE {words}"]
    assert clumsy("| a | b |\n|---|---|\n| who asks | c |\n") == ["who asks"]
    assert clumsy("That is so. Who looks, waits.\n\n# Who looks\n\n    who\n") == ["Who looks, waits."]


# --- what public names say of themselves ----------------------------------------------------------------------------

SAYING = sorted(
    path for top in ("benchmarks", "emulator", "ptelab", "scenarios", "workers") for path in (ROOT / top).rglob("*.py")
)


def clumsy_docstring(docstring):
    """What is not plain English in a docstring; commands, drawings in columns and sources are no sentences."""
    paragraphs, sentences = [], []
    for paragraph in re.split(r"\n\s*\n", docstring):
        drawn = re.search(r"^ {4}|^ *=+( +=+)*$|^python -m ", paragraph, re.MULTILINE)
        text = re.sub(r"`[^`]*`", "CODE", " ".join(paragraph.split()))
        paragraphs.append(text)
        if not drawn and not text.startswith("Source:"):
            sentences += re.split(r"(?<=[.!?])[\"')]*\s", text)
    return too_long(sentences) + with_who(paragraphs)


def docstrings(path):
    """What a file, its classes and its functions say of themselves, those that begin with an underscore excepted."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            if not getattr(node, "name", "").startswith("_"):
                yield ast.get_docstring(node) or ""


def test_docstrings_are_plain_english():
    found = {
        str(path.relative_to(ROOT)): [one for text in docstrings(path) for one in clumsy_docstring(text)]
        for path in SAYING
    }

    assert {path: clumsy for path, clumsy in found.items() if clumsy} == {}


def test_what_is_not_plain_english_in_a_docstring_is_seen():
    words = " ".join(["word"] * LONGEST)

    assert clumsy_docstring(f"Short.\n\nThe {words}. Short.\n\nSource: {words} {words}.\n\n    {words} {words}") == [
        f"The {words}."
    ]
    assert clumsy_docstring(f"The {words.replace(' ', ' `two words` ', 1)}.") != []
    assert clumsy_docstring(f"A.\n\nCPU 0   CPU 1\n=====   =====\n{words} {words}") == []
    assert clumsy_docstring("Of `who` and `whom`.") == []
    assert clumsy_docstring("A.\n\nCPU 0     CPU 1\n=====     =====\nwho asks  waits") == [
        "CPU 0 CPU 1 ===== ===== who asks waits"
    ]
