"""A compiled program to an artifact directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from graphopt import __version__
from graphopt.artifact import format as f
from graphopt.artifact.directory import replacing
from graphopt.artifact.golden import Golden, write_golden
from graphopt.artifact.hashing import PIECE_BYTES, Hasher, record
from graphopt.artifact.layout import WeightLayout
from graphopt.artifact.naming import PREFIX, renamed
from graphopt.artifact.sections import code_bytes
from graphopt.errors import InternalError

if TYPE_CHECKING:
    from graphopt.program import Arg, CallResult, KernelCall, Port, Program, Weight
    from graphopt.target import Backend, Step, Target


class Compiled(Protocol):
    """What the writer needs of a compilation."""

    @property
    def program(self) -> Program: ...
    @property
    def sources(self) -> Mapping[str, str]: ...


Accept = Callable[[Path, f.Manifest], None]
"""Judges a finished artifact before it takes the old one's place; what it raises prevents that."""


class WriteOptions(Protocol):
    @property
    def cc(self) -> str | None: ...
    @property
    def emit_source(self) -> bool: ...
    @property
    def prefix(self) -> str: ...
    @property
    def static(self) -> bool: ...


def write(
    folder: str | Path,
    compilation: Compiled,
    backend: Backend,
    target: Target,
    *,
    golden: Golden | None = None,
    options: WriteOptions | None = None,
    pipeline: str = "",
    kernel_pipeline: str = "",
    budget: Mapping[str, float] | None = None,
    accept: Accept | None = None,
    progress: Step | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Build and write everything; `folder` is replaced in one step once all of it is on disk.

    Weights are packed and written one at a time. Pipelines, `budget` and `extra` are kept in the
    manifest as they are.
    Raises: BuildError; ArtifactError when the directory cannot be written.
    """
    folder, program = Path(folder), compilation.program
    prefix = options.prefix if options else PREFIX
    sources = renamed(compilation.sources, prefix) if prefix != PREFIX else compilation.sources
    with replacing(folder) as temporary:
        files = {f.WEIGHTS: _write_weights(temporary / f.WEIGHTS, program.weights)}
        built = _build(temporary, sources, backend, target, options, progress)
        for path in (*built, *write_golden(golden or Golden(), temporary)):
            files[path.relative_to(temporary).as_posix()] = _entry(path)
        manifest = dataclasses.replace(
            _manifest(program, target, files, code_bytes(built[0])),
            pipeline=pipeline,
            kernel_pipeline=kernel_pipeline,
            budget=dict(budget or {}),
            extra=dict(extra or {}),
            prefix=prefix,
        )
        (temporary / f.MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        if accept is not None:
            accept(temporary, manifest)
    record(folder / f.WEIGHTS, files[f.WEIGHTS])
    return folder


def _write_weights(path: Path, weights: Sequence[Weight]) -> f.File:
    """The weights, each at its offset, hashed as they are written.

    The buffer is handed on whole: Linux keeps in one page what one write covers, and weights that
    stream from huge pages miss no TLB.
    """
    layout, hasher = WeightLayout(weights), Hasher()
    with path.open("wb", buffering=PIECE_BYTES) as file:

        def put(data: bytes | memoryview) -> None:
            rest = memoryview(data)
            while rest:
                part = rest[: PIECE_BYTES - hasher.size_bytes % PIECE_BYTES]
                hasher.update(part)
                file.write(part)
                rest = rest[len(part) :]

        put(layout.header())
        for weight, offset in zip(weights, layout.offsets, strict=True):
            put(bytes(offset - hasher.size_bytes))
            put(_bytes_of(weight))
        put(bytes(layout.size_bytes - hasher.size_bytes))
    return hasher.file()


def _bytes_of(weight: Weight) -> memoryview:
    array = np.ascontiguousarray(weight.pack())
    if array.nbytes != weight.size_bytes:
        raise InternalError(
            f"weight {weight.name} packed to {array.nbytes} bytes, not {weight.size_bytes}"
        )
    # through uint8: memoryview knows no bfloat16
    return array.reshape(-1).view(np.uint8).data


def _build(
    temporary: Path,
    sources: Mapping[str, str],
    backend: Backend,
    target: Target,
    options: WriteOptions | None,
    progress: Step | None,
) -> list[Path]:
    """The library, its header and, when asked for, a static library and all sources."""
    cc = options.cc if options else None
    made = [backend.build(sources, target, temporary / f.LIBRARY, cc=cc, progress=progress)]
    if options is not None and options.static:
        made.append(backend.build(sources, target, temporary / f.STATIC, cc=cc))
    if f.HEADER in sources:
        made.append(_write_text(temporary / f.HEADER, sources[f.HEADER]))
    if options is not None and options.emit_source:
        (temporary / "src").mkdir()
        made += [_write_text(temporary / "src" / n, t) for n, t in sorted(sources.items())]
    return made


def _write_text(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _entry(path: Path) -> f.File:
    hasher = Hasher()
    hasher.update(memoryview(path.read_bytes()))
    return hasher.file()


# Manifest --------------------------------------------------------------------------------------


def _manifest(program: Program, target: Target, files: dict[str, f.File], code: int) -> f.Manifest:
    layout = WeightLayout(program.weights)
    memory = f.Memory(
        program.arena_bytes,
        program.arena_lower_bound,
        program.scratch_bytes,
        sum(w.size_bytes for w in program.weights),
        code,
    )
    calls = tuple(map(_call, program.calls))
    weights = tuple(
        f.WeightEntry(w.name, offset, w.size_bytes)
        for w, offset in zip(program.weights, layout.offsets, strict=True)
    )
    machine = f.Machine(
        target.name, target.backend, target.arch, target.isa,
        tuple(sorted(target.features)), target.triple, target.cpu,
    )  # fmt: skip
    return f.Manifest(
        __version__, machine, tuple(map(_tensor, program.inputs)),
        tuple(map(_tensor, program.outputs)), memory, calls, weights, files,
        program.states,
    )  # fmt: skip


def _call(call: KernelCall) -> f.Call:
    written = call.args[len(call.args) - len(call.results) :]
    return f.Call(
        call.kernel,
        tuple((x.module, x.source) for x in call.locs),
        call.flops,
        call.bytes_moved,
        tuple(map(_result, call.results, written)),
        call.reads,
        call.error_bound,
    )


def _result(value: CallResult, arg: Arg) -> f.Result:
    t = value.type
    return f.Result(
        value.name, str(t.dtype), t.dims, t.strides, arg.space.value, arg.index, arg.offset,
        t.offset * t.dtype.size_bytes, t.size_bytes,
    )  # fmt: skip


def _tensor(port: Port) -> f.Tensor:
    t = port.type
    return f.Tensor(port.name, str(t.dtype), t.dims, t.numel * t.dtype.size_bytes)
