"""What each task of a traced execution holds: locks, its RCU read section, an open gather."""

from __future__ import annotations

from workers.telling.access import Access
from workers.telling.phrases import LOCKS, Names, lock_name

NO_LOCK = "holds no lock"


class Held:
    """Goes through the accesses of an execution that begins with nothing held."""

    def __init__(self) -> None:
        self._of: dict[int, dict[str, str]] = {}  # task -> word -> what is held, in words, in the order it was taken

    def follow(self, access: Access, names: Names) -> None:
        """An access happens."""
        if access.old == access.new or access.op == "commit":  # its own CPU has seen it since it was issued
            return
        text = _holding(access, names)
        if text is None:
            return
        mine = self._of.setdefault(access.task, {})
        word = f"{access.field} {access.index}"
        if text:
            mine[word] = text
        else:
            mine.pop(word, None)

    def words(self, task: int) -> str:
        """What a task holds now; empty if that is nothing."""
        return ", ".join(self._of.get(task, {}).values())

    def text(self, task: int) -> str:
        """The same, as what is said of the task."""
        mine = self.words(task)
        return f"holds {mine}" if mine else NO_LOCK


def _holding(access: Access, names: Names) -> str | None:
    """What the new value of a word says its task holds: empty for nothing, None if the word says no such thing."""
    new = access.new
    if access.field in LOCKS:
        return lock_name(access.field, access.index, names) if new else ""
    match access.field:
        case "cpu.mmap_lock_held":
            return f"mmap_lock of mm {(new - 1) // 2} for {'reading' if new % 2 else 'writing'}" if new else ""
        case "cpu.rcu_nesting":
            return ("rcu_read_lock" if new == 1 else f"rcu_read_lock ({new} deep)") if new else ""
        case "cpu.gather_mm":
            return "an open mmu_gather" if new else ""
    return None
