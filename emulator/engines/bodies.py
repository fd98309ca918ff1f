"""Entries apart from the tables they are of, for machines with many tables and few entries (engine `native`).

A table is 4 kB even when all its entries are none. In this build `m.entry[i]` goes through `m.body`. That says for each
table which row of `entry` has its entries: 0, a row of zeros, while all of them are none. A row is taken at the first
store that is not zero, inside of the access; pages/bodies.py gives it back. Kernels do not notice.

Nobody may read entries of a table whose body another CPU gives back: such a machine has one CPU.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from emulator.mm_types import BODIES, BODY_CHANGE, PTRS_PER_TABLE, VIEWS

_I8P, _I64 = ir.IntType(8).as_pointer(), ir.IntType(64)
_VIEW_NUMBER = {name: number for number, name in enumerate(VIEWS)}
_TAKE = "ptelab_take_body"


def _words(*values: int) -> list[Any]:
    return [ir.Constant(_I64, value) for value in values]


def view(builder: Any, m: Any, name: str) -> Any:
    """Where a view begins. The offset is one load from the segment's header, which never changes."""
    slot = builder.gep(m, _words(8 * _VIEW_NUMBER[name]))
    offset = builder.load(builder.bitcast(slot, _I64.as_pointer()))
    offset.set_metadata("invariant.load", builder.module.add_metadata([]))
    return builder.gep(m, [offset])


def _word(builder: Any, m: Any, name: str, index: Any) -> Any:
    """Pointer to element `index` of a view of words."""
    return builder.gep(builder.bitcast(view(builder, m, name), _I64.as_pointer()), [index])


def locate(builder: Any, m: Any, index: Any, stored: Any) -> Any:
    """Pointer to entry `index`, in a body of its table if `stored` is a value that is not zero."""
    shift, mask, size, none = _words(PTRS_PER_TABLE.bit_length() - 1, PTRS_PER_TABLE - 1, PTRS_PER_TABLE, 0)
    table = builder.lshr(index, shift)
    body = builder.load(_word(builder, m, "body", table))
    if stored is not None:
        missing = builder.and_(builder.icmp_signed("==", body, none), builder.icmp_signed("!=", stored, none))
        there = builder.block
        with builder.if_then(missing, likely=False):
            taken, taking = builder.call(_take(builder.module), [m, table]), builder.block
        merged = builder.phi(_I64)
        merged.add_incoming(body, there)
        merged.add_incoming(taken, taking)
        body = merged
    return _word(builder, m, "entry", builder.add(builder.mul(body, size), builder.and_(index, mask)))


def _take(module: Any) -> Any:
    """The function that gives a table a body: one that was given back, else one that was never used; else it traps.

    The caller holds the ptl of the table, or nobody else can come to it.
    """
    if _TAKE in module.globals:
        return module.globals[_TAKE]
    function = ir.Function(module, ir.FunctionType(_I64, [_I8P, _I64]), _TAKE)
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    m, table = function.args
    begin, look, pop, fresh, none, give = (
        function.append_basic_block(name) for name in ("begin", "look", "pop", "fresh", "none", "give")
    )
    builder = ir.IRBuilder(begin)
    base = view(builder, m, "bodies")
    free, count, limit = (
        builder.bitcast(builder.gep(base, _words(BODIES.offsets[name])), _I64.as_pointer())
        for name in ("free", "fresh", "limit")
    )
    zero, one, low, change = _words(0, 1, BODY_CHANGE - 1, BODY_CHANGE)
    builder.branch(look)

    builder.position_at_end(look)
    head = builder.load_atomic(free, "acquire", 8)
    first = builder.and_(head, low)
    builder.cbranch(builder.icmp_signed("==", first, zero), fresh, pop)

    builder.position_at_end(pop)  # the count of changes tells a list that others have changed and changed back
    following = builder.load_atomic(_word(builder, m, "body_next", first), "monotonic", 8)
    changed = builder.or_(builder.and_(builder.add(head, change), builder.not_(low)), following)
    swapped = builder.cmpxchg(free, head, changed, "seq_cst", "seq_cst")
    builder.cbranch(builder.extract_value(swapped, 1), give, look)

    builder.position_at_end(fresh)
    never_used = builder.atomic_rmw("add", count, one, "seq_cst")
    builder.cbranch(builder.icmp_signed("<", never_used, builder.load(limit)), give, none)

    builder.position_at_end(none)  # the machine was given too few: its process dies, and says so
    builder.call(module.declare_intrinsic("llvm.trap", (), ir.FunctionType(ir.VoidType(), ())), ())
    builder.unreachable()

    builder.position_at_end(give)
    body = builder.phi(_I64)
    body.add_incoming(first, pop)
    body.add_incoming(never_used, fresh)
    builder.store(body, _word(builder, m, "body", table))
    builder.ret(body)
    return function
