"""A machine: the segment, its CPU processes and its coordinator; create, fork, watch, stop, reap.

    with Machine(geometry, policy) as machine:
        machine.load(0, [mmap(...), touch(...), EXIT])
        machine.start()
        machine.wait()

The parent compiles and maps everything, then forks; children inherit the mapping and the code. They die with the
parent. Python of the parent never writes protocol state while CPUs run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from emulator import engine
from emulator import lazy_numpy as np
from emulator.mm_types import FLUSH_CEILING, PCP_BATCH, PCP_HIGH, Geometry
from emulator.pgtable_types import TABLE_INSTALLED
from emulator.policy.policies import POLICIES
from emulator.program.insn import report_no_progress, run_coordinator, run_cpu, start_machine, stop_machine
from emulator.segment import Segment
from workers import interrupts
from workers.instruments import PLAIN, Instruments
from workers.processes import child_main, fork, spin_for, wait_for
from workers.programs.program import Insn, assemble
from workers.stops import Aftermath, Stops
from workers.telling.postmortem import MachineFailed, describe_death, describe_stuck
from workers.vigil import Vigil
from workers.watchdog import Watchdog, process_seconds, process_state

STOP_SECONDS = 30.0  # how long CPUs may take to reach a boundary; the watchdog finds those that never will
FREEZE_SECONDS = 0.3  # how long the others may take to stand still after a violation
PATIENCE = 3.0  # seconds without any movement until a machine is said to stand still


@dataclass(frozen=True)
class Sample:
    """Counters at one moment: seconds of wall clock and of each process's processor time, copies of the views.

    `cpu` and `cpu_time` have a row per CPU and one for the coordinator.
    """

    wall: float
    cpu_time: np.ndarray
    cpu: np.ndarray
    rcu: np.ndarray
    gp_histogram: np.ndarray


def power_up(
    views: Any, geometry: Geometry, policy: str, instruments: Instruments, mm_of_cpu: Sequence[int], tick_us: int
) -> None:
    """Put a segment into the state of a machine that has not run."""
    config = views["config"]
    config["n_cpu"], config["n_mm"], config["vma_per_mm"] = geometry.cpus, geometry.mms, geometry.vmas
    config["vma_leaves"] = geometry.vma_leaves
    config["frame_words"], config["tick_us"] = geometry.frame_words, tick_us
    config["n_file"], config["file_pages"] = geometry.files, geometry.file_pages
    config["memcg_limit"], config["n_slot"] = geometry.memcg_limit, geometry.slots
    config["n_swap"], config["cpu_words"] = geometry.swap_pages, geometry.cpu_words
    views["file"]["size"][: geometry.files] = geometry.file_pages
    views["file"]["shmem"][geometry.files - geometry.shmem : geometry.files] = 1
    config["flush_ceiling"] = FLUSH_CEILING
    config["spin"] = spin_for(geometry.cpus)
    for family in POLICIES[policy].families:
        if not engine.compiles(family):
            raise ValueError(f"policy {policy} needs a build with the family '{family}' (engine.choose)")
    for field, value in POLICIES[policy].words().items():
        config[field] = value
    instruments.apply(views)
    zone = views["zone"]
    zone["fresh"], zone["limit"] = [1, 1 + geometry.mms], [geometry.frames, geometry.tables]
    zone["slots"], zone["pcp_high"], zone["batch"] = [0, geometry.frames], PCP_HIGH, PCP_BATCH
    views["bodies"]["fresh"], views["bodies"]["limit"] = 1, geometry.bodies
    views["mm"]["pgd"] = np.arange(1, 1 + geometry.mms)
    views["ptdesc"]["level"][1 : 1 + geometry.mms] = 4
    views["ptdesc"]["state"][1 : 1 + geometry.mms] = TABLE_INSTALLED
    cpu = views["cpu"]
    cpu["mm"] = [*mm_of_cpu, -1]
    cpu["tlb_epoch"] = cpu["psc_epoch"] = 1
    views["mm"]["mm_users"] = np.bincount(mm_of_cpu, minlength=geometry.mms)
    views["mm"]["in_use"] = views["mm"]["mm_users"] > 0
    views["mm"]["family"] = views["mm"]["in_use"] * np.arange(1, 1 + geometry.mms)
    views["barrier"]["parties"] = geometry.cpus


class Machine:
    """One emulated machine. Raises SegmentTooLarge before anything is created, MachineFailed when a process dies.

    `mm_of_cpu[i]` is the address space CPU i runs, all 0 by default. With `fatal_signals` a signal ends a program.
    """

    def __init__(
        self,
        geometry: Geometry,
        policy: str = "none",
        instruments: Instruments = PLAIN,
        mm_of_cpu: Sequence[int] | None = None,
        tick_us: int = 1000,
        patience: float = PATIENCE,
        fatal_signals: bool = False,
    ) -> None:
        self.geometry = geometry = POLICIES[policy].room_for(geometry)
        self.policy = policy
        self.mm_of_cpu = list(mm_of_cpu) if mm_of_cpu is not None else [0] * geometry.cpus
        self.segment = Segment(geometry)
        self.views = self.segment.views
        engine.prepare()
        interrupts.raise_pending()
        self.m = engine.attach(self.segment)
        self._processes: list[Any] = []
        self._insns = 0
        self._frozen = self._started = False
        self._rest_by: float | None = None  # when a machine that was stopped must be at rest
        self.stops = Stops(self.views, geometry, instruments.stops)
        self._patience = patience
        self._watchdog = Watchdog(self.views, geometry, patience)
        self._vigil = Vigil({})
        power_up(self.views, geometry, policy, instruments, self.mm_of_cpu, tick_us)
        self.views["config"]["fatal_signals"] = fatal_signals

    def load(self, cpu: int, program: Iterable[Insn] | np.ndarray) -> None:
        """Give a CPU its program. Raises ValueError if the segment has no room for it."""
        rows = assemble(program)
        if self._insns + len(rows) > self.geometry.insns:
            raise ValueError(f"{self._insns + len(rows)} instructions do not fit into room for {self.geometry.insns}")
        self.views["insn"][self._insns : self._insns + len(rows)] = rows
        self.views["cpu"]["insn_base"][cpu] = self.views["cpu"]["pc"][cpu] = self._insns
        self._insns += len(rows)
        self.views["cpu"]["insn_end"][cpu] = self._insns

    def load_all(self, programs: Iterable[Iterable[Insn] | np.ndarray]) -> None:
        """Give each CPU its program."""
        for cpu, program in enumerate(programs):
            self.load(cpu, program)

    def start(self) -> None:
        """Fork every process, wait until all are ready, let them go."""
        coordinator = self.geometry.cpus
        for cpu in range(self.geometry.cpus):
            self._spawn(f"cpu{cpu}", run_cpu, cpu)
        self._spawn("coordinator", run_coordinator, coordinator)
        names = {process.pid: f"{process.name} of the machine" for process in self._processes}
        self._vigil = Vigil(names, every=1.0, may_sleep=True)
        while self.views["run"]["ready"][0] < self.geometry.cpus:
            self._watch(0.001)
        start_machine(self.m, coordinator)
        self._started = True

    def _spawn(self, name: str, entry: Any, cpu: int) -> None:
        process = fork().Process(target=child_main, args=(os.getpid(), entry, self.m, cpu), name=name, daemon=True)
        with interrupts.held_back():
            process.start()
            self._processes.append(process)

    @property
    def processes(self) -> list[Any]:
        """The processes: the CPUs in order, then the coordinator."""
        return self._processes

    @property
    def pids(self) -> list[int]:
        """Process ids: the CPUs in order, then the coordinator."""
        return [process.pid for process in self._processes]

    def sample(self) -> Sample:
        """Counters now; within one page of exact while the CPUs run."""
        return Sample(
            time.perf_counter(),
            np.array([process_seconds(pid) for pid in self.pids]),
            self.views["cpu"].copy(),
            self.views["rcu"].copy(),
            self.views["gp_histogram"].copy(),
        )

    def run_for(self, seconds: float) -> bool:
        """Watch the machine for `seconds`, or until it stops by itself; True if it goes on."""
        deadline = time.perf_counter() + seconds
        while self._running() and not self._stopping():
            left = deadline - time.perf_counter()
            if left <= 0:
                return True
            self._watch(min(left, 0.05))
        return False

    def stop(self) -> None:
        """Ask every CPU to stop at its next boundary, and wait until all have and the coordinator is done.

        A machine that is frozen stays as it is.
        """
        if self._running():
            stop_machine(self.m, self.geometry.cpus)
        self.wait()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until every program has ended and every callback has run; False if `seconds` were not enough.

        Raises MachineFailed when a process dies, or when a machine that was stopped does not come to rest.
        """
        deadline = None if seconds is None else time.perf_counter() + seconds
        while self._running():
            now = time.perf_counter()
            if self._stopping() and self._rest_by is None and not self._frozen:
                stop_machine(self.m, self.geometry.cpus)  # BUG cannot wake the sleepers at a barrier
                self._rest_by = now + STOP_SECONDS
            if self._rest_by is not None and now > self._rest_by:
                stopped = {i: "stopped" for i, pid in enumerate(self.pids) if process_state(pid)[0] == "T"}
                report = describe_stuck(self.views, self.geometry, "the machine does not come to rest:", stopped)
                self.kill()
                raise MachineFailed(report)
            if deadline is not None and now > deadline:
                return False
            self._watch(0.05 if deadline is None else max(0.0, min(0.05, deadline - now)))
        return True

    def _running(self) -> list[Any]:
        """The processes that have not ended; none once the machine is frozen.

        Raises MachineFailed if one ended in another way than by itself, or was stopped at a point for long.
        """
        if self._frozen:
            return []
        if self._started and (fatal := self.stops.look(self._processes)):
            report = Aftermath(self, self.stops, fatal).verdict()
            self.kill()  # a stopped process must not be left behind
            raise MachineFailed(report)
        codes = [process.exitcode for process in self._processes]
        for number, code in enumerate(codes):
            if code not in (None, 0) and number not in self.stops.killed():
                self.kill()  # nobody may go on beside a hole; the segment stays as it is
                raise MachineFailed(describe_death(self.views, self.geometry, number, code))
        if self.views["run"]["bug"][0]:
            self._freeze()
            return []
        return [process for process, code in zip(self._processes, codes, strict=True) if code is None]

    def _freeze(self) -> None:
        """After a violation: let every process stand still where it is, then end them all; the segment stays."""
        cpu = self.views["cpu"]
        deadline = time.monotonic() + FREEZE_SECONDS
        while time.monotonic() < deadline:
            if all((cpu["parked"] != 0) | (cpu["finished"] != 0) | (cpu["waits_for"] != 0)):
                break
            time.sleep(0.005)
        self._frozen = True
        self.kill()

    @property
    def frozen(self) -> bool:
        """True once a violation has stopped the machine; it is not at rest then, and cannot be audited."""
        return self._frozen

    def _stopping(self) -> bool:
        return bool(self.views["run"]["stop"][0])

    def _watch(self, seconds: float) -> bool:
        """Sleep until a process ends or the time is over; True if all have ended. Raises MachineFailed on a death."""
        running = self._running()
        if running:
            wait_for([process.sentinel for process in running], seconds)
            if self.stops.holding_up():
                self._watchdog = Watchdog(self.views, self.geometry, self._patience)
            elif self._started and (stuck := self._watchdog.look(self.pids)):
                self._vigil.refuse_stopped()
                report_no_progress(self.m, stuck[0])
            elif not self.stops.was_any_hit():
                self._vigil.look()
        return not self._running()

    def kill(self) -> None:
        """End every process at once."""
        for process in self._processes:
            if process.exitcode is None:
                process.kill()  # SIGKILL ends a stopped process, too
        for process in self._processes:
            process.join()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
