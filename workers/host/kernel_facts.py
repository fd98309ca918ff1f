"""What of this host's kernel bears on figures that are measured on it."""

from __future__ import annotations

import gzip
import platform
from pathlib import Path


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
        "pt_reclaim": built_with("PT_RECLAIM"),
        "per_vma_lock": built_with("PER_VMA_LOCK"),
        "transparent_hugepage": huge_pages,
    }


def _kernel_config() -> list[str] | None:
    """The lines of the kernel's configuration, None if it is not published."""
    for path in (Path("/proc/config.gz"), Path("/boot") / f"config-{platform.release()}"):
        try:
            data = path.read_bytes()
            return (gzip.decompress(data) if path.suffix == ".gz" else data).decode().splitlines()
        except (OSError, EOFError, UnicodeDecodeError):
            continue
    return None
