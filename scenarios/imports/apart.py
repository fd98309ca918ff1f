"""A reader in a process of its own: a long log's lines are read while what they say is made a trace.

All that a reader knows goes with it, as its process is forked in the midst of its work. Events in their order, and the
account of the lines between them, come through a pipe.
"""

from __future__ import annotations

import marshal
import os
import pickle
from collections.abc import Iterator
from typing import Any

from scenarios.imports.account import Account
from scenarios.imports.calls import PLAIN, Event
from scenarios.imports.lines import Lines
from workers import interrupts
from workers.processes import child_main, fork, processors

FROM = 4 << 20  # bytes that are read without: a shorter input is done by the time another process would help
_TOGETHER = 1000  # calls that are sent at once
_MARSHAL = 2  # the version that does not look for what is there twice


def read(events: Iterator[Event], lines: Lines, account: Account) -> Iterator[Event]:
    """The events of a reader of these lines; what it enters in the account is there before the event behind it."""
    for event in events:
        yield event
        if lines.taken >= FROM and processors() > 1:
            break
    else:
        return
    receiver, sender = fork().Pipe(False)
    with interrupts.held_back():
        reader = fork().Process(
            target=child_main, args=(os.getpid(), _send, (events, lines, account), sender), daemon=True
        )
        reader.start()
    sender.close()
    try:
        yield from _received(receiver, lines, account)
    finally:
        receiver.close()
        reader.kill()
        reader.join()


def _received(receiver: Any, lines: Lines, account: Account) -> Iterator[Event]:
    """What the other process sends, until it has read all."""
    while True:
        try:
            part, packed, plain, end = pickle.loads(receiver.recv_bytes())
        except EOFError:
            raise RuntimeError("the process that reads the log was killed") from None
        account.add(part)
        yield from map(Event._make, marshal.loads(packed)) if plain else pickle.loads(packed)
        if isinstance(end, Exception):
            raise end
        if end is not None:
            lines.problem = end
            return


def _send(reading: tuple[Iterator[Event], Lines, Account], sender: Any) -> None:
    """Read to the end, in a process that has been forked for it."""
    events, lines, account = reading
    account.cut()  # the parent has it
    part, batch, count = Account(), list[Event](), 0
    end: str | Exception | None = None
    try:
        for event in events:
            if account.said or count >= _TOGETHER:
                if batch:
                    sender.send_bytes(_packed(part, batch, None))
                    part, batch, count = Account(), [], 0
                part.add(account.cut())
            batch.append(event)
            count += len(event.args) if event.kind == PLAIN else 1
        end = lines.problem
    except BrokenPipeError:
        return
    except Exception as error:
        end = error
    sender.send_bytes(_packed(part, batch, None))
    sender.send_bytes(_packed(account, [], end))


def _packed(part: Account, events: list[Event], end: str | Exception | None) -> bytes:
    """An account, the events behind it, and how it has ended, if it has."""
    try:
        packed, plain = marshal.dumps([tuple(event) for event in events], _MARSHAL), True
    except ValueError:  # perf has told a mapping
        packed, plain = pickle.dumps(events), False
    return pickle.dumps((part, packed, plain, end))
