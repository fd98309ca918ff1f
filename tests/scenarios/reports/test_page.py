"""The HTML report: it holds its records, escapes what it is given, and reads well in a real browser.

Covers: scenarios/report scenarios/reports/*
"""

import json
import random
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import chromium
import pytest
from command import ptelab

from scenarios.cli import command_line
from scenarios.reports.embedded import DATA_ID
from scenarios.reports.extra import ReportError, library, missing
from scenarios.reports.page import all_sections, page, plots
from scenarios.reports.reading import Run, read_runs

RECORDS = Path(__file__).with_name("records")
EVIL = "\"><script>alert(1)</script><b onload=x>&'$x_1$"
SCRIPTS = [{"type": "application/json", "id": DATA_ID}, {}]  # the data, and what steps through a story
NAMES = sorted(path.stem for path in RECORDS.glob("*.json"))


def recorded(*names):
    return [run for name in names for run in read_runs(str(RECORDS / f"{name}.json"))]


class Html(HTMLParser):
    """Tags, attributes and text of a page; raises ValueError if they are not nested."""

    VOID = ("meta", "input")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.said = [], [], [], []
        self.feed(text)
        self.close()
        if self.open:
            raise ValueError(self.open)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if self.open.pop() != tag:
            raise ValueError(tag)

    def handle_data(self, data):
        self.said.append(data)


@pytest.fixture(scope="module")
def everything():
    return page(recorded(*NAMES))


def test_the_page_holds_the_records_it_was_made_of(everything, tmp_path):
    file = tmp_path / "all.html"
    file.write_text(everything)

    assert [run.data for run in read_runs(str(file))] == [run.data for run in recorded(*NAMES)]


def test_the_page_needs_nothing_from_outside(everything):
    read = Html(everything)
    scripts = [attrs for tag, attrs in read.tags if tag == "script"]

    assert scripts == SCRIPTS
    assert not {tag for tag, _ in read.tags} & {"link", "img", "iframe", "object", "base", "image"}
    for _, attrs in read.tags:
        for name, value in attrs.items():
            assert not name.startswith("on")
            if name in ("href", "xlink:href", "src"):
                assert value.startswith("#")
    assert "@import" not in everything
    assert "prefers-color-scheme: dark" in everything


def test_every_id_of_the_page_is_there_once_and_every_reference_meets_one(everything):
    read = Html(everything)
    ids = [attrs["id"] for _, attrs in read.tags if "id" in attrs]
    references = {attrs[name][1:] for _, attrs in read.tags for name in ("href", "xlink:href") if name in attrs}

    assert len(ids) == len(set(ids))
    assert references <= set(ids)


def test_colours_of_the_plots_follow_the_page(everything):
    drawings = everything[everything.index("<article") : everything.index(f'id="{DATA_ID}"')]
    fixed = {colour for colour in ("#000000", "#ffffff", "#1b1b1f", "#0072b2") if colour in drawings}

    assert fixed == set()


def test_markup_in_names_arguments_and_comments_is_text(tmp_path):
    race, explored, replay, fault = (r.data for r in recorded("race", "explored-race", "replay-none", "multi-fault"))
    explored["rows"][0]["story"]["lines"][0] |= {"text": EVIL, "instruction": EVIL, "callers": [EVIL], "notes": [EVIL]}
    explored["rows"][0] |= {"subject": EVIL, "schedule": EVIL, "report": [EVIL]}
    explored["rows"][0]["story"]["watched"] = [{"group": EVIL, "name": EVIL, "values": [[0, EVIL], [90, f"'{EVIL}"]]}]
    race["violations"][0] |= {"saw": EVIL, "waits": [EVIL], "wait_edges": [{"who": EVIL, "for": EVIL, "by": "CPU 0"}]}
    race["violations"][0]["life"][0]["who"] = EVIL
    race["environment"]["processor_model"] = EVIL
    for row in (*replay["rows"], *fault["rows"]):
        row["policy"] = EVIL if row["policy"] == "none" else row["policy"]
        row["operation"] = EVIL
    records = [race, explored, replay, fault]
    for record in records:
        record["command"] = f"ptelab run x --json {EVIL}"
    text = page([Run(EVIL, record) for record in records])
    read = Html(text)

    assert [attrs for tag, attrs in read.tags if tag == "script"] == SCRIPTS
    assert not any(name.startswith("on") for _, attrs in read.tags for name in attrs)
    assert "".join(read.said).count(EVIL) > 15  # it is told, as it is, in tables, stories, plots and drawings
    file = tmp_path / "evil.html"
    file.write_text(text)
    assert [run.name for run in read_runs(str(file))] == [EVIL] * len(records)


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        ("multi-fault", ["Throughput", "Scaling", "Cost of a fault", "Grace periods", "Checks"]),
        ("madvise-loop", ["Page tables held", "Checks"]),
        ("replay-none", ["VmPTE over time"]),
        ("advise", ["Page tables of processes", "python3 (29585)"]),
        ("arena", ["The arena as a map", "Checks"]),
        ("campaign", ["Verdicts of the tasks"]),
        ("compare", ["What changed", "Every figure"]),
        ("explored-deadlock", ["race/pte-alloc-under-page-lock: deadlock"]),
        ("whatif", ["What if this program ran under another design", "Checks"]),
    ],
)
def test_a_record_has_the_sections_that_its_rows_can_fill(name, titles):
    found = [section.title for _, sections in all_sections(recorded(name)) for section in sections]

    assert [title for title in found if title in titles] == titles


def test_a_long_curve_is_thinned_and_keeps_its_peak():
    (run,) = recorded("replay-none")
    row = run.rows[-1]
    run.rows[:] = [{**row, "line": i, "vmpte_kb": 987_654 if i == 33_333 else 8} for i in range(50_000)]
    (_, (section,)), *_ = all_sections([run])
    (plot,) = section.plots()

    assert "987,654" in [cell for part in section.parts[1:] for row in part.rows for cell in row]
    assert len(plot.svg()) < 300_000


def test_a_race_is_told_in_columns_with_what_was_seen_marked_and_the_life_of_its_table():
    text = page(recorded("race"))
    violation = recorded("race")[0].data["violations"][0]

    assert text.count('<tr class="guilty') == 1
    assert "by CPU 0" in text
    assert f"The life of table {violation['table']}" in text
    for event in violation["life"]:
        assert f">{event['event']}" in text


def test_the_two_accesses_that_clash_are_marked_in_an_explored_story():
    lines = recorded("explored-race")[0].rows[0]["story"]["lines"]

    assert page(recorded("explored-race")).count('<tr class="guilty') == sum(line["guilty"] for line in lines) == 2


def test_a_long_story_folds_what_is_early_and_never_the_clash():
    (run,) = recorded("explored-race")
    story = run.rows[0]["story"]
    first = {**story["lines"][0], "guilty": False}
    story["lines"] = [first] * 60 + story["lines"]
    text = page([run])
    folded = re.search(r"earlier events</summary>(.*?)</table>", text, re.DOTALL)[1]

    assert "guilty" not in folded
    assert text.count('<tr class="guilty') == 2
    assert folded.count('class="when"') - 1 + 40 >= len(story["lines"]) - 10


def test_each_event_of_an_explored_story_can_be_stepped_to_and_has_the_state_of_the_machine():
    (run,) = recorded("explored-race")
    story = run.rows[0]["story"]
    read = Html(page([run]))
    steps = [int(attrs["data-step"]) for _, attrs in read.tags if "data-step" in attrs]
    values = [json.loads(attrs["data-values"]) for _, attrs in read.tags if "data-values" in attrs]
    (panel,) = (attrs for _, attrs in read.tags if attrs.get("class") == "stepper")

    assert steps == [line["step"] for line in story["lines"]]
    assert values == [row["values"] for row in story["watched"]]
    assert "hidden" in panel  # without JavaScript there is the story, as it was
    assert {row["group"] for row in story["watched"]} >= {"tables", "locks"}


def test_a_page_without_such_a_story_has_no_script():
    text = page(recorded("multi-fault", "race", "explored-deadlock"))

    assert text.count("<script") == 1


def test_a_command_that_measures_writes_its_page_and_the_page_is_a_record(tmp_path):
    html, trace = tmp_path / "out.html", tmp_path / "t.trace"
    trace.write_text("mmap 0 1G\ntouch 0 0 2M\ndontneed 0 0 2M\n")
    ran = ptelab(
        "replay", str(trace), "--engine", "semaphore", "--html", str(html), "--json", str(tmp_path / "out.json")
    )

    assert ran.returncode == 0, ran.stderr
    (run,) = read_runs(str(html))
    assert run.data == read_runs(str(tmp_path / "out.json"))[0].data
    assert "VmPTE over time" in html.read_text()


def test_a_page_that_cannot_be_written_is_said_before_the_run(monkeypatch, tmp_path, capsys):
    assert command_line(["replay", "missing.trace", "--html", str(tmp_path / "no" / "x.html")]) == 2
    assert "cannot write" in capsys.readouterr().err
    monkeypatch.setattr("scenarios.session.record.missing", lambda: missing(("no_such_library",)))
    assert command_line(["replay", "missing.trace", "--html", str(tmp_path / "x.html")]) == 2
    assert "--html: this needs no_such_library of the extra 'report'" in capsys.readouterr().err


def test_a_deadlock_is_drawn_with_an_arrow_for_each_edge():
    (run,) = recorded("deadlock")
    edges = run.data["violations"][0]["wait_edges"]

    assert {(edge["who"], edge["by"]) for edge in edges} == {("CPU 0", "CPU 1"), ("CPU 1", "CPU 0")}
    assert page([run]).count('marker-end="url(#') == len(edges)


def test_plots_are_written_as_files(tmp_path, capsys):
    twice = [str(RECORDS / "madvise-loop.json")] * 2
    status = command_line(["report", str(RECORDS / "multi-fault.json"), *twice, "--png", str(tmp_path / "plots")])

    written = [Path(line) for line in capsys.readouterr().out.split()]
    assert status == 0
    named = [plot.name for plot in plots(recorded("multi-fault"))]
    assert [file.stem for file in written] == [*named, "held", "held-2"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in written)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON"),
        ("[1]", "is not a record"),
        ("7", "no object"),
        ("{}", "no 'schema'"),
        ('{"schema": 2, "scenario": "x", "command": "x", "environment": {}, "rows": [], "verdict": "x"}', "schema 2"),
        ("<p>hello", "no report of ptelab"),
        ("\udcff", "not text"),
    ],
)
def test_what_is_no_record_is_one_line(text, said, tmp_path, capsys):
    file = tmp_path / "x.json"
    file.write_bytes(text.encode(errors="surrogateescape"))

    assert command_line(["report", str(file), "-o", str(tmp_path / "out.html")]) == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1
    assert not (tmp_path / "out.html").exists()


def damaged(draw, value):
    """A record with one thing in it gone or of another kind."""
    inner = value.values() if isinstance(value, dict) else value
    deeper = [one for one in inner if isinstance(one, dict | list) and one]
    if deeper and draw.random() < 0.8:
        return damaged(draw, draw.choice(deeper))
    at = draw.choice(list(value)) if isinstance(value, dict) else draw.randrange(len(value))
    if draw.random() < 0.4:
        del value[at]
    else:
        value[at] = draw.choice([None, -1, 1e400, "x", [], {}, [[]], True, "\ud800"])
    return None


@pytest.mark.parametrize("name", ["race", "deadlock", "explored-race", "replay-none"])
def test_a_record_that_somebody_changed_is_drawn_or_refused_in_one_line(name, tmp_path, capsys):
    draw = random.Random(name)
    text = (RECORDS / f"{name}.json").read_text()
    file, statuses = tmp_path / "x.json", set()
    for _ in range(60):
        data = json.loads(text)
        damaged(draw, data)
        file.write_text(json.dumps(data))
        arguments = ["--perfetto", str(tmp_path / "x.pftrace")]
        if name == "explored-race":
            arguments += ["-o", str(tmp_path / "x.html")]
        statuses.add(status := command_line(["report", str(file), *arguments]))
        assert status in (0, 2)
        assert capsys.readouterr().err.count("\n") == (status == 2)
    assert statuses == {0, 2}


def test_without_the_extra_it_says_in_one_line_how_to_get_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    assert command_line(["report", str(RECORDS / "multi-fault.json"), "-o", str(tmp_path / "out.html")]) == 2
    complaint = capsys.readouterr().err
    assert "pip install 'ptelab[report]'" in complaint
    assert complaint.count("\n") == 1
    with pytest.raises(ReportError):
        library("no_such_library_of_anybody")


def test_the_help_of_the_command_imports_no_library_of_the_extra():
    ran = ptelab("report", "--help")

    assert ran.returncode == 0, ran.stderr


in_a_browser = pytest.mark.skipif(
    chromium.browser() is None, reason="no Chromium is installed (apt-get install chromium)"
)


def test_a_comparison_shows_both_sides_and_what_the_rounds_show():
    (run,) = recorded("compare")
    told, every = all_sections([run])[0][1]
    worse = next(row for row in run.rows if row["judgement"] == "worse")

    said = Html(page([run])).said
    assert {worse["figure"], "worse", "n.s."} <= {text.strip() for text in said}
    assert every.folded
    assert len(told.parts[1].rows) < len(every.parts[0].rows)
    assert [line[2] for line in told.parts[1].rows if line[0] == worse["figure"]] == [
        f"{worse['change_percent']:+.{1 if abs(worse['change_percent']) < 1000 else 0}f}%"
    ]
    assert [plot.name for plot in told.plots()] == ["compare"]


def test_the_history_of_a_race_keeps_its_columns():
    (run,) = recorded("explored-race")
    run.data["about"] = "A sentence.\n\nCPU 0   CPU 1\n=====   =====\nasks\n        waits"

    text = page([run])
    assert "<p>A sentence.</p>" in text
    assert '<pre class="columns">CPU 0   CPU 1\n=====   =====\nasks\n        waits</pre>' in text


@in_a_browser
def test_a_page_that_complains_or_asks_the_network_or_runs_out_of_its_window_is_seen(tmp_path):
    wide = '<svg style="width: 900px"></svg>'
    asks = '<img src="http://example.invalid/x.png"><script>console.error("no")</script>'
    seen = chromium.look(f"<html><body>{wide}{asks}</body></html>", "bad-page", 500, 400, tmp_path)

    assert seen.requests == ["http://example.invalid/x.png"]
    assert seen.complaints != []
    assert seen.probe["page"] > seen.probe["width"] == 500


@in_a_browser
@pytest.mark.parametrize(("width", "dark"), [(400, True), (1600, False)])
def test_a_browser_shows_every_section_at_this_width(everything, width, dark, tmp_path):
    seen = chromium.look(everything, f"report-{width}", width, 9000, tmp_path, dark)

    assert seen.complaints == []
    assert seen.requests == []
    assert seen.probe["width"] == width
    assert seen.probe["page"] <= width, "the page is broader than its window"
    assert seen.probe["dark"] is dark
    plot_count, drawings = len(plots(recorded(*NAMES))), everything.count('class="drawing"')
    assert len(seen.probe["svgs"]) == plot_count + drawings, "of the two sizes of a plot one is shown"
    assert all(w >= 300 and h >= 80 and w <= width for w, h in seen.probe["svgs"])
    for word in ("Throughput", "VmPTE over time", "count-saturated", "pmd_install", "cover letter", "CPU 1"):
        assert word in seen.probe["text"]
    assert seen.probe["ground"] == ("rgb(23, 23, 27)" if dark else "rgb(253, 253, 254)")
    assert seen.shot.stat().st_size > 10_000


def pressed(*keys):
    """A script that presses keys when the page is there."""
    events = "".join(
        f"document.body.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}}));" for key in keys
    )
    return f"addEventListener('load', () => {{ {events} }});"


@in_a_browser
@pytest.mark.parametrize(("width", "dark"), [(400, True), (1600, False)])
def test_keys_step_through_a_schedule_and_show_the_state_of_that_step(width, dark, tmp_path):
    text = page(recorded("explored-race"))
    lines = recorded("explored-race")[0].rows[0]["story"]["lines"]
    at = next(i for i, line in enumerate(lines) if line["guilty"])
    seen = [
        chromium.look(text, f"steps-{width}", width, 900, tmp_path, dark, pressed(*keys))
        for keys in (("End",), ("c", "ArrowLeft", "ArrowRight"))
    ]

    assert all(one.complaints == one.requests == [] and one.probe["page"] <= width for one in seen)
    assert f"Event {len(lines)} of {len(lines)}" in seen[0].probe["text"]
    assert "0x6b6b6b6c" in seen[0].probe["text"].partition("locks")[0].rpartition("count of table")[2]
    assert f"Event {at + 1} of {len(lines)}, step {lines[at]['step']}" in seen[1].probe["text"]
    assert "(clashes)" in seen[1].probe["text"]
