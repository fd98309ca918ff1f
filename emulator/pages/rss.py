"""RSS counters of anonymous frames: cached per CPU, of the mm it runs, written through now and then.

Pages of files are in mm.rss_file.
"""

from emulator.atomic import atomic_add, kernel, kernel_inline

RSS_EVENTS_THRESH = 64  # Linux's TASK_RSS_EVENTS_THRESH


@kernel_inline
def add_mm_rss(m, cpu, mm, n):
    """Account n anonymous frames; written through to the mm every RSS_EVENTS_THRESH."""
    m.cpu.rss_cache[cpu] += n
    if abs(m.cpu.rss_cache[cpu]) > RSS_EVENTS_THRESH:
        sync_mm_rss(m, cpu, mm)


@kernel
def sync_mm_rss(m, cpu, mm):
    """Write this CPU's cached count through to the mm."""
    if m.cpu.rss_cache[cpu] != 0:
        atomic_add(m.mm.rss_anon, mm, m.cpu.rss_cache[cpu])
        m.cpu.rss_cache[cpu] = 0
