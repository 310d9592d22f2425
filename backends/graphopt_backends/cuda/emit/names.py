"""What names of a kernel mean at a place in its text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from graphopt.errors import IRError
from graphopt.kernel.ir import Buffer, Expr, For

_RESERVED = """
    auto bool break case char const constexpr continue default do double else enum extern float for
    goto if inline int long namespace new operator private public register return short signed
    sizeof static struct switch template this typedef union unsigned using void volatile while
    int64_t int32_t int16_t int8_t uint8_t go shared stream p main and or xor not
""".split()  # noqa: SIM905


class Names:
    """C++ names of variables and buffers, ranges of loop variables; `small` when every index fits
    an int; `per_thread` are registers whose first index is the thread; `vectors` are registers
    whose last axis is one vector; `moved` are registers that hold halves as memory does."""

    def __init__(
        self, *, small: bool, per_thread: frozenset[Buffer], vectors: frozenset[Buffer],
        moved: frozenset[Buffer],
    ) -> None:  # fmt: skip
        self.small, self.per_thread, self.vectors = small, per_thread, vectors
        self.moved = moved
        self.thread: For | None = None
        self.ranges: dict[str, int] = {}
        self.wide: set[str] = set()
        self._variables: dict[str, str] = {}
        self._buffers: dict[str, str] = {}
        self._taken: dict[str, int] = dict.fromkeys(_RESERVED, 1)

    @property
    def index_type(self) -> str:
        return "int" if self.small else "int64_t"

    @contextmanager
    def inner(self) -> Iterator[None]:
        """A scope: what it declares is forgotten after it."""
        saved = (
            dict(self.ranges), set(self.wide), dict(self._variables), dict(self._buffers),
            dict(self._taken),
        )  # fmt: skip
        yield
        self.ranges, self.wide, self._variables, self._buffers, self._taken = saved

    def declare(self, name: str, extent: int | None = None, *, wide: bool = False) -> str:
        """A new variable; `extent` where it lies in [0, extent), `wide` when it is data."""
        self._variables[name] = c = self.fresh(name)
        self.ranges.pop(name, None)
        self.wide.discard(name)
        if extent is not None:
            self.ranges[name] = extent
        if wide:
            self.wide.add(name)
        return c

    def declare_buffer(self, buffer: Buffer) -> str:
        self._buffers[buffer.name] = c = self.fresh(buffer.name)
        return c

    def variable(self, name: str) -> str:
        return _found(self._variables, name, "variable")

    def buffer(self, buffer: Buffer) -> str:
        return _found(self._buffers, buffer.name, "buffer")

    def own_index(self, buffer: Buffer, index: Sequence[Expr]) -> Sequence[Expr]:
        """An index of registers without the thread, and without the lanes of a vector."""
        own = index[1:] if buffer in self.per_thread else index
        return own[:-1] if buffer in self.vectors else own

    def fresh(self, name: str) -> str:
        """A C++ name distinct from all visible ones."""
        base = "".join(ch if ch.isalnum() else "_" for ch in name) or "v"
        candidate = base if not base[0].isdigit() else f"v{base}"
        while candidate in self._taken:
            self._taken[base] = self._taken.get(base, 0) + 1
            candidate = f"{base}_{self._taken[base]}"
        self._taken[candidate] = 1
        return candidate


def _found(names: Mapping[str, str], name: str, what: str) -> str:
    if name not in names:
        raise IRError(f"kernel {what} {name!r} is not declared here")
    return names[name]
