"""Progress on a pipe is a line now and then, with what is left."""

from scenarios.session import progress
from scenarios.session.progress import Progress


def test_a_line_says_how_far_it_is_and_how_long_it_takes_still(monkeypatch, capsys):
    clock = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])

    with Progress("sweep") as bar:
        for done in range(1, 5):
            clock[0] += 10
            bar.update(done / 4, "none")

    assert capsys.readouterr().err == (
        "ptelab: sweep: 25 % none, 0:30 left\n"
        "ptelab: sweep: 50 % none, 0:20 left\n"
        "ptelab: sweep: 75 % none, 0:10 left\n"
        "ptelab: sweep: 100 % none\n"
    )


def test_a_part_that_begins_anew_has_a_time_of_its_own(monkeypatch, capsys):
    clock = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])

    with Progress("sweep") as bar:
        for policy in ("none", "refcount"):
            for share in (0.0, 0.5):
                bar.update(share, policy)
                clock[0] += 10
        bar.update(0.75, "refcount")

    *_, last = capsys.readouterr().err.splitlines()
    assert last == "ptelab: sweep: 75 % refcount, 0:07 left"


def test_preparation_is_not_taken_for_the_work_it_prepares(monkeypatch, capsys):
    clock = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])

    with Progress("sweep") as bar:
        for later, share in ((60, 0.0001), (1, 0.0002), (10, 0.1002)):
            clock[0] += later
            bar.update(share)

    first, last = capsys.readouterr().err.splitlines()
    assert first == "ptelab: sweep: 0 %"
    assert last == "ptelab: sweep: 10 %, 1:30 left"


def test_what_is_over_soon_says_nothing(capsys):
    with Progress("sweep") as bar:
        bar.update(0.5)

    assert capsys.readouterr().err == ""
