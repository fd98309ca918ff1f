"""The compiler of engine `native`: numba compiles kernels, and their primitives are LLVM atomic instructions.

`m` is one typed pointer. Numba knows the layout of `mm_types.VIEWS`, so `m.ptdesc.pte_refcount[t]` compiles to the
view's base plus constants plus `t` strides. The base is one load from the segment's header, which never changes. A
tuple of record arrays does the same thing 40 times slower once calls are not inlined.

Plain accesses compile to plain loads and stores: a loop that waits for another process must use the primitives.
"""

from __future__ import annotations

import operator
import platform
from collections.abc import Callable, Iterable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager
from numba.core.imputils import lower_builtin, lower_getattr_generic
from numba.core.typing.templates import (
    AbstractTemplate,
    AttributeTemplate,
    infer_getattr,
    infer_global,
    signature,
)
from numba.extending import intrinsic, models, register_model

from emulator import engine
from emulator.engines import bodies
from emulator.engines.whole_program import machine_code, whole_program
from emulator.mm_types import VIEWS, WORD

_I8P, _I32, _I64 = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)
_BODIES_APART = engine.compiles(engine.BODIES)
_calls: set[str] = set()  # names of the kernels that stay calls


class _Passes(CompilerBase):  # type: ignore[misc]
    """Numba's passes without those that find nothing in a kernel: closures, arrays, exceptions, generators."""

    needless = (
        "inline_closure_likes", "make_function_op_code_to_jit_function", "inline_inlinables", "inline_overloads",
        "find_literally", "literal_unroll", "LiteralPropagation", "with_lifting", "Rewrite dynamic raises",
        "generic_rewrites", "nopython_rewrites", "nopython_supported_feature_validation", "dump_parfor_diagnostics",
    )  # fmt: skip

    def define_pipelines(self) -> list[PassManager]:
        """The one pipeline there is."""
        passes = PassManager("kernel")
        for one, text in DefaultPassBuilder.define_nopython_pipeline(self.state).passes:
            if one.name() not in self.needless:
                passes.add_pass(one, text)
        passes.finalize()
        return [passes]


_OPTIONS: dict[str, Any] = {
    "pipeline_class": _Passes,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}


class SegmentType(types.Type):
    """The numba type of `m`."""

    def __init__(self) -> None:
        super().__init__("Segment")


class ViewType(types.Type):
    """The numba type of `m.view` for views with named fields."""

    def __init__(self, view: str) -> None:
        self.view = view
        super().__init__(f"View({view})")


class FieldType(types.Type):
    """The numba type of `m.view.field`: a strided vector of int64; `within` a body it is 512 entries side by side."""

    def __init__(self, view: str, field: str, within: bool = False) -> None:
        dtype = VIEWS[view][0].dtype
        self.stride = dtype.itemsize
        self.apart = view == "entry" and not within and _BODIES_APART
        super().__init__(f"Field({view}.{field}){' within a body' * within}")


class _Pointer(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _I8P)


for _type in (SegmentType, ViewType, FieldType):
    register_model(_type)(_Pointer)


@infer_getattr
class _SegmentAttributes(AttributeTemplate):
    key = SegmentType

    def generic_resolve(self, typ: Any, name: str) -> Any:
        if name not in VIEWS:
            return None
        return FieldType(name, "word") if VIEWS[name][0] is WORD else ViewType(name)


@infer_getattr
class _ViewAttributes(AttributeTemplate):
    key = ViewType

    def generic_resolve(self, typ: Any, name: str) -> Any:
        return FieldType(typ.view, name) if name in VIEWS[typ.view][0].comments else None


@lower_getattr_generic(SegmentType)
def _lower_view(context: Any, builder: Any, typ: Any, value: Any, name: str) -> Any:
    return value if name == "entry" and _BODIES_APART else bodies.view(builder, value, name)


@lower_getattr_generic(ViewType)
def _lower_field(context: Any, builder: Any, typ: Any, value: Any, name: str) -> Any:
    return builder.gep(value, [ir.Constant(_I64, VIEWS[typ.view][0].offsets[name])])


@infer_global(operator.getitem)
class _GetItem(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if len(args) == 2 and isinstance(args[0], FieldType):
            return signature(types.int64, args[0], types.intp)
        return None


@infer_global(operator.setitem)
class _SetItem(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if len(args) == 3 and isinstance(args[0], FieldType):
            return signature(types.none, args[0], types.intp, types.int64)
        return None


def _word(builder: Any, typ: FieldType, base: Any, index: Any, stored: Any = None) -> Any:
    """Pointer to element `index` of a field, where this value may be about to be `stored`."""
    if typ.apart:
        return bodies.locate(builder, base, index, stored)
    at = builder.gep(base, [builder.mul(index, ir.Constant(_I64, typ.stride))])
    return builder.bitcast(at, _I64.as_pointer())


@lower_builtin(operator.getitem, FieldType, types.Integer)
def _lower_getitem(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.load(_word(builder, sig.args[0], *args))


@lower_builtin(operator.setitem, FieldType, types.Integer, types.Integer)
def _lower_setitem(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    builder.store(args[2], _word(builder, sig.args[0], *args))
    return context.get_dummy_value()


# --- the decorators -------------------------------------------------------------------------------------------------


def _of_words(dispatcher: Any) -> Any:
    """Compile a kernel once, whatever its numbers are at the call: constant, boolean or int64."""
    fold = dispatcher._compiler.fold_argument_types

    def fold_to_words(args: Any, kws: Any) -> Any:
        signature, folded = fold(args, kws)
        number = (types.Integer, types.Boolean)
        return signature, tuple(types.int64 if isinstance(one, number) else one for one in folded)

    dispatcher._compiler.fold_argument_types = fold_to_words
    return dispatcher


def kernel(function: Any) -> Any:
    """A kernel that is called: about 3 ns, and its code is there once."""
    _calls.add(function.__qualname__)
    return _of_words(njit(forceinline=False, **_OPTIONS)(function))  # said, or it takes the caller's choice


def kernel_inline(function: Any) -> Any:
    """A kernel on the fault path, copied into its callers."""
    return _of_words(njit(forceinline=True, **_OPTIONS)(function))


def compile_entry_points(functions: Iterable[Callable[..., Any]]) -> bytes:
    """The object code of functions f(m, *numbers) -> number, by their names, and of all that they call."""
    compiled = []
    with whole_program(frozenset(), frozenset(_calls)):
        for function in functions:
            dispatcher = njit(forceinline=False, **_OPTIONS)(function)
            dispatcher.compile((SegmentType(), *[types.int64] * (function.__code__.co_argcount - 1)))
            compiled.append(next(iter(dispatcher.overloads.values())))
        return machine_code(compiled)


# --- the primitives; atomic.py says what each means -----------------------------------------------------------------


def _field_op(returns: Any, n_values: int, emit: Any) -> Any:
    """An intrinsic f(field, index, *values) whose body is emit(builder, pointer, *values)."""

    def type_and_emit(field: Any, values: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            stored = args[-1] if n_values else None
            result = emit(builder, _word(builder, sig.args[0], args[0], args[1], stored), *args[2:])
            return context.get_dummy_value() if returns is types.void else result

        return returns(field, types.intp, *values), codegen

    if n_values == 0:

        @intrinsic
        def op(typingctx, field, index):  # type: ignore[no-untyped-def]
            return type_and_emit(field, ())
    elif n_values == 1:

        @intrinsic
        def op(typingctx, field, index, value):  # type: ignore[no-untyped-def]
            return type_and_emit(field, (types.int64,))
    else:

        @intrinsic
        def op(typingctx, field, index, old, new):  # type: ignore[no-untyped-def]
            return type_and_emit(field, (types.int64, types.int64))

    return op


def _fence(ordering: str, scope: str | None = None) -> Any:
    @intrinsic
    def fence(typingctx):  # type: ignore[no-untyped-def]
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            builder.fence(ordering, scope)
            return context.get_dummy_value()

        return types.void(), codegen

    return fence


read_once = _field_op(types.int64, 0, lambda b, p: b.load_atomic(p, "monotonic", 8))
write_once = _field_op(types.void, 1, lambda b, p, v: b.store_atomic(v, p, "monotonic", 8))
smp_load_acquire = _field_op(types.int64, 0, lambda b, p: b.load_atomic(p, "acquire", 8))
smp_store_release = _field_op(types.void, 1, lambda b, p, v: b.store_atomic(v, p, "release", 8))
atomic_add = _field_op(types.void, 1, lambda b, p, v: b.atomic_rmw("add", p, v, "seq_cst"))
atomic_fetch_add = _field_op(types.int64, 1, lambda b, p, v: b.atomic_rmw("add", p, v, "seq_cst"))
atomic_add_return = _field_op(types.int64, 1, lambda b, p, v: b.add(b.atomic_rmw("add", p, v, "seq_cst"), v))
xchg = _field_op(types.int64, 1, lambda b, p, v: b.atomic_rmw("xchg", p, v, "seq_cst"))
cmpxchg = _field_op(
    types.int64, 2, lambda b, p, old, new: b.extract_value(b.cmpxchg(p, old, new, "seq_cst", "seq_cst"), 0)
)
_address = _field_op(types.int64, 0, lambda b, p: b.ptrtoint(p, _I64))
smp_mb, smp_rmb, smp_wmb = _fence("seq_cst"), _fence("acquire"), _fence("release")
_X86 = platform.machine() in ("x86_64", "AMD64")
# there every read-modify-write is a full barrier: only the compiler must be told, and no instruction comes of it
smp_mb__before_atomic = smp_mb__after_atomic = _fence("seq_cst", "singlethread" if _X86 else None)
data_race = _field_op(types.int64, 0, lambda b, p: b.load(p))  # plain: gone if nobody looks at it


@intrinsic
def _within(typingctx, field, index):  # type: ignore[no-untyped-def]
    """What follows element `index` of a field: entries of one table, wherever they lie."""
    after = FieldType("entry", "word", within=True) if getattr(field, "apart", False) else field

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(_word(builder, sig.args[0], *args), _I8P)

    return after(field, types.intp), codegen


@kernel_inline
def memset(field, i, n, value):  # type: ignore[no-untyped-def]
    """Plain stores to n elements."""
    first = _within(field, i)
    for at in range(n):
        first[at] = value


@kernel_inline
def or_words(field, i, n):  # type: ignore[no-untyped-def]
    """Plain loads of n elements, or-ed together."""
    first = _within(field, i)
    words = 0
    for at in range(n):
        words |= first[at]
    return words


@intrinsic
def cpu_relax(typingctx):  # type: ignore[no-untyped-def]
    """One pause, where the processor has it."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if _X86:
            pause = builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), ir.FunctionType(ir.VoidType(), ()))
            builder.call(pause, ())
        else:
            builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


_raise = types.ExternalFunction("raise", types.int32(types.int32))
_syscall6 = types.ExternalFunction("syscall", types.int64(*[types.int64] * 7))
_sched_yield = types.ExternalFunction("sched_yield", types.int32())
_clock_gettime = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.int64))
_SYS_FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine(), 202)
_FUTEX_WAIT, _FUTEX_WAKE, _CLOCK_MONOTONIC = 0, 1, 1


@kernel
def sched_yield() -> None:
    """Let another process have the processor."""
    _sched_yield()


@kernel
def raise_signal(number) -> None:  # type: ignore[no-untyped-def]
    """Send this process a signal."""
    _raise(number)


@kernel
def now_ns(m, cpu):  # type: ignore[no-untyped-def]
    """Monotonic time in nanoseconds, through this CPU's scratch words."""
    _clock_gettime(_CLOCK_MONOTONIC, _address(m.cpu.time_sec, cpu))
    return read_once(m.cpu.time_sec, cpu) * 1_000_000_000 + read_once(m.cpu.time_nsec, cpu)


@intrinsic
def _read_cycle_counter(typingctx):  # type: ignore[no-untyped-def]
    """The processor's cycle counter (rdtsc)."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        read = builder.module.declare_intrinsic("llvm.readcyclecounter", (), ir.FunctionType(_I64, ()))
        return builder.call(read, ())

    return types.int64(), codegen


@kernel_inline
def get_cycles(m, cpu):  # type: ignore[no-untyped-def]
    """Cycles of a clock that all processors share, or nanoseconds where there is none."""
    if _X86:  # elsewhere the counter may be forbidden to user space
        return _read_cycle_counter()
    return now_ns(m, cpu)


@kernel
def sleep_on(m, cpu, field, i, value, microseconds):  # type: ignore[no-untyped-def]
    """Sleep while field[i] == value, until wake_all or the timeout (0: none); may return early.

    A futex on the low 32 bits.
    """
    timeout = 0
    if microseconds != 0:
        write_once(m.cpu.timeout_sec, cpu, microseconds // 1_000_000)
        write_once(m.cpu.timeout_nsec, cpu, microseconds % 1_000_000 * 1000)
        timeout = _address(m.cpu.timeout_sec, cpu)
    _syscall6(_SYS_FUTEX, _address(field, i), _FUTEX_WAIT, value & 0xFFFFFFFF, timeout, 0, 0)


@kernel
def wake_all(m, field, i):  # type: ignore[no-untyped-def]
    """Wake every process asleep on field[i]."""
    _syscall6(_SYS_FUTEX, _address(field, i), _FUTEX_WAKE, 0x7FFFFFFF, 0, 0, 0)


# --- real memory, for the loops on this host's kernel (workers/host/host_loop.py) -------------------------------------


@intrinsic
def write_byte(typingctx, address):  # type: ignore[no-untyped-def]
    """Store 1 to the byte at a real address: once, where it stands."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        byte = ir.IntType(8)
        builder.store_atomic(ir.Constant(byte, 1), builder.inttoptr(args[0], byte.as_pointer()), "monotonic", 1)
        return context.get_dummy_value()

    return types.void(types.int64), codegen


madvise = types.ExternalFunction("madvise", types.int32(types.int64, types.int64, types.int32))
