"""D12: MADV_DONTNEED that finds nothing to free pins the pmd's table again, and goes on with the one it had.

CPU 0, MADV_DONTNEED of one page       CPU 1, MADV_DONTNEED of the other
================================       =================================
T: one word, unpins: 1 entry left
                                       clears it, unpins: 0
                                       clears the pmd, frees T
                                       fault: installs T2
pins what the pmd names: T2
T: back to words on each CPU           (T2 has a visitor that never leaves)
unpins T, which is freed
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, dontneed, jump, mmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """Two CPUs release a page each of one table, and fill it again."""
    return [
        [mmap(BASE, SLOT), touch(BASE, PAGE), dontneed(BASE, PAGE), jump(1)],
        [touch(BASE + PAGE, PAGE), dontneed(BASE + PAGE, PAGE), jump(0)],
    ]


RACE = Race(
    detectors=("pmd-changed-under-pin", "table-use-after-free"),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, SLOT), touch(BASE, 2 * PAGE), STOP),
        programs=((dontneed(BASE, PAGE), STOP), (dontneed(BASE + PAGE, PAGE), touch(BASE, PAGE), STOP)),
    ),
    policy="percpu-ref",
    settings={"switch_back": 1},
    steer=(("percpu_ref.unpinned", "pmd_install.published", 200, 0),),
    why="counts that are switched, and back",
    schedule=(
        "1@interrupted/cpu.ipi_request.1=c,1@boundary/run.stop.1=c,0@interrupted/cpu.ipi_request.11=1,"
        "0@interrupted/cpu.ipi_request.11=c,0@wake_up/rcu.wake.2=c,0@wake_up/rcu.wake.2=1,"
        "0@wake_up/rcu.wake.2=c,0@wake_up/rcu.wake.3=c,c@all_quiescent/cpu.rcu_qs.5=1"
    ),
)
