"""Random programs of every instruction race on real processes, and nothing is found: no detector, no check.

The short forms run with the other tests. Those marked stress are longer, STRESS times over; a failure says which
command runs the same programs again.

Covers: emulator/program/insn, emulator/watch/paths
"""

import json

import pytest
from command import ptelab
from support import FAMILIES, STRESS, at_rest, geometry_for, in_engine, stress, stress_each, taken

from emulator.policy.policies import FAMILIES as FAMILY_BITS
from emulator.policy.policies import POLICIES
from emulator.uapi import MADV_POPULATE_READ
from emulator.watch.paths import PATHS
from scenarios import stress as scenario
from scenarios.session.options import Lab
from scenarios.stress import SIGNALS, SOUND, Setup, failures
from scenarios.zoo.race import BASE, PAGE
from workers.instruments import Instruments, Stop
from workers.programs.program import STOP, advise, barrier, dontneed, jump, migrate, mmap, touch
from workers.programs.random_programs import random_workload

LENGTH = 3000 * STRESS
SHAPES = [(2, 1), (3, 1), (4, 2), (8, 1), (8, 3), (16, 1), (16, 3)]  # CPUs, mms
DELAYED = [(2, 1, 0), (2, 1, 8), (3, 1, 64), (4, 2, 0), (4, 2, 8), (8, 1, 64), (8, 3, 8), (16, 1, 0), (16, 3, 64)]


def told(found):
    return "\n".join(["", *found])


@pytest.mark.parametrize("policy", SOUND)
@pytest.mark.parametrize(("cpus", "mms", "perturb"), [(2, 1, 0), (4, 2, 64), (8, 1, 8)])
def test_random_programs_raise_no_alarm(policy, cpus, mms, perturb):
    found = stress(policy, (cpus, mms, 500), 1, perturb=perturb)

    assert not found, told(found)


def test_random_programs_leave_a_sound_machine_in_the_plain_build():
    policies = [name for name, policy in POLICIES.items() if not policy.families]  # those of every plain build

    found = in_engine("native", stress_each, policies, [(3, 1, 500)], 2, build="plain")

    assert not found, told(found)


@pytest.mark.parametrize("build", ["plain", pytest.param("debug", marks=pytest.mark.stress)])
def test_random_programs_race_soundly_on_the_semaphore_engine(build):
    checks = "online" if build == "debug" else "audit"

    found = in_engine("semaphore", stress_each, SOUND, [(4, 2, 30)], 3, checks, build=build)

    assert not found, told(found)


BY_TIME = {"scan for empty tables"}  # after 100 ms: tests/emulator/policy/test_async_scan.py
# Paths of a moment's meeting: random programs come to them by luck, these where one CPU stands still for a while.
MEETINGS = {
    "fault, table dying": (dontneed(BASE, PAGE), "free_pte_table.zero"),
    "wait for a migration entry": (migrate(BASE), "migrate.unmapped"),
}


def test_random_programs_take_every_path():
    runs = 0
    own = (
        "async-scan",
        "pmap-mutex",
        "percpu-ref",
        "htable",
        "xnu-ptd",
        "refcache",
        "two-counter-safe",
        "corten",
        "corten-eager",
    )
    policies = (*FAMILIES, "pt-reclaim", *own)
    wanted = [path for path in PATHS if path not in MEETINGS and path not in BY_TIME]
    while runs < 4 or (runs < 60 and not all(taken[path] for path in wanted)):
        found = stress(policies[runs % len(policies)], (4, 1, 1000), 4000 + runs, perturb=8 * (runs % 2))
        assert not found, told(found)
        runs += 1

    assert [path for path in wanted if not taken[path]] == []


@pytest.mark.parametrize("path", MEETINGS)
def test_a_cpu_comes_to_the_rarest_paths_where_another_stands_still(path):
    insn, at = MEETINGS[path]
    again = [advise(MADV_POPULATE_READ, BASE, PAGE), jump(3, 2_000_000), STOP]
    visitor = [mmap(BASE, PAGE), touch(BASE, PAGE), barrier(), *again]
    # The visitor may be the last to put the table, and a busy host may let one of the two run alone: hence again.
    programs = [visitor, [barrier(), insn, jump(1, 20_000), STOP]]
    instruments = Instruments(online=True, stops=(Stop(1, at, 1, 0.2),))

    def times() -> int:
        with at_rest(programs, geometry_for(programs), "refcount", instruments) as views:
            return int(views["path_taken"]["word"][PATHS.index(path)])

    assert any(times() > 0 for _ in range(20))


@pytest.mark.stress
@pytest.mark.parametrize(("cpus", "mms", "perturb"), DELAYED)
@pytest.mark.parametrize("policy", SOUND)
def test_long_random_programs_raise_no_alarm(policy, cpus, mms, perturb):
    found = stress(policy, (cpus, mms, LENGTH), 1000 + 10 * cpus + mms, perturb=perturb)

    assert not found, told(found)


@pytest.mark.stress
@pytest.mark.parametrize("policy", SOUND)
def test_long_random_programs_leave_a_sound_machine_in_the_plain_build(policy):
    shapes = [(*shape, LENGTH) for shape in SHAPES]

    found = in_engine("native", stress_each, [policy], shapes, 2000, build="plain", families=list(FAMILY_BITS))

    assert not found, told(found)


@pytest.mark.stress
@pytest.mark.parametrize(("build", "perturb"), [("plain", 0), ("debug", 64)])
@pytest.mark.parametrize("policy", SOUND)
def test_long_random_programs_race_soundly_on_the_semaphore_engine(policy, build, perturb):
    checks = "online" if build == "debug" else "audit"
    shapes = [(*shape, 40 * STRESS) for shape in SHAPES]

    found = in_engine("semaphore", stress_each, [policy], shapes, 3000, checks, perturb, build=build)

    assert not found, told(found)


def test_a_seed_names_the_same_programs_every_time():
    assert random_workload(5, 4, 2, 200) == random_workload(5, 4, 2, 200)
    assert random_workload(5, 4, 2, 200) != random_workload(6, 4, 2, 200)


def test_a_seed_chooses_a_machine_that_its_build_can_run():
    shapes = [Setup(Lab(seed=seed, checks="online")).shape() for seed in range(40)]
    plain = [Setup(Lab(seed=seed, checks="audit")).shape() for seed in range(40)]

    assert {cpus for cpus, *_ in shapes} == set(scenario.SHAPES[0])
    assert all(mms <= cpus for cpus, mms, *_ in shapes)
    assert {perturb for *_, perturb in shapes} == set(scenario.SHAPES[3])
    assert [(*shape[:3], 0) for shape in shapes] == plain
    assert Setup(Lab(checks="online"), cpus=1).shape()[1:] == (1, Setup(Lab()).shape()[2], 0)


def test_what_was_found_comes_with_a_command_that_finds_it_again():
    setup = Setup(Lab(seed=7, checks="online", knobs=("missing-pte-put",)), cpus=2, mms=1, length=200)

    *found, again = failures("refcount", setup)
    prompt, command = again.split(": ")
    run = ptelab(*command.split()[1:])

    assert prompt == "again"
    assert found[0].startswith("table-left-at-teardown")
    assert run.returncode == 1
    assert found[0].split(":")[0] in run.stdout
    assert f"again: {command}" in run.stdout


def test_stress_writes_the_documented_rows():
    run = ptelab("run", "stress", "--length", "50", "--perturb", "--json", "-")

    record = json.loads(run.stdout)

    documented = {
        "policy",
        "engine",
        "cpus",
        "mms",
        "length",
        "perturb",
        "first_seed",
        "seeds",
        "insns",
        "faults",
        "accesses",
    }
    documented |= {"zapped", "tables_freed", "flushes_local", "flushes_remote", "ipis", "errors", "grace_periods"}
    assert (run.returncode, record["verdict"]) == (0, "pass")
    assert [row["policy"] for row in record["rows"]] == SOUND
    assert all(row.keys() == documented | {"seconds", "samples", *SIGNALS} for row in record["rows"])
    assert sum(record["rcu_ages"]) > 0


def test_stress_refuses_more_address_spaces_than_cpus():
    run = ptelab("run", "stress", "--cpus", "2", "--mms", "3")

    assert run.returncode == 2
    assert run.stderr == "ptelab: --mms 3 needs as many CPUs; known: 1 to --cpus 2\n"
