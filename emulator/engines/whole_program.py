"""Compile all kernels as one program.

Numba makes a finished library of every function: it links everything the function calls, optimizes all of it and emits
machine code. For a hundred small kernels that call each other that is five minutes. Linked and optimized once, in the
entry point, it is seconds, and the optimizer sees the same program. Kernels raise nothing, so they need none of what
numba's calls carry for that: they return a value in a register, and no status (KernelCallConv). This is the one place
that reaches into numba's private parts (of numba.core: codegen, callconv, event, targetconfig; numba.np.linalg;
versions 0.60 to 0.68).
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from llvmlite import ir
from llvmlite.binding import Linkage, address_of_symbol, parse_assembly
from numba.core import event, types
from numba.core.callconv import RETCODE_NONE, RETCODE_OK, CPUCallConv, Status, excinfo_ptr_t
from numba.core.codegen import JITCodeLibrary
from numba.core.cpu import CPUContext
from numba.core.registry import cpu_target
from numba.core.targetconfig import TargetConfig
from numba.np import linalg

_LINKED_APART = 32  # modules, before they are linked with the others: LLVM looks at all of the larger one each time


class LinkError(Exception):
    """A program that is not whole."""


class _KernelLibrary(JITCodeLibrary):  # type: ignore[misc]
    """A library that is finished only if its function is an entry point."""

    entry_points: frozenset[str] = frozenset()
    calls: frozenset[str] = frozenset()

    def add_llvm_module(self, module: Any) -> None:
        self._final_module.link_in(module)  # the entry point optimizes it

    def finalize(self) -> None:
        if self.name in self.entry_points:
            self._linking_libraries = _everything_below(self)
            self._exported = {function.name for function in self._final_module.functions}
            super().finalize()
            return
        self._raise_if_finalized()
        if self.name in self.calls:
            for function in self._final_module.functions:
                if not function.is_declaration:
                    function.add_function_attribute("noinline")
        self._finalized = True  # what it calls is linked by the entry point

    def _optimize_final_module(self) -> None:
        """Optimize all that was linked. Nobody outside calls a kernel, so LLVM may change its arguments."""
        for function in self._final_module.functions:
            if not function.is_declaration and function.name in self._exported:
                function.linkage = "external"
            elif not function.is_declaration:
                function.linkage = "internal"
                function.name = f"{self.name}.{function.name}"  # the loader takes the first of a name, internal or not
        super()._optimize_final_module()

    def _get_module_for_linking(self) -> Any:
        """What others link, whether or not they call it yet. Numba makes a copy of the module for it."""
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage in (Linkage.external, Linkage.linkonce_odr):
                function.linkage = "weak_odr"
        return self._final_module

    def get_pointer_to_function(self, name: str) -> int:
        return super().get_pointer_to_function(name) if self.name in self.entry_points else 0


class KernelCallConv(CPUCallConv):  # type: ignore[misc]
    """How kernels are called: arguments and the value in registers. A kernel that would raise stops the process.

    Functions of numba's own stay as numba calls them, for it keeps them, and calls them from elsewhere too.
    """

    numbas = False  # the function whose type is asked for is numba's own

    @staticmethod
    def _raises(function: Any) -> bool:
        """True for a function that has numba's own convention: its second argument is where an exception goes."""
        return function.function_type.args[1:2] == (ir.PointerType(excinfo_ptr_t),)

    def get_function_type(self, restype: Any, argtypes: Any) -> Any:
        """The LLVM type of a function."""
        if self.numbas:
            return super().get_function_type(restype, argtypes)
        return ir.FunctionType(self.get_return_type(restype).pointee, self._get_arg_packer(argtypes).argument_types)

    def decorate_function(self, fn: Any, args: Any, fe_argtypes: Any, noalias: bool = False) -> None:
        """Name the arguments."""
        if self._raises(fn):
            super().decorate_function(fn, args, fe_argtypes, noalias)
        else:
            self._get_arg_packer(fe_argtypes).assign_names(fn.args, ["arg." + name for name in args])

    def get_arguments(self, func: Any) -> Any:
        """The arguments of the Python function."""
        return super().get_arguments(func) if self._raises(func) else func.args

    def return_value(self, builder: Any, retval: Any) -> None:
        """Return a value."""
        if self._raises(builder.function):
            super().return_value(builder, retval)
        else:
            builder.ret(retval)

    def _return_errcode_raw(self, builder: Any, code: Any) -> None:
        if self._raises(builder.function):
            super()._return_errcode_raw(builder, code)
        elif code is RETCODE_NONE:
            builder.ret(ir.Constant(builder.function.function_type.return_type, None))
        else:
            self._stop(builder)

    def return_user_exc(self, builder: Any, *args: Any, **keywords: Any) -> None:
        """Raise, where that can be; else end the process."""
        if self._raises(builder.function):
            super().return_user_exc(builder, *args, **keywords)
        else:
            self._stop(builder)

    def return_status_propagate(self, builder: Any, status: Any) -> None:
        """Pass an exception on, where that can be; else end the process."""
        if self._raises(builder.function):
            super().return_status_propagate(builder, status)
        else:
            self._stop(builder)

    @staticmethod
    def _stop(builder: Any) -> None:
        trap = builder.module.declare_intrinsic("llvm.trap", (), ir.FunctionType(ir.VoidType(), ()))
        builder.call(trap, ())
        builder.unreachable()

    def call_function(
        self, builder: Any, callee: Any, resty: Any, argtys: Any, args: Any, attrs: Any = None
    ) -> tuple[Any, Any]:
        """Call `callee`. Returns its status, which is always fine if it is a kernel, and the value."""
        if self._raises(callee):
            found: tuple[Any, Any] = super().call_function(builder, callee, resty, argtys, args, attrs)
            return found
        value = builder.call(callee, list(self._get_arg_packer(argtys).as_arguments(builder, args)))
        yes, no = ir.Constant(ir.IntType(1), 1), ir.Constant(ir.IntType(1), 0)
        none = yes if resty == types.none else no
        status = Status(
            code=RETCODE_OK,
            is_ok=yes,
            is_none=none,
            is_error=no,
            is_stop_iteration=no,
            is_python_exc=no,
            is_user_exc=no,
            excinfoptr=ir.Constant(excinfo_ptr_t, ir.Undefined),
        )
        return status, self.context.get_returned_value(builder, resty, value)


def _by_its_own(method: Any) -> Any:
    """A method of numba's context, which is about a function, with the convention of that function."""

    def with_convention(context: Any, about: Any, function: Any, *args: Any, **keywords: Any) -> Any:
        before, KernelCallConv.numbas = KernelCallConv.numbas, function.modname.startswith("numba.")
        try:
            return method(context, about, function, *args, **keywords)
        finally:
            KernelCallConv.numbas = before

    return with_convention


@contextlib.contextmanager
def _kernel_calls() -> Iterator[None]:
    """Inside this block kernels are compiled, and called, by KernelCallConv."""
    names = ("call_conv", "declare_function", "create_cpython_wrapper")
    inherited = {name: vars(CPUContext).get(name) for name in names}
    CPUContext.call_conv = property(KernelCallConv)
    for name in names[1:]:
        setattr(CPUContext, name, _by_its_own(getattr(CPUContext, name)))
    try:
        yield
    finally:
        for name, value in inherited.items():
            if value is None:
                delattr(CPUContext, name)
            else:
                setattr(CPUContext, name, value)


def _flags_equal(ours: TargetConfig, others: Any) -> Any:
    if isinstance(others, TargetConfig) and ours._values == others._values:
        return True
    return _by_value(ours, others)


_by_value = TargetConfig.__eq__


@contextlib.contextmanager
def _quick_compiler() -> Iterator[None]:
    """Inside this block numba does not keep the time of each nested compilation, and sees at once that flags are equal.

    It compares them, option by option, a hundred thousand times for a program. Together that is a seventh of its time.
    """
    install_timer, its_hash = event.install_timer, TargetConfig.__hash__
    event.install_timer = lambda kind, callback: contextlib.nullcontext()
    TargetConfig.__eq__ = _flags_equal  # type: ignore[method-assign]
    TargetConfig.__hash__ = lambda flags: 0  # type: ignore[method-assign]
    try:
        yield
    finally:
        event.install_timer = install_timer
        TargetConfig.__eq__, TargetConfig.__hash__ = _by_value, its_hash  # type: ignore[method-assign]


def _everything_below(library: Any) -> list[Any]:
    """The libraries that `library` needs, directly or not."""
    found: dict[Any, None] = {}

    def visit(one: Any) -> None:
        if one not in found:
            for needed in one._linking_libraries:
                visit(needed)
            found[one] = None

    visit(library)
    return list(found)[:-1]


def _whole(library: Any) -> Any:
    """The module of a library, all of which is linked, also what is called by modules that are linked after it."""
    module = library._get_module_for_linking()
    if isinstance(library, _KernelLibrary):
        return module
    module = module.clone()  # a library that numba has made for others before: it keeps its own
    for function in module.functions:
        if not function.is_declaration and function.linkage is Linkage.linkonce_odr:
            function.linkage = "weak_odr"
    return module


def _check_linked(module: Any) -> None:
    """Raises LinkError for a function that is called and is nowhere: the loader would put a call of 0 in its place."""
    declared = {function.name for function in module.functions if function.is_declaration}
    missing = sorted(name for name in declared if not name.startswith("llvm.") and address_of_symbol(name) is None)
    if missing:
        raise LinkError(f"called, and linked from nowhere: {', '.join(missing)}")


def machine_code(functions: Sequence[Any]) -> bytes:
    """The object code of functions compiled inside of whole_program, by their Python names, and of all they call.

    Nobody outside calls a kernel, so LLVM may change its arguments. Raises LinkError.
    """
    codegen = cpu_target.target_context.codegen()
    program = codegen.create_library("program")
    names = {function.fndesc.llvm_func_name: function.fndesc.qualname for function in functions}
    for function in functions:
        program.add_linking_library(function.library)
    modules = [_whole(library) for library in _everything_below(program)]
    for at in range(0, len(modules), _LINKED_APART):
        part = parse_assembly("")
        for module in modules[at : at + _LINKED_APART]:
            part.link_in(module, preserve=True)
        program._final_module.link_in(part)
    program._exported = set(names)
    program._optimize_final_module()
    for mangled, name in names.items():
        program._final_module.get_function(mangled).name = name
    _check_linked(program._final_module)
    code: bytes = codegen._tm.emit_object(program._final_module)
    return code


def _arrays_without_scipy() -> None:
    """Import numba's functions of arrays: it loads scipy.linalg to see if it is there, a third of a warm start.

    What needs it still loads it when it is compiled.
    """
    ensure_blas = linalg.ensure_blas
    if find_spec("scipy") is not None:
        linalg.ensure_blas = lambda: None
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        linalg.ensure_blas = ensure_blas


@contextlib.contextmanager
def whole_program(entry_points: frozenset[str], calls: frozenset[str], kernels: bool = True) -> Iterator[None]:
    """Inside this block numba links and optimizes only `entry_points`; functions named in `calls` stay calls.

    Without `kernels` functions may raise: they are called as numba calls them.
    """
    _arrays_without_scipy()
    codegen = cpu_target.target_context.codegen()
    library_class, set_env = codegen._library_class, codegen.set_env

    def set_env_if_linked(name: str, environment: Any) -> None:
        if codegen._engine.is_symbol_defined(name):
            set_env(name, environment)

    _KernelLibrary.entry_points, _KernelLibrary.calls = entry_points, calls
    codegen._library_class, codegen.set_env = _KernelLibrary, set_env_if_linked
    try:
        with _quick_compiler(), _kernel_calls() if kernels else contextlib.nullcontext():
            yield
    finally:
        codegen._library_class = library_class
        del codegen.set_env
