"""The workers of a campaign, those of a cluster of this machine or of a scheduler's: which have room, which are gone.

A task is placed on a worker that has processors for it, and waits nowhere else. With a worker that is lost no other
task is lost. Dask is told never to run a task again that has taken its worker with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from scenarios.campaign.plan import Task
from scenarios.campaign.revision import revision
from scenarios.campaign.task import GRACE_SECONDS, greeting, is_busy, run_task
from scenarios.session import errors
from scenarios.session.progress import note
from workers.processes import processors
from workers.telling.postmortem import MachineFailed

CONNECT_SECONDS = 5.0
LOOK_SECONDS = 1.0  # between looks at which workers there are
ALONE_SECONDS = 300.0  # that a campaign waits for a worker when there is none
SETTINGS = {"distributed.scheduler.allowed-failures": 0, "distributed.worker.profile.enabled": False}


@dataclass
class _Worker:
    """One worker: where it is, what it said of itself, and how many processors it may still give."""

    address: str
    about: Mapping[str, Any]
    room: int
    is_gone: bool = False
    running: dict[Any, tuple[Task, list[int]]] = field(default_factory=dict)


def local_workers(most: int) -> tuple[int, int]:
    """How many workers this machine has for tasks of at most so many processors, and the processors of each."""
    count = max(1, processors() // most)
    return count, processors() // count


@contextlib.contextmanager
def opened(scheduler: str | None, tls: Mapping[str, str], most: int) -> Iterator[Farm]:
    """The farm of a scheduler, or of a cluster of this machine that ends with the block. Raises UserError."""
    import dask
    from distributed import Client, LocalCluster
    from distributed.security import Security

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        if scheduler is None:
            stack.enter_context(dask.config.set(SETTINGS))
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ptelab-campaign-"))
            count, threads = local_workers(most)
            cluster: Any = LocalCluster(
                n_workers=count, threads_per_worker=threads, host="127.0.0.1", dashboard_address="127.0.0.1:0",
                memory_limit=None, local_directory=folder, silence_logs=logging.CRITICAL,
            )  # fmt: skip
            stack.enter_context(cluster)
            client = stack.enter_context(Client(cluster))
        else:
            security = Security(**tls)
            try:
                asyncio.run(asyncio.wait_for(_greeted(scheduler, security), CONNECT_SECONDS + 1))
                client = Client(scheduler, timeout=CONNECT_SECONDS, security=security)
            except (OSError, TypeError, ValueError, RuntimeError) as error:
                words = " ".join(str(error).split()) or "what is there gives no answer"
                raise errors.UserError(
                    f"no scheduler at {scheduler}: {words}; known: HOST:PORT of dask scheduler"
                ) from None
            stack.enter_context(client)
        farm = Farm(client, scheduler is None)
        stack.callback(farm.leave)
        yield farm


async def _greeted(scheduler: str, security: Any) -> None:
    """Connect once: Client itself waits without end for the first word of what is no scheduler."""
    from distributed.comm import connect

    (await connect(scheduler, timeout=CONNECT_SECONDS, **security.get_connection_args("client"))).abort()


async def _workers_of(client: Any) -> Mapping[str, Any]:
    """The workers that the scheduler has now, none if it has gone.

    Client.scheduler_info is not asked: a client puts an answer without workers there every two seconds.
    """
    try:
        return (await client.scheduler.identity(n_workers=-1))["workers"] if client.scheduler else {}
    except OSError:
        return {}


class Farm:
    """Places tasks and tells what came of them."""

    def __init__(self, client: Any, local: bool) -> None:
        self._client, self._local = client, local
        self._workers: dict[str, _Worker] = {}
        self._refused: set[str] = set()
        self._hosts: dict[str, set[int]] = {}  # boot -> processors that nobody has
        self._over: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._looked, self._since = 0.0, time.monotonic()
        self.look()

    @property
    def running(self) -> int:
        """How many tasks are under way."""
        return sum(len(worker.running) for worker in self._workers.values())

    def check(self, most: int) -> None:
        """Raises UserError if no worker can take a task of so many processors."""
        have = max((worker.room for worker in self._workers.values()), default=0)
        if not self._workers:
            why = "; ".join(sorted(self._refused)) or "it has no worker; known: dask worker ADDRESS --nthreads N"
            raise errors.UserError(f"no worker can run this: {why}")
        if have < most:
            raise errors.UserError(
                f"a task wants {most} processors and no worker has more than {have}; known: processors = {have}"
            )

    def look(self) -> tuple[list[Task], list[Task]]:
        """See which workers there are: tasks that are lost with theirs, and tasks that were placed on one too late to
        be begun. Raises MachineFailed if there has been no worker for long.
        """
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return [], []
        there = self._client.sync(_workers_of, self._client)
        lost: list[Task] = []
        for worker in list(self._workers.values()):
            if worker.is_gone:  # since the last look: what it had begun is told by now
                lost += self._forget(worker)
            worker.is_gone |= worker.address not in there
        self._greet({address: there[address]["nthreads"] for address in there if address not in self._workers})
        self._looked = time.monotonic()
        if self._workers:
            self._since = self._looked
        elif self._looked - self._since > ALONE_SECONDS:
            raise MachineFailed(f"for {ALONE_SECONDS:g} s there has been no worker; --resume goes on from here")
        return ([], lost) if self._local else (lost, [])  # only here a task that was begun is told as an error

    def _forget(self, worker: _Worker) -> list[Task]:
        """Let a worker go; the tasks it has not told of."""
        del self._workers[worker.address]
        for future, (_, mine) in worker.running.items():
            self._hosts[worker.about["boot"]].update(mine)
            future.cancel()
        return [task for task, _ in worker.running.values()]

    def _greet(self, threads: Mapping[str, int]) -> None:
        """Let new workers say what they are, and take those that have the same sources."""
        if not threads:
            return
        answers = self._client.run(greeting, workers=list(threads), on_error="return")
        for address, about in answers.items():
            if isinstance(about, OSError):
                continue  # it is gone again
            if isinstance(about, BaseException):
                self._refuse(f"the worker at {address} cannot run ptelab: {about}")
            elif about["revision"] != revision():
                self._refuse(f"the worker at {address} has {about['revision']}, this is {revision()}")
            else:
                self._workers[address] = _Worker(address, about, threads[address])
                self._hosts.setdefault(about["boot"], set(about["processors"]))

    def _refuse(self, why: str) -> None:
        if why not in self._refused and self._looked:
            note(why)
        self._refused.add(why)

    def place(self, task: Task) -> bool:
        """Start a task on a worker that has room for it; False if none has."""
        for worker in self._workers.values():
            free = sorted(self._hosts[worker.about["boot"]] & set(worker.about["processors"]))
            if worker.is_gone or worker.room < task.processors or len(free) < task.processors:
                continue
            mine = free[: task.processors]
            future = self._client.submit(
                run_task, worker.about["id"], task.module, task.words, task.limit, mine,
                workers=[worker.address], allow_other_workers=False, pure=False, retries=0,
            )  # fmt: skip
            worker.running[future] = task, mine
            worker.room -= task.processors
            self._hosts[worker.about["boot"]].difference_update(mine)
            future.add_done_callback(self._over.put)
            return True
        return False

    def over(self) -> Iterator[tuple[Task, Mapping[str, Any] | None, Mapping[str, Any]]]:
        """Wait a moment for tasks that are over: each, what its worker says or None if it is lost, and the worker."""
        try:
            future = self._over.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            return
        while True:
            worker = next((one for one in self._workers.values() if future in one.running), None)
            if worker is not None:  # else look() has told of it
                task, mine = worker.running.pop(future)
                worker.room += task.processors
                self._hosts[worker.about["boot"]].update(mine)
                outcome = _outcome(future)
                worker.is_gone |= outcome is None  # nothing more is placed there, until somebody new says who that is
                yield task, outcome, worker.about
            if self._over.empty():
                return
            future = self._over.get()

    def leave(self) -> None:
        """End what is still running: it is not wanted any more. Returns when it is over."""
        futures = [future for worker in self._workers.values() for future in worker.running]
        with contextlib.suppress(Exception):
            self._client.cancel(futures, force=True)
            until = time.monotonic() + GRACE_SECONDS + 1
            while futures and time.monotonic() < until and any(self._client.run(is_busy, on_error="ignore").values()):
                time.sleep(0.05)


def _outcome(future: Any) -> Mapping[str, Any] | None:
    """What a task came to, or None if it is lost. Raises whatever else went wrong."""
    from distributed import KilledWorker

    if future.status == "finished":
        found: Mapping[str, Any] = future.result()
        return found
    error = future.exception() if future.status == "error" else None
    if error is None or isinstance(error, KilledWorker) or type(error).__name__ == "NotThisWorker":
        return None
    raise MachineFailed(f"a worker failed: {type(error).__name__}: {error}")
