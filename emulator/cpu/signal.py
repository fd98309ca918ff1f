"""Signals: what a page fault that cannot be resolved is for the thread that made it.

    the access                                       signal     code
    ==========                                       ======     ====
    lies outside of every VMA, or meets a guard      SIGSEGV    SEGV_MAPERR
    is not what the VMA allows                       SIGSEGV    SEGV_ACCERR
    lies past the end of the file                    SIGBUS     BUS_ADRERR
    gets no memory, and reclaim finds none           SIGKILL    SI_KERNEL, the OOM killer's

A CPU notes its first signal and its latest. The instruction ends with -errno, and the thread goes on with the next one,
as under a handler that skips the access. With config.fatal_signals its program ends as by EXIT. Linux would end the
other threads of the process, too, and its OOM killer choose a victim by size. Here it is always the thread that asked.

Source: mm_fault_error, bad_area, do_sigbus, arch/x86/mm/fault.c.
"""

from emulator.atomic import kernel
from emulator.uapi import (
    BUS_ADRERR,
    EACCES,
    EBUS,
    EFAULT,
    ENOMEM,
    SEGV_ACCERR,
    SEGV_MAPERR,
    SI_KERNEL,
    SIGBUS,
    SIGKILL,
    SIGSEGV,
)
from emulator.watch.lockdep import might_sleep


@kernel
def note_signal(m, cpu, mm, row, signo, code, addr):
    """Fill a row of `m.siginfo`."""
    m.siginfo.signo[row] = signo
    m.siginfo.code[row] = code
    m.siginfo.addr[row] = addr
    m.siginfo.mm[row] = mm
    m.siginfo.pc[row] = m.cpu.pc[cpu]


@kernel
def force_sig_fault(m, cpu, mm, signo, code, addr):
    """This CPU's thread gets a signal for an access to `addr`. Row 2 * cpu is its first, the one behind its latest."""
    if m.siginfo.signo[2 * cpu] == 0:
        note_signal(m, cpu, mm, 2 * cpu, signo, code, addr)
    note_signal(m, cpu, mm, 2 * cpu + 1, signo, code, addr)
    m.cpu.sigpending[cpu] = signo


@kernel
def mm_fault_error(m, cpu, mm, addr, error):
    """The signal for a fault that ended with `error`; what its instruction ends with, -EFAULT for either SIGSEGV.

    Locking: caller must hold no lock.
    """
    might_sleep(m, cpu)
    if error == -ENOMEM:
        m.cpu.oom_kills[cpu] += 1
        force_sig_fault(m, cpu, mm, SIGKILL, SI_KERNEL, addr)
    elif error == -EBUS:
        m.cpu.sigbus[cpu] += 1
        force_sig_fault(m, cpu, mm, SIGBUS, BUS_ADRERR, addr)
    elif error == -EACCES or error == -EFAULT:
        m.cpu.sigsegv[cpu] += 1
        force_sig_fault(m, cpu, mm, SIGSEGV, SEGV_ACCERR if error == -EACCES else SEGV_MAPERR, addr)
        return -EFAULT
    return error


@kernel
def do_signal(m, cpu):
    """Before the next instruction: take the signal of the last one, if there is one; True if it ends the program."""
    fatal = m.cpu.sigpending[cpu] != 0 and m.config.fatal_signals[0] != 0
    m.cpu.sigpending[cpu] = 0
    return fatal
