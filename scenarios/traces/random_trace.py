"""Random traces over the whole language: every verb of verbs.py with every kind of operand, around the borders where
tables end. A verb that is entered there comes in by itself.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from emulator.mm_types import PAGE_SIZE
from emulator.pgtable_types import PGDIR_SIZE, PMD_SIZE, PUD_SIZE
from scenarios.traces.verbs import FORKS, LOOKS, MANY, NOT_IN_CHILDREN, VERBS, WORDS

K, M, G = 1 << 10, 1 << 20, 1 << 30
IDS = (0, 1, 2)
CHILDREN = (1, 2, 3)
FILES = (0, 1)
# What is mapped at the start of a trace decides what the rest of it meets, so some verbs come more often than others.
WEIGHTS = {"touch": 8, "read": 4, "mm": 3, "mr": 4, "in": 6, "mmap": 2, "dontneed": 2, "munmap": 3, "get": 2, "put": 2}
RARE = {
    "adv": 0.5,
    "reap": 0.5,
    "forkhold": 0.5,
    "mlockall": 0.2,
    "munlockall": 0.2,
    "mseal": 0.2,
}
NEVER = ("file", "expect", "free_ptes", "on")  # made at the start, or nothing that a host can be asked
BORDERS = (0, PMD_SIZE, 2 * PMD_SIZE, PUD_SIZE, PUD_SIZE - PMD_SIZE, 8 * PUD_SIZE)
HOSTILE = ("0xffffffffffffffff", "0xfffffffffffff000", "0x8000000000000000", "0x7fffffffffff")
ADVICE = tuple(n for n in range(27) if n != 7) + (102, 103, 1212)
UNREPEATABLE = ("may",)  # without `fixed` the kernel chooses the place, and each its own


def size_text(size: int) -> str:
    """A size as a user would write it."""
    for unit, name in ((G, "G"), (M, "M"), (PAGE_SIZE, "p")):
        if size and size % unit == 0:
            return f"{size // unit}{name}"
    return str(size)


class Generator:
    """One random trace. `wild` is how often an operand is out of the ordinary."""

    def __init__(self, seed: str, verbs: Sequence[str] = (), wild: float = 0.06) -> None:
        self.rng = random.Random(seed)
        self._verbs = [verb for verb in verbs or VERBS if verb not in NEVER]
        self._wild = wild
        # one place for a whole trace, at which everything happens: beside a border, or across it
        self._place = self.rng.choice((0, 0, 0, *BORDERS)) if self.rng.random() < 0.9 else PGDIR_SIZE - 2 * PMD_SIZE
        self._small = self.rng.random() < 0.6

    def trace(self, longest: int = 24) -> list[str]:
        """The lines of a trace: what is mapped, then whatever comes."""
        lines = [f"file {number} {self._file_size()}" for number in FILES]
        lines += [self._mapping() for _ in range(self.rng.randint(1, 3))]
        lines += [self.line() for _ in range(self.rng.randint(4, longest))]
        used = {
            word for line in lines for verb, *rest in [line.split()] for word in (verb, *rest[:3])
        }  # in K forkdo VERB
        named = {"mf", "trunc", "punch"} & used
        return lines if named else lines[len(FILES) :]

    def _file_size(self) -> str:
        return self.rng.choice(("4p", "1M", "2M", "4M", "33p"))

    def _mapping(self) -> str:
        verb = self.rng.choice(("mmap", "mmap", "mmapthp", "mmapsh", "mmapfile", "mf", "mm"))
        return self.operation(verb)

    def line(self) -> str:
        """One line."""
        return self.operation(self._verb(lambda verb: True))

    def _verb(self, allowed: object) -> str:
        names = [verb for verb in self._verbs if callable(allowed) and allowed(verb)]
        weights = [RARE.get(verb, WEIGHTS.get(verb, 1)) for verb in names]
        return self.rng.choices(names, weights)[0]

    def operation(self, name: str) -> str:
        """One operation of a verb, with random operands."""
        verb = VERBS[name]
        words = [name]
        if name == "forkdo":
            return f"forkdo {self.operation(self._verb(lambda verb: verb not in FORKS))}"
        if name == "in":
            return f"in {self._k()} {self.operation(self._verb(lambda verb: verb not in NOT_IN_CHILDREN))}"
        optional = verb.operands[verb.required :]
        more = optional if self.rng.random() < (0.35 if name != "mm" else 0.6) else ()
        if name == "mr":
            return self._mremap()
        operands = verb.operands[: verb.required] + (more if name != "fork" or self.rng.random() < 0.9 else ())
        at = self._offset()
        for operand in operands:
            words.append(self._operand(operand, at, name))
        return " ".join(words)

    def _mremap(self) -> str:
        flags = self.rng.choice(("0", "0", "may,fixed", "may,fixed", "may,fixed", "may,fixed,keep", "fixed", "keep"))
        old, new = self._length(), self._length()
        if self.rng.random() < 0.5:
            new = old
        words = ["mr", self._id(), size_text(self._offset()), old, new, flags]
        if "fixed" in flags:
            words += [self._id(), size_text(self._offset())]
        return " ".join(words)

    def _id(self) -> str:
        return str(self.rng.choice(IDS))

    def _k(self) -> str:
        return str(self.rng.choice(CHILDREN))

    def _offset(self) -> int:
        """Where in the window: at the place, some pages or tables beside it."""
        near = self.rng.choice((0, 0, 0, 1, 2, 4, 8, 16, 64, 256, 511, 512, 513, 1024))
        return self._place + near * PAGE_SIZE

    def _length(self) -> str:
        if self.rng.random() < self._wild / 4:
            return self.rng.choice(HOSTILE)
        if self.rng.random() < self._wild:
            return self.rng.choice(("0", "1", "4095", "4097", "2097151"))
        pages = self.rng.choice((1, 1, 2, 3, 4, 8, 16, 17, 64))
        if not self._small or self.rng.random() < 0.2:
            pages = self.rng.choice((256, 511, 512, 512, 513, 1024, 1024, 1536))
        return size_text(pages * PAGE_SIZE)

    def _operand(self, operand: str, at: int, name: str) -> str:
        rng = self.rng
        if operand in ("ID", "DSTID"):
            return self._id()
        if operand in ("OFF", "DSTOFF"):
            at = at if operand == "OFF" else self._offset()
            odd = rng.random() < self._wild and name not in ("put", "get", "gupread", "gupwrite", "mincore")
            return str(at + 100) if odd else size_text(at)
        if operand == "K":
            return self._k()
        if operand == "N":
            return str(rng.choice(FILES))
        if operand in WORDS:
            return self._words(operand, name)
        if operand == "NUMBER":
            return str(rng.choice(ADVICE))
        if operand == "ON":
            return str(rng.choice((0, 1, 1)))
        if operand == "BYTE":
            return str(rng.randint(1, 255))
        if operand == "PAGE":
            return str(rng.choice((0, 0, 0, 1, 16, 512)))
        if operand == "STRIDE":
            return rng.choice(("1p", "2p", "16p", "2M", "512"))
        if operand == "STEP":
            return rng.choice(("1p", "3p", "16p", "1M", "2M"))
        if operand == "OFFSET":
            return size_text(rng.choice((0, 0, 1, 16, 512)) * PAGE_SIZE)
        limited = "STRIDE" in VERBS[name].operands or "STEP" in VERBS[name].operands or operand in ("SIZE", "NEWSIZE")
        length = self._length()
        if name == "pagemap" and length == "0":
            return "1p"  # there is no such look
        return "64p" if (limited or name in LOOKS) and length in HOSTILE else length

    def _words(self, operand: str, name: str) -> str:
        known = [word for word in WORDS[operand] if word != "0"]
        if operand == "PROT":
            return self.rng.choice(("rw", "rw", "rw", "r", "r", "none", *known))
        if operand not in MANY:
            return self.rng.choice(known)
        if operand == "MAPFLAGS" and self.rng.random() < 0.3:
            return "fixed"
        if "0" in WORDS[operand] and self.rng.random() < 0.15:
            return "0"
        return ",".join(self.rng.sample(known, min(len(known), self.rng.choice((1, 1, 1, 2)))))


def random_lines(seed: int, number: int, verbs: Sequence[str] = ()) -> list[str]:
    """Trace `number` of the run that `seed` names."""
    return Generator(f"{seed}/{number}", verbs).trace()
