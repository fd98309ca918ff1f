"""Which CPU does what: by the history of a race, by its programs and by its scene. A module for in_engine.

A deed is a system call or an access that a history has a word for. A body of a scene says what it does at its head.
"""

import re

DEEDS = {  # its word in a history, its word in an instruction or a body
    "MADV_DONTNEED": (r"MADV_DONTNEED|\bzaps it\b", "MADV_DONTNEED"),
    "munmap": ("munmap|unmaps", "munmap"),
    "mremap": ("mremap", "mremap"),
    "fork": (r"\bfork\b", "fork"),
    "mincore": ("mincore", "mincore"),
    "smaps": ("smaps", "smaps"),
    "retract": ("retract", "retract"),
    "write-back": ("write-back", "writeback"),
    "collapse": ("collapse", "COLLAPSE"),
    "fast GUP": ("fast GUP", r"gup|Fast GUP|a device stores"),
    "migration": ("migrate|migration(?!.entry)", "migrate"),
    "reclaim": ("reclaim|page-out", "swapout|PAGEOUT|Reclaim"),
    "free_ptes": ("free_ptes", "free_ptes"),
    "fault": (r"\bfaults?\b", "touch|read|store|load|fault|POPULATE"),
    "store": (r"\bstores\b", "touch|store|fault|gup"),
    "load": (r"\bloads\b", "read|load|fault"),
    "driver": ("driver|insert_pages", "device|insert_pages"),
    "UFFD_COPY": ("UFFD_COPY", "uffd_copy"),
    "UFFD_MOVE": ("UFFD_MOVE", "uffd_move"),
}


def columns(history):
    """CPU -> the deeds in its column."""
    lines = history.splitlines()
    ruled = next(number for number, line in enumerate(lines) if re.fullmatch(" *=+( +=+)+", line))
    starts = [rule.start() for rule in re.finditer("=+", lines[ruled])]
    texts = {start: "" for start in starts}
    for line in (lines[ruled - 1], *lines[ruled + 1 :]):
        if not line:
            break
        begun = [start for start in starts if line[:start].endswith(" ") or not start]  # else a column runs over
        for start, end in zip(begun, [*begun[1:], None], strict=True):
            texts[start] += line[start:end] + " "
    cpus = {match[1]: text for text in texts.values() if (match := re.match(r"CPU (\d)", text))}
    return {int(cpu): deeds(text, 0) for cpu, text in cpus.items()}


def deeds(text, of):
    """The deeds of a history (0), or of instructions and bodies (1)."""
    return {deed for deed, words in DEEDS.items() if re.search(words[of], text)}


def misplaced(history, done):
    """The deeds that a history has in the column of a CPU that does not do them, although another does."""
    told, anywhere = columns(history), set().union(*done)
    return sorted((deed, cpu) for cpu, own in told.items() if cpu < len(done) for deed in own & anywhere - done[cpu])


def by_programs(programs):
    """The deeds of each CPU's program."""
    return [deeds(" ".join(map(str, program)), 1) for program in programs]


def heads_of_bodies(names):
    """What the bodies of the scenes of races say of themselves: race -> a text per CPU."""
    from scenarios.proofs.finding import Plan, machine_for
    from scenarios.proofs.subject import subject

    heads = {}
    for name in names:
        of = subject(f"race/{name}")
        machine = machine_for(of, Plan(True, of.memory, 0, seconds=0, jobs=1), 0)
        heads[name] = [body.func.__doc__ for body in machine.scene.bodies(machine.m)]
    return heads
