"""What of this host's kernel bears on figures that are measured on it."""

from __future__ import annotations

import ctypes
import functools
import gzip
import mmap
import platform
from pathlib import Path

_SLOT = 2 << 20  # bytes that one PTE table maps
_SLOTS = 16  # tables of the probe: more than anything else in the process frees meanwhile


def kernel_facts() -> dict[str, str]:
    """What of this kernel bears on the figures: release, and yes, no or unknown for what it was built with."""
    options = _kernel_config()

    def built_with(option: str) -> str:
        return "unknown" if options is None else "yes" if f"CONFIG_{option}=y" in options else "no"

    try:
        setting = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
        huge_pages = setting[setting.index("[") + 1 : setting.index("]")]
    except (OSError, ValueError):
        huge_pages = "unknown"
    return {
        "release": platform.release(),
        "pt_reclaim": built_with("PT_RECLAIM") if options is not None else frees_covered_tables(),
        "per_vma_lock": built_with("PER_VMA_LOCK"),
        "transparent_hugepage": huge_pages,
    }


@functools.cache
def has_protection_keys() -> bool:
    """True if the kernel uses the processor's protection keys, so that memory of PROT_EXEC alone denies reads."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith("flags") and "ospke" in line.split() for line in lines)


def frees_covered_tables() -> str:
    """yes if a MADV_DONTNEED that covers 2 MiB frees the PTE table of this process, no, or unknown: CONFIG_PT_RECLAIM
    by its effect."""
    try:
        with mmap.mmap(-1, (_SLOTS + 1) * _SLOT, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
            memory.madvise(mmap.MADV_NOHUGEPAGE)
            word = ctypes.c_char.from_buffer(memory)
            first = -ctypes.addressof(word) % _SLOT  # offset of the first whole slot
            del word
            for at in range(first, first + _SLOTS * _SLOT, _SLOT):
                memory[at] = 1
            before = vm_pte()
            memory.madvise(mmap.MADV_DONTNEED, first, _SLOTS * _SLOT)
            return "yes" if before - vm_pte() >= _SLOTS // 2 * 4 else "no"  # kB; other threads may add a few
    except (OSError, ValueError):
        return "unknown"


def vm_pte() -> int:
    """VmPTE of this process, kB."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmPTE:"))


def _kernel_config() -> list[str] | None:
    """The lines of the kernel's configuration, None if it is not published."""
    for path in (Path("/proc/config.gz"), Path("/boot") / f"config-{platform.release()}"):
        try:
            data = path.read_bytes()
            return (gzip.decompress(data) if path.suffix == ".gz" else data).decode().splitlines()
        except (OSError, EOFError, UnicodeDecodeError):
            continue
    return None
