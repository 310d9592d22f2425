"""A lowered model: kernels, the order of their calls, where every operand lies, packed weights."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphopt.ir.graph import Loc
from graphopt.ir.types import TensorType
from graphopt.kernel.ir import Kernel


class Space(enum.Enum):
    """The memory an argument points into."""

    INPUT = "input"
    OUTPUT = "output"
    ARENA = "arena"
    WEIGHT = "weight"


@dataclass(frozen=True)
class Arg:
    """One pointer argument. INPUT/OUTPUT: `index` selects the tensor; ARENA: `offset` in bytes from
    the arena's start; WEIGHT: `index` selects a Weight. `offset` adds to any of them."""

    space: Space
    index: int = 0
    offset: int = 0


@dataclass(frozen=True)
class CallResult:
    """A value of the planned graph that a kernel call writes, laid out as `type` says."""

    name: str
    type: TensorType


@dataclass(frozen=True)
class LibraryCall:
    """What a vendor's library computes in place of a kernel. `fields` are those of the structure
    that describes it to the runtime, `roles` says what each argument is there: "a", "bias", ...
    `source` is C++ that instantiates a library of templates for the call, of which nothing is left
    to find at run time; "" for one that is opened then."""

    library: str
    function: str
    fields: tuple[tuple[str, int], ...]
    roles: tuple[str, ...]
    source: str = ""


@dataclass(frozen=True)
class KernelCall:
    """Run `kernel` on `args` (one per parameter). `locs` are the model's nodes it computes.

    `results` are the values that the last `args` hold afterwards; `reads` names the inputs and
    earlier results that it reads; `region` is the digest of what it computes. With a `library`,
    `kernel` is a name for what that does, and no kernel of the program. `error_bound` is what its
    algorithms may be off by, relative to the results' largest magnitude (see `Attrs`).
    """

    kernel: str
    args: tuple[Arg, ...]
    locs: tuple[Loc, ...]
    flops: int = 0
    bytes_moved: int = 0
    results: tuple[CallResult, ...] = ()
    reads: tuple[str, ...] = ()
    region: str = ""
    library: LibraryCall | None = None
    error_bound: float = 0.0


@dataclass(frozen=True)
class Weight:
    """Constant bytes. `pack` makes the array when it is written, one at a time, so that packing
    never holds two copies of a model; `size_bytes` is known before."""

    name: str
    size_bytes: int
    pack: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Port:
    """A model input or output: dense, row-major."""

    name: str
    type: TensorType


@dataclass(frozen=True)
class Program:
    """Everything emission needs. `arena_lower_bound` is the plan's unavoidable peak in bytes;
    `states` pairs (input, output) positions that share memory between runs."""

    kernels: tuple[Kernel, ...]
    calls: tuple[KernelCall, ...]
    weights: tuple[Weight, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    arena_bytes: int
    arena_lower_bound: int
    scratch_bytes: int
    states: tuple[tuple[int, int], ...] = ()
