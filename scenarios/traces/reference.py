"""The reference of the trace language, written from the table that the parser reads: `ptelab help traces`, and the part
of docs/traces.md between its marks.
"""

from __future__ import annotations

from textwrap import wrap

from scenarios.traces.trace import LAST_ID, LONGEST_LINE, MAX_FILES
from scenarios.traces.verbs import DANGEROUS, FIRST, LIMITS, MANY, VERBS, WORDS

WIDTH = 100
BEGIN, END = "<!-- ptelab help traces -->", "<!-- end -->"
OPERANDS = {
    "ID": f"a window of the address space, 0 to {LAST_ID}: from 16 TiB + ID x 64 GiB on; @: OFF is an address",
    "OFF": "where in the window, any byte of it",
    "SIZE": "bytes",
    "LEN": "bytes, up to 2^64 - 1 where a system call gets them",
    "STEP": "one call per so many bytes, ascending; the errno is that of the first call that failed",
    "STRIDE": "one access per so many bytes",
    "DSTID": "as ID",
    "DSTOFF": "as OFF",
    "OLD": "the old size, as LEN",
    "NEW": "the new size, as LEN",
    "NEWSIZE": "the new size",
    "OFFSET": "where in the file, in bytes",
    "VMPTE": "page tables, bytes",
    "RSSANON": "anonymous pages, bytes",
    "BEGIN": "when it begins, in microseconds from any moment on",
    "END": "when it has ended, not before BEGIN",
    "OPERATION": "an operation with its operands",
}


def numbers() -> dict[str, str]:
    """The operands that are numbers, and how large they may be."""
    texts = {
        "K": "a child's name",
        "T": "a thread",
        "N": "a file",
        "PAGE": "a page of a file",
        "BYTE": "what is stored",
        "ON": "protected, or no longer",
    }
    texts["NUMBER"] = f"advice, not {' or '.join(map(str, DANGEROUS))}"
    return {name: f"{text}, {FIRST.get(name, 0)} to {LIMITS[name]}" for name, text in texts.items()}


def entry(name: str, text: str, indent: int, width: int) -> list[str]:
    """One entry of a list, its text beside its name."""
    first, *rest = wrap(text, width - indent)
    head = f"  {name:<{indent - 2}}" if len(name) <= indent - 4 else f"  {name}\n{' ' * indent}"
    return [f"{head}{first}", *(" " * indent + line for line in rest)]


def reference(width: int = WIDTH) -> str:
    """All of it, as plain text in lines of so many columns."""
    about = "A line is one operation; `#` starts a comment. Numbers are decimal or 0x, with K, M, G, T or p (4 KiB). "
    about += f"A line has at most {LONGEST_LINE} bytes, a trace {MAX_FILES} files. Words may be joined by commas where "
    about += f"it says so ({', '.join(MANY)})."
    lines = [*wrap(about, width), "", "Operations"]
    beside = min(38, width // 2)
    for name, verb in VERBS.items():
        value = f"; last column: {verb.value}" if verb.value else ""
        lines += entry(f"{name} {verb.usage}".rstrip(), verb.text + value, beside, width)
    lines += ["", "Operands"]
    for name, text in {**OPERANDS, **numbers()}.items():
        lines += entry(name, text, 14, width)
    for name, words in WORDS.items():
        lines += entry(name, ", ".join(words), 14, width)
    return "\n".join(lines) + "\n"
