"""A plan is read as its commands would be: lists are multiplied, a mistake is one line that says what fits."""

import pytest
from command import ptelab as run_ptelab

from scenarios import cli
from scenarios.campaign.plan import read_plan
from scenarios.session.errors import UserError

STRESS = '[[run]]\nscenario = "stress"\n'


def plan(folder, text, processors=2):
    """The tasks of a plan with this text."""
    (folder / "plan.toml").write_text(text)
    return read_plan(str(folder / "plan.toml"), cli.ptelab, processors)


def commands(tasks):
    return [task.command for task in tasks]


def test_lists_are_multiplied_in_the_order_of_the_keys(tmp_path):
    tasks = plan(tmp_path, STRESS + 'policy = ["none", "none-rcu,refcount"]\nseed = "8-9"\nperturb = 64\n')

    assert commands(tasks) == [
        f"ptelab run stress --policy {policy} --seed {seed} --perturb 64"
        for policy in ("none", "none-rcu,refcount")
        for seed in (8, 9)
    ]
    assert [(task.seed, task.policy, task.subject) for task in tasks[:2]] == [
        (8, "none", "stress"),
        (9, "none", "stress"),
    ]


def test_seeds_races_policies_workloads_soak_parts_and_litmus_files_can_be_planned(tmp_path):
    (tmp_path / "a.jsonl").write_text("")
    (tmp_path / "b.jsonl").write_text("")
    text = """
[[run]]
scenario = ["race/no-flush", "race/*-unlocked"]
[[explore]]
name = "claim/zero-*"
bound = [0, 1]
fixed = false
data-races = false
[[arena]]
workload = ["sweep", "fork"]
policy = "refcount*"
[[soak]]
seed = "0-1"
faults = 1e8
[[litmus]]
files = "*.jsonl"
memory = ["sc", "tso"]
"""
    made = commands(plan(tmp_path, text))

    assert {"ptelab run race/no-flush", "ptelab run race/retract-unlocked", "ptelab run race/lookup-unlocked"} <= {
        *made
    }
    assert "ptelab explore claim/zero-is-absorbing --bound 1 --no-data-races" in made
    assert "ptelab arena --workload fork --policy refcount-rcu" in made
    assert "ptelab soak --seed 1 --faults 1e+08" in made
    assert f"ptelab litmus {tmp_path / 'b.jsonl'} --memory tso" in made
    assert len(made) == len(set(made))


def test_mutants_are_commands_of_a_clone(tmp_path):
    (task,) = plan(tmp_path, '[[mutants]]\nonly = "no-mb-reader"\nseconds = 1\n')

    assert (task.command, task.module) == (
        "python -m benchmarks.mutants --only no-mb-reader --seconds 1",
        "benchmarks.mutants",
    )


def test_a_task_has_a_limit_and_processors_fewer_where_no_processes_race(tmp_path):
    text = '[[explore]]\nname = "claim/two-installs"\n[[run]]\nscenario = "stress"\n'
    own = text + "limit = 7.5\nprocessors = 3\n"

    assert [(task.limit, task.processors) for task in plan(tmp_path, text)] == [(600, 1), (600, 2)]
    assert [task.processors for task in plan(tmp_path, text, processors=1)] == [1, 1]
    assert [(task.limit, task.processors) for task in plan(tmp_path, own)] == [(600, 1), (7.5, 3)]


def test_what_is_planned_twice_is_run_once(tmp_path):
    assert len(plan(tmp_path, STRESS + 'seed = "0-1"\n' + STRESS + "seed = [1, 2]\n")) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no table; known: [[run]], [[explore]]"),
        ("[[run]\n", "is not TOML: Expected"),
        ("[[rum]]\n", "unknown table 'rum'; known: run, explore"),
        ("run = 1\n", "run is no table; known: [[run]]"),
        ("[[run]]\n", "[[run]] 1: no scenario given; known: multi-fault, "),
        ('[[run]]\nscenario = "stres"\n', "[[run]] 1: unknown scenario 'stres'; did you mean stress? known: "),
        ('[[run]]\nscenario = "race/*x"\n', "[[run]] 1: unknown scenario 'race/*x'; known: "),
        (STRESS + "polcy = 1\n", "[[run]] 1: unknown key 'polcy'; did you mean policy? known: cpus, mms"),
        (STRESS + 'json = "x"\n', "[[run]] 1: unknown key 'json'; known: "),
        (STRESS + 'policy = ["none", "nine"]\n', "[[run]] 1: unknown policy 'nine'; did you mean none? known: "),
        (STRESS + 'policy = "nine*"\n', "[[run]] 1: unknown policy 'nine*'; "),
        (STRESS + "cpus = [2, 1000]\n", "[[run]] 1: --cpus '1000' is out of range; known: a whole number from 1"),
        (STRESS + 'seed = "9-0"\n', "[[run]] 1: seed '9-0' is no range; known: FIRST-LAST, as 0-99"),
        (STRESS + 'seed = "0-99999999"\n', "seed '0-99999999' is no range; known: FIRST-LAST, as 0-99, of at"),
        (STRESS + "seed = '0-999999'\ncpus = [1, 2]\n", "[[run]] 1: 2,000,000 tasks; known: at most 1,000,000 in a"),
        ("run = " + "[" * 99_999, "is not TOML that can be read: it is nested too deep"),
        ("#" * ((16 << 20) + 1), "is no plan: it is larger than 16 MiB"),
        (STRESS + "seed = []\n", "[[run]] 1: seed is an empty list; known: one value at least"),
        (STRESS + "seed = true\n", "[[run]] 1: seed = True; known: a value"),
        (STRESS + "cpus = {a = 1}\n", "[[run]] 1: cpus = {'a': 1} is no value; known: a number, a text, true"),
        (STRESS + "limit = 0\n", "[[run]] 1: limit 0 is out of range; known: a number from 0.1 to 1e+07"),
        (STRESS + "processors = 1.5\n", "[[run]] 1: processors 1.5 is out of range; known: a whole number from 1"),
        (STRESS + "shards = 9\n", "[[run]] 1: unknown key 'shards'"),
        ('[[explore]]\nname = "race/no-flush"\nmemory = ["sc", "tso"]\nshards = 9\n', "in shards is of memory sc"),
        ('[[explore]]\nname = "race/no-flush"\nshards = 0\n', "shards 0 is out of range; known: a whole number from 1"),
        ("[[soak]]\n" + STRESS + "x = 1\n", "[[run]] 1: unknown key 'x'"),
        ("[[explore]]\n", "[[explore]] 1: no name given; known: ptelab explore --help"),
        ('[[explore]]\nname = "race/no-flus"\n', "unknown name 'race/no-flus'; did you mean race/no-flush"),
        ('[[explore]]\nname = "race/no-flush"\nfixed = 1\n', "[[explore]] 1: fixed = 1; known: true or false"),
        ('[[litmus]]\nfiles = "*.none"\n', "*.none; known: files by their way from the plan's folder"),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_is_one_line_which_says_what_fits(tmp_path, text, said):
    with pytest.raises(UserError) as error:
        plan(tmp_path, text)

    assert said in str(error.value)
    assert str(tmp_path / "plan.toml") in str(error.value)
    assert "\n" not in str(error.value)


def test_reading_a_plan_leaves_how_the_campaign_is_shown(tmp_path):
    from scenarios.session.style import Style, style, styled

    with styled(Style("markdown", 72)):
        plan(tmp_path, STRESS)
        assert style() == Style("markdown", 72)


def test_list_prints_the_commands_and_the_command_refuses_a_bad_plan_with_status_2(tmp_path):
    (tmp_path / "good.toml").write_text(STRESS + 'seed = "0-2"\n')
    (tmp_path / "bad.toml").write_text(STRESS + "sed = 1\n")

    listed = run_ptelab("campaign", str(tmp_path / "good.toml"), "--list")
    bad = run_ptelab("campaign", str(tmp_path / "bad.toml"))
    absent = run_ptelab("campaign", str(tmp_path / "absent.toml"))

    assert listed.stdout.splitlines() == [f"ptelab run stress --seed {seed}" for seed in range(3)]
    assert (bad.returncode, bad.stdout, bad.stderr.count("\n")) == (2, "", 1)
    assert bad.stderr.startswith(f"ptelab: {tmp_path / 'bad.toml'}, [[run]] 1: unknown key 'sed'; did you mean seed?")
    assert absent.stderr == f"ptelab: cannot read {tmp_path / 'absent.toml'}: No such file or directory\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.toml", "good.toml"]
