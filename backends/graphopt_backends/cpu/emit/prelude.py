"""What a translation unit declares before its function: vector types and the inline helpers used.

A helper is a C template with `$` names. `$F` is the type it is made for, `$I` the integers of that
width, `$other` the C name of another helper for the same type, which is thereby declared first.

A vector whose lanes are no power of two lies in a register of the next one. Nothing is known of the
lanes it leaves over, and what touches memory or crosses lanes (`PARTIAL`) leaves them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from string import Template

from graphopt.errors import InternalError
from graphopt.ir.types import DType
from graphopt_backends.cpu.emit.ctypes import C_TYPE, mask_dtype, memory_dtype, register_lanes

INLINE = "static inline "
VECTOR_INLINE = "static inline __attribute__((always_inline, unused)) "

Maker = Callable[[DType, int, "Prelude"], str]
"""(dtype, lanes, prelude) → template. It may ask the prelude for types the template names."""


class Prelude:
    """Collects what the text written so far needs, in an order in which it compiles."""

    def __init__(self, prefix: str = "go") -> None:
        self.prefix = prefix
        self._types: dict[str, str] = {}
        self._functions: dict[str, str] = {}
        self._prototypes: dict[str, str] = {}

    def type(self, dtype: DType, lanes: int) -> str:
        """The C name of a value type; vectors are declared."""
        if lanes == 1:
            return C_TYPE[dtype]
        dtype, lanes = memory_dtype(dtype), register_lanes(lanes)
        name = f"{dtype}x{lanes}"
        size = dtype.size_bytes * lanes
        self._types.setdefault(
            name, f"typedef {C_TYPE[dtype]} {name} __attribute__((vector_size({size})));"
        )
        return name

    def unaligned(self, dtype: DType, lanes: int) -> str:
        """The C name of a vector type that may lie at any element's address."""
        base = self.type(dtype, lanes)
        element, lanes = memory_dtype(dtype), register_lanes(lanes)
        size = element.size_bytes
        self._types.setdefault(
            f"{base}u",
            f"typedef {C_TYPE[element]} {base}u "
            f"__attribute__((vector_size({size * lanes}), aligned({size}), may_alias));",
        )
        return f"{base}u"

    def libm(self, name: str, dtype: DType, arity: int = 1) -> str:
        """The C library's function, declared. `name` is the double's."""
        c = "double" if dtype is DType.F64 else "float"
        name = name if dtype is DType.F64 else f"{name}f"
        self._prototypes[name] = f"{c} {name}({', '.join([c] * arity)});"
        return name

    def helper(self, name: str, dtype: DType, lanes: int) -> str:
        """The C name of an inline helper, declared with all it needs.

        Raises: InternalError when there is no such helper.
        """
        from graphopt_backends.cpu.emit.helpers import template_of  # they need Prelude
        from graphopt_backends.cpu.emit.lanes import PARTIAL

        lanes = lanes if name in PARTIAL else register_lanes(lanes)
        suffix = str(dtype) if lanes == 1 else f"{dtype}x{lanes}"
        full = f"{self.prefix}_{name}_{suffix}"
        if full not in self._functions:
            text = template_of(name, dtype, lanes, self)
            names = _Names(self, full, name, dtype, lanes)
            body = Template(text).substitute(names).strip()
            inline = INLINE if lanes == 1 else VECTOR_INLINE
            self._functions[full] = body.replace("INLINE ", inline)
        return full

    def text(self) -> str:
        """Declarations, or nothing."""
        parts = ["\n".join(sorted(self._prototypes.values()))]
        parts.append("\n".join(self._types.values()))
        parts.extend(self._functions.values())
        return "\n\n".join(p for p in parts if p)


class _Names(Mapping[str, str]):
    """Resolves a template's `$` names; a helper's name declares it."""

    def __init__(self, prelude: Prelude, full: str, name: str, dtype: DType, lanes: int) -> None:
        self._p, self._full, self._name = prelude, full, name
        self._dtype, self._lanes = dtype, lanes

    def __getitem__(self, key: str) -> str:
        p, dtype, lanes = self._p, self._dtype, self._lanes
        if key == self._name:
            return self._full
        if key == "F":
            return p.type(dtype, lanes)
        if key == "I":
            return p.type(mask_dtype(dtype), lanes)
        if key == "E":
            return C_TYPE[memory_dtype(dtype)]
        if key == "L":
            return str(lanes)
        if key.startswith("i_"):
            return p.helper(key[2:], mask_dtype(dtype), lanes)
        if key.startswith("libm"):
            return p.libm(key[6:], dtype, int(key[4]))
        if key == "trig_large":
            return p.helper(key, dtype, 1)
        return p.helper(key, dtype, lanes)

    def __iter__(self) -> Iterator[str]:
        raise InternalError("template names are not enumerable")

    def __len__(self) -> int:
        raise InternalError("template names are not countable")
