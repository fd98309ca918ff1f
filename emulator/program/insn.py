"""The instructions a CPU executes, and the loop that does. A program is rows of `m.insn`; the CPU's row says which.

At each instruction boundary and at each page it accesses a CPU takes interrupts, reports a quiescent state and looks at
the stop flag. Inside of zap and teardown it does the first two (cond_resched). What a workload does is data:
multi-fault, a recorded trace and a stress run differ only in their rows.
"""

from emulator.atomic import (
    EXPLORES,
    atomic_add,
    atomic_add_return,
    cmpxchg,
    cpu_relax,
    entry_point,
    get_cycles,
    kernel,
    kernel_inline,
    now_ns,
    read_once,
    sched_yield,
    sleep_on,
    smp_load_acquire,
    smp_store_release,
    wake_all,
    write_once,
)
from emulator.bug import stopped, waits_for
from emulator.cpu.idle import enter_idle, exit_idle, switch_mm
from emulator.cpu.interrupts import coordinator_wake, point, take_interrupts
from emulator.cpu.signal import do_signal, force_sig_fault
from emulator.cpu.wait import NAP_US, wait_on, wait_on_timeout, wake_up
from emulator.huge.retract import retract_page_tables
from emulator.mm_types import BARRIER_YIELDS, NR_BARRIERS
from emulator.pages.rss import sync_mm_rss
from emulator.pgtable import access_ok
from emulator.pgtable_types import PAGE, TASK_SIZE
from emulator.policy.pte_ref import policy_away, policy_back, policy_boundary, policy_demand, policy_tick
from emulator.program.coordinator import coordinator_loop
from emulator.program.mmu import load, store
from emulator.rmap_walks.anon_reclaim import shrink_anon
from emulator.rmap_walks.migrate import do_migrate
from emulator.rmap_walks.page_writeback import write_cache_pages
from emulator.rmap_walks.replace_page import ksm_merge, uprobe
from emulator.syscalls.device import device_remove
from emulator.syscalls.fork import end_child, exit_child, fork, held_child, reap
from emulator.syscalls.insert_pages import insert_pages
from emulator.syscalls.madvise import do_madvise, process_madvise
from emulator.syscalls.mfill_atomic import mfill_atomic
from emulator.syscalls.mlock import do_mlock, do_mlockall, lock_flags
from emulator.syscalls.mmap import do_mmap, do_munmap, exit_mmap
from emulator.syscalls.mprotect import do_mprotect
from emulator.syscalls.mremap import do_mremap, do_mremap_call, do_mremap_fixed
from emulator.syscalls.mseal import do_mseal
from emulator.syscalls.swapfile import swapoff
from emulator.syscalls.truncate import do_truncate, punch_hole
from emulator.syscalls.uffd_move import move_pages
from emulator.syscalls.uffd_register import userfaultfd_register, userfaultfd_writeprotect
from emulator.syscalls.vma_pieces import do_msync, madvise_remove
from emulator.tables.rcu import rcu_qs
from emulator.uapi import (
    EEXIST,
    EFAULT,
    EINTR,
    EINVAL,
    MADV_HUGEPAGE,
    MADV_REMOVE,
    SEGV_MAPERR,
    SIGSEGV,
    VM_HUGEPAGE,
    VM_UFFD_MISSING,
    Op,
)
from emulator.walks.access_vm import access_remote_vm, count_vmas
from emulator.walks.gup_fast import gup
from emulator.walks.mincore import do_mincore
from emulator.walks.pagewalk import (
    WALK_CHARGE,
    WALK_CLEAR_REFS,
    WALK_CLEAR_SOFT_DIRTY,
    WALK_PAGEMAP,
    WALK_PAGEMAP_COUNT,
    WALK_SMAPS,
    do_walk,
)
from emulator.watch.bugs import Bug
from emulator.watch.points import point_number
from emulator.watch.waits import Wait

WAIT_BARRIER = int(Wait.BARRIER)
WAIT_POST = int(Wait.POST)
WAIT_NOTHING = int(Wait.NOTHING)
ARRIVED = point_number("barrier.arrived")
BUG_NO_PROGRESS = int(Bug.NO_PROGRESS)


EXIT, STOP, STORE, LOAD, TOUCH, READ = (int(op) for op in (Op.EXIT, Op.STOP, Op.STORE, Op.LOAD, Op.TOUCH, Op.READ))
MMAP = int(Op.MMAP)
MUNMAP = int(Op.MUNMAP)
MADVISE = int(Op.MADVISE)
BARRIER = int(Op.BARRIER)
JUMP = int(Op.JUMP)
MARK = int(Op.MARK)
POST, FOLLOW = int(Op.POST), int(Op.FOLLOW)
MINCORE, INSERT_PAGES, COMPUTE, DEVICE_REMOVE = (
    int(op) for op in (Op.MINCORE, Op.INSERT_PAGES, Op.COMPUTE, Op.DEVICE_REMOVE)
)
MPROTECT = int(Op.MPROTECT)
MLOCK = int(Op.MLOCK)
PROCESS_MADVISE = int(Op.PROCESS_MADVISE)
MREMAP = int(Op.MREMAP)
MREMAP_FIXED = int(Op.MREMAP_FIXED)
FORK = int(Op.FORK)
FORK_HOLD = int(Op.FORK_HOLD)
FREE_PTES = int(Op.FREE_PTES)
REAP = int(Op.REAP)
IN_CHILD, EXIT_CHILD = int(Op.IN_CHILD), int(Op.EXIT_CHILD)
MREMAP_CALL, MLOCKALL, MSEAL = int(Op.MREMAP_CALL), int(Op.MLOCKALL), int(Op.MSEAL)
PAGEMAP_COUNT, COUNT_VMAS = int(Op.PAGEMAP_COUNT), int(Op.COUNT_VMAS)
ACCESS_VM, UFFD_WRITEPROTECT = int(Op.ACCESS_VM), int(Op.UFFD_WRITEPROTECT)
SWAPOUT = int(Op.SWAPOUT)
SWAPOFF = int(Op.SWAPOFF)
MIGRATE = int(Op.MIGRATE)
KSM = int(Op.KSM)
UPROBE = int(Op.UPROBE)
GUP = int(Op.GUP)
RETRACT = int(Op.RETRACT)
UFFD_REGISTER = int(Op.UFFD_REGISTER)
UFFD_UNREGISTER = int(Op.UFFD_UNREGISTER)
UFFD_COPY = int(Op.UFFD_COPY)
UFFD_MOVE = int(Op.UFFD_MOVE)
SMAPS = int(Op.SMAPS)
PAGEMAP = int(Op.PAGEMAP)
CLEAR_REFS = int(Op.CLEAR_REFS)
MOVE_CHARGE = int(Op.MOVE_CHARGE)
WRITEBACK = int(Op.WRITEBACK)
TRUNCATE = int(Op.TRUNCATE)
PUNCH_HOLE = int(Op.PUNCH_HOLE)
MSYNC = int(Op.MSYNC)


@kernel_inline
def boundary(m, cpu):
    """Between two user accesses: take interrupts, report a quiescent state. False if the run must end."""
    take_interrupts(m, cpu)
    rcu_qs(m, cpu)
    policy_boundary(m, cpu)
    return read_once(m.run.stop, 0) == 0


@kernel
def bad_address(m, cpu, mm, addr, length):
    """True, and a SIGSEGV, if a range does not begin in user space. What reaches beyond it faults there."""
    if access_ok(addr, length):
        return False
    m.cpu.sigsegv[cpu] += 1
    force_sig_fault(m, cpu, mm, SIGSEGV, SEGV_MAPERR, addr)
    return True


@kernel
def touch(m, cpu, mm, addr, length, step, value):
    """Store `value` to one word per `step` bytes of [addr, addr + length): 0 or the -errno of the first that failed."""
    if bad_address(m, cpu, mm, addr, length):
        return -EFAULT
    for at in range(addr, addr + length, step):
        if not boundary(m, cpu):
            return -EINTR
        error = store(m, cpu, mm, at, value)
        if error != 0:
            return error
    m.cpu.accesses[cpu] += (length + step - 1) // step
    return 0


@kernel
def read(m, cpu, mm, addr, length, step):
    """Load one word per `step` bytes of [addr, addr + length): 0 or the -errno of the first that failed."""
    if bad_address(m, cpu, mm, addr, length):
        return -EFAULT
    if length == 0:
        m.cpu.loaded[cpu] = 0
    for at in range(addr, addr + length, step):
        if not boundary(m, cpu):
            return -EINTR
        error = load(m, cpu, mm, at)
        if error != 0:
            return error
    m.cpu.accesses[cpu] += (length + step - 1) // step
    return 0


@kernel
def barrier_wait(m, cpu, barrier, only_arrive):
    """Wait until all parties have arrived; idle meanwhile. A short wait spins, a longer one yields, a long one sleeps.

    A CPU that has nothing to do until the next barrier need only arrive.
    """
    generation = smp_load_acquire(m.barrier.generation, barrier)
    if atomic_add_return(m.barrier.arrived, barrier, 1) == m.barrier.parties[barrier]:
        write_once(m.barrier.arrived, barrier, 0)
        # its barrier comes after arrived = 0, or one that arrives in the next round would be forgotten
        wake_up(m, m.barrier.generation, m.barrier.sleepers, barrier)
        return
    if only_arrive:
        return
    waits_for(m, cpu, WAIT_BARRIER, barrier)
    point(m, cpu, ARRIVED, barrier, generation)
    policy_away(m, cpu)
    enter_idle(m, cpu)
    turns = 0
    while smp_load_acquire(m.barrier.generation, barrier) == generation and not stopped(m):
        turns += 1
        if turns < m.config.spin[0]:
            cpu_relax()
        elif not EXPLORES and turns < m.config.spin[0] + BARRIER_YIELDS:
            sched_yield()
        else:
            wait_on_timeout(m, cpu, m.barrier.generation, m.barrier.sleepers, barrier, generation, 0)
    exit_idle(m, cpu)
    policy_back(m, cpu)
    waits_for(m, cpu, WAIT_NOTHING, 0)


@kernel
def follow(m, cpu, other, posts):
    """Wait until another CPU has posted so often; idle meanwhile. A short wait spins, a long one sleeps."""
    seen = smp_load_acquire(m.cpu.posts, other)
    if seen >= posts:
        return
    waits_for(m, cpu, WAIT_POST, other)
    enter_idle(m, cpu)
    turns = 0
    while seen < posts and not stopped(m):
        turns += 1
        if turns < m.config.spin[0]:
            cpu_relax()
        else:
            wait_on(m, cpu, m.cpu.posts, m.cpu.posts_sleepers, other, seen)
        seen = smp_load_acquire(m.cpu.posts, other)
    exit_idle(m, cpu)
    waits_for(m, cpu, WAIT_NOTHING, 0)


@kernel
def stepped(m, cpu, mm, op, addr, length, step, arg):
    """munmap or madvise, in calls of `step` bytes if that is not 0: 0 or the -errno of the first call that failed."""
    if step <= 0:
        step = length
    result = 0
    done = 0
    while True:
        size = min(step, length - done)
        if op == MUNMAP:
            error = do_munmap(m, cpu, mm, addr + done, size)
        elif arg == MADV_REMOVE:
            error = madvise_remove(m, cpu, mm, addr + done, size)
        else:
            error = do_madvise(m, cpu, mm, addr + done, size, arg)
        if result == 0:
            result = error
        done += size
        if done >= length or size <= 0 or not boundary(m, cpu):
            return result


@kernel
def compute(m, cpu, microseconds):
    """Touch no memory for a while; 0 or -EINTR."""
    until = now_ns(m, cpu) + microseconds * 1000
    while now_ns(m, cpu) < until:
        if not boundary(m, cpu):
            return -EINTR
        cpu_relax()
    return 0


@kernel
def execute(m, cpu, mm, pc):
    """Execute the instruction at `pc`, other than JUMP, STOP and EXIT: 0 or -errno."""
    op = m.insn.op[pc]
    addr = m.insn.addr[pc]
    length = m.insn.length[pc]
    step = m.insn.step[pc]
    arg = m.insn.arg[pc]
    if op == TOUCH or op == STORE:
        return touch(m, cpu, mm, addr, length, step, arg)
    if op == READ or op == LOAD:
        return read(m, cpu, mm, addr, length, step)
    if op == MMAP:
        error = do_mmap(m, cpu, mm, addr, length, arg & ~VM_HUGEPAGE, step, m.insn.more[pc])
        huge = error == 0 and arg & VM_HUGEPAGE
        return do_madvise(m, cpu, mm, addr, length, MADV_HUGEPAGE) if huge else error
    if op == MUNMAP or op == MADVISE:
        return stepped(m, cpu, mm, op, addr, length, step, arg)
    if op == BARRIER:
        barrier_wait(m, cpu, addr, arg)
        return 0
    if op == MARK:
        return 0
    if op == FOLLOW:
        follow(m, cpu, addr, arg)
        return 0
    if op == POST:
        wake_up(m, m.cpu.posts, m.cpu.posts_sleepers, cpu)
        return 0
    if op == MREMAP_CALL:
        return do_mremap_call(m, cpu, mm, addr, length, step, arg, m.insn.more[pc])
    return execute_more(m, cpu, mm, op, addr, length, step, arg)


@kernel
def execute_more(m, cpu, mm, op, addr, length, step, arg):
    """The instructions that only races, stress programs and traces use: 0 or -errno."""
    if op == MPROTECT:
        return do_mprotect(m, cpu, mm, addr, length, arg)
    if op == MLOCK:
        return do_mlock(m, cpu, mm, addr, length, lock_flags(arg))
    if op == MLOCKALL:
        return do_mlockall(m, cpu, mm, arg)
    if op == REAP:
        return reap(m, cpu)
    if op == FREE_PTES:
        policy_demand(m, cpu, mm)
        return 0
    if op == EXIT_CHILD:
        return exit_child(m, cpu, addr)
    if op == MREMAP:
        return do_mremap(m, cpu, mm, addr, length, arg)
    if op == MREMAP_FIXED:
        return do_mremap_fixed(m, cpu, mm, addr, length, arg)
    if op == PROCESS_MADVISE:
        return process_madvise(m, cpu, mm, addr, length, step, arg)
    if op == MINCORE:
        return do_mincore(m, cpu, mm, addr, length)
    if op == INSERT_PAGES:
        return insert_pages(m, cpu, mm, addr, length)
    if op == GUP:
        return gup(m, cpu, mm, addr, length, arg)
    if op == COMPUTE:
        return compute(m, cpu, arg)
    if op == DEVICE_REMOVE:
        return device_remove(m, cpu)
    return execute_file(m, cpu, mm, op, addr, length, step, arg)


@kernel
def execute_uffd(m, cpu, mm, op, addr, length, step, arg):
    """The instructions of userfaultfd: 0 or -errno."""
    if op == UFFD_REGISTER:
        return userfaultfd_register(m, cpu, mm, addr, length, step if step else VM_UFFD_MISSING, arg)
    if op == UFFD_UNREGISTER:
        return userfaultfd_register(m, cpu, mm, addr, length, 0, 0)
    if op == UFFD_COPY:
        return mfill_atomic(m, cpu, mm, addr, length, arg)
    if op == UFFD_WRITEPROTECT:
        return userfaultfd_writeprotect(m, cpu, mm, addr, length, arg != 0)
    if op == UFFD_MOVE:
        return move_pages(m, cpu, mm, addr, arg, length)
    return execute_walk(m, cpu, mm, op, addr, length, arg)


@kernel
def execute_walk(m, cpu, mm, op, addr, length, arg):
    """The instructions that walk page tables to look, or to change bits: 0 or -errno."""
    if op == SMAPS:
        return do_walk(m, cpu, mm, addr, length, WALK_SMAPS, arg)
    if op == PAGEMAP:
        return do_walk(m, cpu, mm, addr, length, WALK_PAGEMAP, arg)
    if op == PAGEMAP_COUNT:
        return do_walk(m, cpu, mm, addr, length, WALK_PAGEMAP_COUNT, arg)
    if op == COUNT_VMAS:
        return count_vmas(m, cpu, mm, addr, length)
    if op == MSEAL:
        return do_mseal(m, cpu, mm, addr, length)
    if op == ACCESS_VM:
        return access_remote_vm(m, cpu, mm, addr, length, arg)
    if op == CLEAR_REFS:
        return do_walk(m, cpu, mm, addr, length, WALK_CLEAR_SOFT_DIRTY if arg == 4 else WALK_CLEAR_REFS, arg)
    if op == MOVE_CHARGE:
        return do_walk(m, cpu, mm, addr, length, WALK_CHARGE, arg)
    return execute_reclaim(m, cpu, mm, op, addr, arg)


@kernel
def execute_file(m, cpu, mm, op, addr, length, step, arg):
    """The instructions on files: 0 or -errno."""
    if op == WRITEBACK:
        return write_cache_pages(m, cpu, addr, 0, m.config.file_pages[0])
    if op == TRUNCATE:
        return do_truncate(m, cpu, addr, arg)
    if op == RETRACT:
        return retract_page_tables(m, cpu, addr, 0, TASK_SIZE // PAGE)
    if op == PUNCH_HOLE:
        return punch_hole(m, cpu, addr, arg, length)
    if op == MSYNC:
        return do_msync(m, cpu, mm, addr, length, arg)
    return execute_uffd(m, cpu, mm, op, addr, length, step, arg)


@kernel
def execute_reclaim(m, cpu, mm, op, addr, arg):
    """What the kernel does to pages on its own account: 0 or -errno."""
    if op == SWAPOUT:
        shrink_anon(m, cpu, arg)
        return 0
    if op == SWAPOFF:
        return swapoff(m, cpu)
    if op == MIGRATE:
        return do_migrate(m, cpu, mm, addr, arg)
    if op == KSM:
        return ksm_merge(m, cpu, mm, addr, arg)
    if op == UPROBE:
        return uprobe(m, cpu, mm, addr)
    return -EINVAL


@kernel
def jump_target(m, cpu, pc):
    """Where a JUMP leads: its target, `arg` times over and then onwards; for ever if `arg` is 0."""
    target = m.cpu.insn_base[cpu] + m.insn.addr[pc]
    if m.insn.arg[pc] == 0:
        return target
    if m.insn.left[pc] == 0:
        m.insn.left[pc] = m.insn.arg[pc]
        return pc + 1
    m.insn.left[pc] -= 1
    return target


@kernel
def record(m, cpu, mm, row, error):
    """Note the mm's figures after an instruction."""
    m.record.pgtables_bytes[row] = read_once(m.mm.pgtables_bytes, mm)
    m.record.rss_anon[row] = read_once(m.mm.rss_anon, mm)
    m.record.minflt[row] = m.cpu.faults[cpu] - m.cpu.child_faults[cpu]
    m.record.error[row] = error
    m.record.value[row] = m.cpu.loaded[cpu]
    m.record.ended_ns[row] = now_ns(m, cpu)


@kernel
def record_child(m, mm, row, faults):
    """Note a child's figures."""
    m.record.child[row] = 1
    m.record.child_pgtables_bytes[row] = read_once(m.mm.pgtables_bytes, mm)
    m.record.child_rss_anon[row] = read_once(m.mm.rss_anon, mm)
    m.record.child_minflt[row] = faults


@kernel
def run_child(m, cpu, mm, pc):
    """Fork, and be the child for the instructions that belong to it: 0 or the -errno of the first that failed.

    The child is this CPU with another mm loaded; JUMP, EXIT, STOP and FORK it has none.
    """
    named = m.insn.addr[pc]
    if named != 0 and held_child(m, cpu, named) >= 0:
        return -EEXIST
    child = fork(m, cpu, mm)
    if child < 0:
        return child
    switch_mm(m, cpu, child)
    before = m.cpu.faults[cpu]
    result = 0
    for at in range(pc + 1, min(pc + 1 + m.insn.arg[pc], m.cpu.insn_end[cpu])):
        if not boundary(m, cpu):
            break
        m.cpu.pc[cpu] = at
        error = execute(m, cpu, child, at)
        sync_mm_rss(m, cpu, child)
        m.cpu.insns[cpu] += 1
        if result == 0:
            result = error
        if error != 0 and do_signal(m, cpu):
            break
    m.cpu.pc[cpu] = pc
    if m.insn.record[pc] >= 0:
        record_child(m, child, m.insn.record[pc], m.cpu.faults[cpu] - before)
    m.cpu.child_faults[cpu] += m.cpu.faults[cpu] - before
    if m.insn.op[pc] == FORK_HOLD:
        m.mm.held_by[child] = cpu + 1
        m.mm.name[child] = m.insn.addr[pc]
        switch_mm(m, cpu, mm)
    else:
        end_child(m, cpu, child, mm)
    return result


@kernel
def instruction_rows(m, pc):
    """How many rows the instruction at `pc` has: a fork has those of its child as well."""
    rows = 1
    if m.insn.op[pc] == IN_CHILD:
        rows += 1
        pc += 1
    if m.insn.op[pc] == FORK or m.insn.op[pc] == FORK_HOLD:
        rows += m.insn.arg[pc]
    return rows


@kernel
def run_in_child(m, cpu, mm, pc):
    """Be a child that stays for the instruction behind `pc`, which may be a fork: 0 or -errno.

    Its figures are its own: a child of its own has page faults of its own.
    """
    child = held_child(m, cpu, m.insn.addr[pc])
    if child < 0:
        m.cpu.loaded[cpu] = 0
        return child
    switch_mm(m, cpu, child)
    before = m.cpu.faults[cpu] - m.cpu.child_faults[cpu]
    forks = m.insn.op[pc + 1] == FORK or m.insn.op[pc + 1] == FORK_HOLD
    error = run_child(m, cpu, child, pc + 1) if forks else execute(m, cpu, child, pc + 1)
    sync_mm_rss(m, cpu, child)
    faults = m.cpu.faults[cpu] - m.cpu.child_faults[cpu] - before
    m.mm.minflt[child] += faults
    m.cpu.child_faults[cpu] += faults
    if m.insn.record[pc] >= 0:
        record_child(m, child, m.insn.record[pc], m.mm.minflt[child])
    m.cpu.insns[cpu] += 1
    switch_mm(m, cpu, mm)
    return error


@kernel
def run_instruction(m, cpu, mm, pc):
    """Execute the instruction at `pc`, with what belongs to it: 0 or -errno."""
    op = m.insn.op[pc]
    if op == FORK or op == FORK_HOLD:
        return run_child(m, cpu, mm, pc)
    if op == IN_CHILD:
        return run_in_child(m, cpu, mm, pc)
    return execute(m, cpu, mm, pc)


@kernel
def do_exit(m, cpu, mm):
    """The end of a program: its children go, and the mm with its last CPU."""
    reap(m, cpu)
    exit_mmap(m, cpu, mm)
    m.cpu.insns[cpu] += 1


@kernel
def run_program(m, cpu, mm):
    """Execute from `pc` on until the program ends or the run is stopped."""
    pc = m.cpu.insn_base[cpu]
    while boundary(m, cpu) and pc < m.cpu.insn_end[cpu]:
        m.cpu.pc[cpu] = pc
        policy_tick(m, cpu, mm)
        op = m.insn.op[pc]
        if op == JUMP:
            pc = jump_target(m, cpu, pc)
        elif op == STOP:
            return
        elif op == EXIT:
            do_exit(m, cpu, mm)
            return
        else:
            error = run_instruction(m, cpu, mm, pc)
            sync_mm_rss(m, cpu, mm)
            if error != 0 and error != -EINTR:
                m.cpu.errors[cpu] += 1
            if m.insn.record[pc] >= 0:
                record(m, cpu, mm, m.insn.record[pc], error)
            if error != 0 and do_signal(m, cpu):
                do_exit(m, cpu, mm)
                return
            pc += instruction_rows(m, pc)
        m.cpu.insns[cpu] += 1


@kernel
def finish(m, cpu):
    """The program of this CPU has ended: nobody waits for it any more."""
    policy_away(m, cpu)
    enter_idle(m, cpu)
    smp_store_release(m.cpu.finished, cpu, 1)
    coordinator_wake(m)


@entry_point
def run_cpu(m, cpu):
    """One CPU: wait for the start, run the program, go idle for good. Returns 0."""
    enter_idle(m, cpu)
    atomic_add(m.run.ready, 0, 1)
    while smp_load_acquire(m.run.start, 0) == 0 and not stopped(m):
        sleep_on(m, cpu, m.run.start, 0, 0, NAP_US)
    exit_idle(m, cpu)
    m.cpu.started_ns[cpu] = now_ns(m, cpu)
    run_program(m, cpu, m.cpu.mm[cpu])
    m.cpu.finished_ns[cpu] = now_ns(m, cpu)
    finish(m, cpu)
    return 0


@entry_point
def run_coordinator(m, me):
    """The coordinator: both agents, until every CPU has finished and every callback has run. Returns 0."""
    coordinator_loop(m, me)
    return 0


@entry_point
def start_machine(m, me):
    """Let the CPUs go. Called by the parent."""
    m.run.start_ns[0] = now_ns(m, me)
    m.run.start_cycles[0] = get_cycles(m, me)
    smp_store_release(m.run.start, 0, 1)
    wake_all(m, m.run.start, 0)
    return 0


@entry_point
def report_no_progress(m, cpu):
    """Enter as a violation that `cpu` stands still, unless there is one already. Called by the parent."""
    if cmpxchg(m.run.bug, 0, 0, BUG_NO_PROGRESS) == 0:
        m.run.bug_cpu[0] = cpu
        m.run.bug_subject[0] = cpu
        m.run.bug_cycles[0] = get_cycles(m, m.config.n_cpu[0])
        m.run.bug_ns[0] = now_ns(m, m.config.n_cpu[0])
    return 0


@entry_point
def stop_machine(m, me):
    """Ask every CPU to stop at its next boundary. Called by the parent."""
    smp_store_release(m.run.stop, 0, 1)
    wake_all(m, m.run.start, 0)
    for barrier in range(NR_BARRIERS):
        wake_up(m, m.barrier.generation, m.barrier.sleepers, barrier)
    return 0
