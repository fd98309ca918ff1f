"""The explored machine: the same kernels, CPUs that are tasks of one process, and one execution after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from emulator import engine
from emulator import lazy_numpy as np
from emulator.checks import audit
from emulator.cpu.idle import exit_idle
from emulator.engines.explore import MAX_STEPS, Crash, attach, world
from emulator.engines.memory_model import impose
from emulator.engines.partial_order import choices_of, note_users, written
from emulator.engines.race_detector import RaceDetector
from emulator.mm_types import CPU, Geometry
from emulator.pages.page_alloc import rmqueue_bulk
from emulator.policy.policies import POLICIES
from emulator.policy.pte_ref import policy_away, policy_back
from emulator.program.coordinator import coordinator_loop
from emulator.program.insn import finish, run_program
from emulator.segment import Segment
from workers.explorer.barriers import Site, left_out
from workers.explorer.chance import Follow
from workers.explorer.search import Strategy, tasks_of
from workers.explorer.tracer import Words
from workers.instruments import PLAIN, Instruments
from workers.machine import power_up
from workers.programs.program import Insn, assemble, disassemble
from workers.programs.scene import Scene
from workers.telling.violation import Violation, violation_of

MMS, TABLES, FILE_PAGES = 2, 17, 4  # a second mm for a child
BATCH = (8, 2)  # frames and tables that a CPU takes from the zone at once: what is freed is soon used again
# What the audit does not read: two executions that differ in nothing else are audited once.
_UNAUDITED = {
    *(f"cpu.{name}" for name in list(CPU.comments)[list(CPU.comments).index("insns") :]),
    *(f"rcu.{name}" for name in ("gp_start_ns", "gp_sum_ns", "gp_max_ns", "wake", "ipis", "remote_flushes")),
    *("gp_histogram.count", "cpu.started_ns", "cpu.finished_ns", "rcu_age.count", "mm.mmap_lock_seq", "cpu.wake"),
}
# What only the laboratory keeps of a table reaches memory at once: nothing is late but the kernel's own.
_AT_ONCE = ("ptdesc.state", "ptdesc.generation", "ptdesc.pmd", "ptdesc.mm")


@dataclass(frozen=True)
class Outcome:
    """What one execution came to: `ended` is complete, violation, deadlock, cut (by the strategy) or endless.

    `race` are the places in the log of two plain accesses that race.
    """

    ended: str
    choices: list[int] = field(default_factory=list)
    violation: Violation | None = None
    checks: dict[str, int] | None = None
    race: tuple[int, int] | None = None
    broken: str = ""  # what the scene's own check says

    @property
    def failed(self) -> bool:
        """True if it is a counterexample."""
        return self.what not in ("complete", "cut")

    @property
    def what(self) -> str:
        """The name of what was found: a detector, a check, data-race, deadlock or endless."""
        if self.violation is not None:
            return self.violation.detector
        if self.race is not None:
            return "data-race"
        if self.broken:
            return "claim-broken"
        return next((name for name, count in (self.checks or {}).items() if count), self.ended)


def _geometry(scene: Scene, programs: Sequence[Sequence[Insn]]) -> Geometry:
    """A machine on which a scene has room."""
    return Geometry(
        cpus=len(programs),
        mms=MMS,
        vmas=8,
        insns=max(1, len(scene.setup) + sum(len(program) for program in programs)),
        frames=scene.frames,
        tables=TABLES,
        files=1,
        file_pages=FILE_PAGES,
        memcg_limit=scene.memcg_limit,
        swap_pages=scene.swap_pages,
    )


class ExploredMachine:
    """A machine in one process; `execute` runs its programs from the same state every time.

    `memory` is sc, tso, pso or arm; the barriers of `without` are left out. With `crash_at` the coordinator's step of
    that number is its last; another one starts.
    """

    def __init__(
        self,
        scene: Scene,
        policy: str,
        instruments: Instruments = PLAIN,
        memory: str = "sc",
        crash_at: int = 0,
        races: bool = False,
        without: Sequence[Site] = (),
    ) -> None:
        engine.prepare()
        programs = scene.programs or [()] * scene.cpus
        self.scene, self.crash_at, self.without = scene, crash_at, without
        self.geometry = POLICIES[policy].room_for(_geometry(scene, programs))
        self.segment = Segment(self.geometry, shared=False)  # searches in several processes must not meet here
        power_up(self.segment.views, self.geometry, policy, instruments, [0] * len(programs), 1000)
        self.segment.views["zone"]["batch"] = self.segment.views["zone"]["pcp_high"] = BATCH
        setup, *spans = self._load((scene.setup, *programs))
        self.m = attach(self.segment)
        self._span(0, setup)
        self._prepare()
        for cpu, span in enumerate(spans):
            self._span(cpu, span)
        impose(memory)
        self._where, self._audited = self._map_words()
        self._start = np.array(world.mem, np.int64)
        self._initial = self._start.tolist()
        self._stretches: list[tuple[int, int]] = []  # stored to by memset in the latest execution
        self._ranges = np.zeros((4096, 2), np.int64)
        self.segment.words[self._where] = self._start
        self.executions = 0
        self.crashed = False  # True once an execution came to the step at which the coordinator dies
        self.log = self._written = np.empty(0, np.int64)
        self._users, self._stored = np.zeros(len(world.mem), np.int64), np.zeros(len(world.mem), np.bool_)
        self._known, self.shared = 0, bytearray(len(world.mem))  # words that more than one task accesses
        if world.buffers is not None:
            world.buffers.shared = self.shared
        self.words = Words(world)
        self._late = np.ones(len(world.mem), np.bool_)
        for one in (one for one in world.fields if one.name in _AT_ONCE):
            self._late[one.base : one.base + one.size] = False
        self._mark, self._words = np.zeros(len(world.mem), np.int64), np.zeros(len(world.mem), np.int64)
        self._rests: dict[bytes, dict[str, int]] = {}
        self._races = RaceDetector(len(world.mem), len(self.tasks)) if races else None

    def _load(self, programs: Iterable[Sequence[Insn]]) -> list[tuple[int, int]]:
        """Write programs to the segment, one behind the other: where each begins and ends."""
        spans, at = [], 0
        for program in programs:
            rows = assemble(program)
            self.segment.views["insn"][at : at + len(rows)] = rows
            spans.append((at, at + len(rows)))
            at += len(rows)
        return spans

    def _map_words(self) -> tuple[np.ndarray, np.ndarray]:
        """Per word of the explorer's memory: its place in the segment, and whether the audit reads it."""
        where, audited = [], []
        for one in world.fields:
            view, _, name = one.name.partition(".")
            column = self.segment.views[view][name or "word"]
            first = (column.ctypes.data - self.segment.address) // 8
            where.append(first + np.arange(one.size) * (column.strides[0] // 8))
            audited.append(np.full(one.size, one.name not in _UNAUDITED))
        return np.concatenate(where), np.concatenate(audited)

    def _span(self, cpu: int, span: tuple[int, int]) -> None:
        self.m.cpu.insn_base[cpu] = self.m.cpu.pc[cpu] = span[0]
        self.m.cpu.insn_end[cpu] = span[1]

    def _prepare(self) -> None:
        """Run the setup on CPU 0, the others idle, until every callback has run."""
        m, cpus = self.m, self.geometry.cpus
        for cpu in range(1, cpus):
            m.cpu.lazy[cpu] = m.cpu.idle[cpu] = m.cpu.finished[cpu] = 1
        world.strategy = Follow(())
        if cpus > 1:
            world.run([partial(policy_away, m, cpu) for cpu in range(1, cpus)])
        world.run([partial(self._cpu, 0), partial(coordinator_loop, m, cpus)])
        if world.deadlock or world.mem[world.bug]:
            raise ValueError("the setup does not come to its end")
        world.run([partial(self._awake, cpu) for cpu in range(cpus)])

    def _awake(self, cpu: int) -> None:
        exit_idle(self.m, cpu)
        policy_back(self.m, cpu)
        for zone in range(2):  # so that nobody has to go to the zone first of all
            if self.m.pcp.count[2 * cpu + zone] == 0:
                rmqueue_bulk(self.m, cpu, zone)
        self.m.cpu.finished[cpu] = 0

    def _cpu(self, cpu: int) -> None:
        run_program(self.m, cpu, 0)
        finish(self.m, cpu)

    def _body(self, cpu: int, body: Callable[[], Any]) -> None:
        body()
        if self.scene.coordinator:
            finish(self.m, cpu)

    def bodies(self) -> list[Callable[[], Any]]:
        """One task per CPU, the coordinator last."""
        cpus = self.geometry.cpus
        tasks: list[Callable[[], Any]] = [partial(self._cpu, cpu) for cpu in range(cpus)]
        if self.scene.bodies is not None:
            tasks = [partial(self._body, cpu, body) for cpu, body in enumerate(self.scene.bodies(self.m))]
        return [*tasks, self._coordinator] if self.scene.coordinator else tasks

    def _coordinator(self) -> None:
        try:
            coordinator_loop(self.m, self.geometry.cpus)
        except Crash:
            coordinator_loop(self.m, self.geometry.cpus)

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks."""
        names = [f"CPU {cpu}" for cpu in range(self.geometry.cpus)]
        return [*names, "the coordinator"] if self.scene.coordinator else names

    @property
    def coordinator(self) -> int:
        """The number of the coordinator's task, -1 if there is none."""
        return self.geometry.cpus if self.scene.coordinator else -1

    def instruction(self, task: int) -> str:
        """What a task executes at the moment; empty if it is no program."""
        if task == self.coordinator or not self.scene.programs:
            return ""
        pc = world.mem[self.m.cpu.pc.base + task]
        return str(disassemble(self.segment.views["insn"][pc]))

    def initial(self, name: str) -> list[int]:
        """The words of a field as they are when an execution starts."""
        one = next(one for one in world.fields if one.name == name)
        words: list[int] = self._start[one.base : one.base + one.size].tolist()
        return words

    def learn(self) -> bool:
        """Learn which words are shared; True if one did not go through the store buffers: start the search anew."""
        _, _, _, owner, _ = tasks_of(world)
        new = world.buffers is not None and world.buffers.learn()
        if not note_users(self.log, owner, self._users, self._stored):
            return bool(new)
        shared = ((self._users & (self._users - 1)) != 0) & self._stored
        if shared.sum() == self._known:
            return bool(new)
        self._known = int(shared.sum())
        self.shared[:] = (shared & self._late).tobytes()
        return world.buffers is not None

    def is_shared(self, word: int) -> bool:
        """True if more than one task is known to access a word, and one to store to it."""
        return self.shared[word] != 0

    def execute(self, strategy: Strategy) -> Outcome:
        """Run the programs once under a strategy, from the state after the setup. The log stays until the next one."""
        self._put_back()
        world.strategy = strategy
        strategy.begin()
        world.crash = (self.geometry.cpus, self.crash_at) if self.crash_at else (-1, 0)
        with left_out(*self.without):
            world.run(self.bodies())
        self.crashed |= self.crash_at > 0 and world.crash == (-1, 0)
        self.executions += 1
        self.log = np.array(world.log, np.int64)
        count, ranges = written(self.log, self._mark, self.executions, self._words, self._ranges)
        self._written = np.sort(self._words[:count])
        self._stretches = sorted(set(map(tuple, self._ranges[:ranges].tolist())))
        outcome = self._outcome()
        return replace(outcome, choices=self.choices()) if outcome.failed else outcome

    def choices(self) -> list[int]:
        """The task of each step of the latest execution."""
        return choices_of(self.log, world.buffers is not None)

    def _outcome(self) -> Outcome:
        if world.mem[world.bug]:
            self.write_back()
            return Outcome("violation", violation=violation_of(self.segment.views, self.geometry))
        if self._races is not None and world.buffers is None and (race := self._races.find(self.log)):
            return Outcome("complete", race=race)
        if world.deadlock:
            self.write_back()
            return Outcome("deadlock")
        if any(task.pending >= 0 and not task.optional for task in world.tasks):
            return Outcome("cut" if world.count < MAX_STEPS else "endless")
        return Outcome("complete", checks=self._audit(), broken=self._end())

    def _end(self) -> str:
        try:
            if self.scene.end is not None:
                self.scene.end(self.m)
        except AssertionError as error:
            return str(error) or "the scene's own check fails"
        return ""

    def write_back(self) -> None:
        """Bring the segment's views to what memory holds."""
        mem, words = world.mem, self.segment.words
        words[self._where[self._written]] = [mem[word] for word in self._written.tolist()]
        for first, size in self._stretches:
            words[self._where[first : first + size]] = mem[first : first + size]

    def _put_back(self) -> None:
        """Bring memory and the segment's views to what they are before an execution."""
        mem, start, words = world.mem, self._initial, self.segment.words
        for word in self._written.tolist():
            mem[word] = start[word]
        words[self._where[self._written]] = self._start[self._written]
        for first, size in self._stretches:
            mem[first : first + size] = start[first : first + size]
            words[self._where[first : first + size]] = start[first : first + size]

    def _audit(self) -> dict[str, int]:
        """The audit of the machine at rest, once for every state it can come to rest in."""
        if not self.scene.coordinator:
            return {}
        self.write_back()
        words = self._written[self._audited[self._written]]
        state = words.tobytes() + self.segment.words[self._where[words]].tobytes()
        for first, size in self._stretches:
            state += first.to_bytes(4) + self.segment.words[self._where[first : first + size]].tobytes()
        if state not in self._rests:
            self._rests[state] = audit(self.segment.views, self.geometry)
        return self._rests[state]
