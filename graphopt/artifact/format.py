"""`manifest.json`: what an artifact is, as dataclasses that print and parse."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphopt.artifact.naming import PREFIX
from graphopt.errors import ArtifactError

VERSION = 1
"""Of the directory's format. Raised when an older graphopt could not run what is written."""

MANIFEST, LIBRARY, STATIC, WEIGHTS, HEADER, GOLDEN = (
    "manifest.json", "model.so", "model.a", "weights.bin", "model.h", "golden.safetensors",
)  # fmt: skip

RECOMPILE = "compile the model again"


@dataclass(frozen=True)
class Tensor:
    """A model input or output: dense, row-major. `dtype` in IR spelling: f32, bf16, i64, bool."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class File:
    """`sha256` is of the content; `tree` of the digests of its pieces, for large files alone."""

    size_bytes: int
    sha256: str
    tree: str = ""


@dataclass(frozen=True)
class Machine:
    """What the code was compiled for. `features` are needed to run it, by their Linux names."""

    name: str
    backend: str
    arch: str
    isa: str
    features: tuple[str, ...]
    triple: str = ""
    cpu: str = ""


@dataclass(frozen=True)
class Memory:
    """Bytes: `scratch` is for each thread, of a GPU for all of them, `arena_lower_bound` what no
    plan could go below, `code` the library's instructions, 0 where they cannot be told."""

    arena: int
    arena_lower_bound: int
    scratch: int
    weights: int
    code: int = 0


@dataclass(frozen=True)
class Result:
    """A value that a kernel call writes, until another call writes over it.

    `space` is "arena", or "output" and then `index` says which; the buffer is `size_bytes` from
    byte `offset` of that space. `first` is the byte in the buffer where element 0 lies, `strides`
    the elements between neighbours along each axis.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    space: str
    index: int
    offset: int
    first: int
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Call:
    """One kernel call: the modules and source lines it computes, its work, the values it writes and
    the inputs and earlier results it reads. `error_bound` is not 0 for a faster algorithm that is
    less exact: how far its results may be off, relative to their largest magnitude."""

    kernel: str
    computes: tuple[tuple[str, str], ...]
    flops: int
    bytes_moved: int
    results: tuple[Result, ...] = ()
    reads: tuple[str, ...] = ()
    error_bound: float = 0.0

    @property
    def name(self) -> str:
        """The modules it computes, in short."""
        return ", ".join(dict.fromkeys(m or s for m, s in self.computes)) or self.kernel


@dataclass(frozen=True)
class WeightEntry:
    """A constant in weights.bin."""

    name: str
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class Manifest:
    """All of manifest.json. `prefix` begins the names that the library exports; `pipeline` and
    `kernel_pipeline` are the text of the passes that were run; `budget` is what the build was held
    to, in bytes and seconds."""

    graphopt: str
    target: Machine
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    memory: Memory
    calls: tuple[Call, ...]
    weights: tuple[WeightEntry, ...]
    files: dict[str, File]
    states: tuple[tuple[int, int], ...] = ()
    pipeline: str = ""
    kernel_pipeline: str = ""
    budget: dict[str, float] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    prefix: str = PREFIX
    format: int = VERSION

    @property
    def precision(self) -> str:
        """What an f32 model is computed in where that is another type: f16, bf16 or tf32."""
        return str(self.extra.get("precision", ""))

    def to_json(self) -> str:
        """Text; equal manifests give equal bytes."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Parse and check. Raises: ArtifactError for a missing, damaged or too new manifest."""
    if not folder.is_dir():
        raise ArtifactError(
            f"there is no artifact at {folder}", hint="`graphopt compile MODEL -o DIR` makes one"
        )
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ArtifactError(
            f"{folder} is not an artifact: it has no {MANIFEST}",
            hint="name the directory that `graphopt compile` wrote",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        message = f"{folder / MANIFEST} cannot be read: {error}"
        raise ArtifactError(message, hint=RECOMPILE) from None
    return parse_manifest(text, folder)


def parse_manifest(text: str, folder: Path) -> Manifest:
    """A manifest from its text. Raises: ArtifactError."""
    try:
        data = json.loads(text)
        version = data["format"]
    except (ValueError, KeyError, TypeError):
        raise ArtifactError(f"{folder / MANIFEST} is damaged", hint=RECOMPILE) from None
    if version != VERSION:
        action = "update graphopt" if isinstance(version, int) and version > VERSION else RECOMPILE
        raise ArtifactError(
            f"{folder} is an artifact of format {version}; this graphopt reads format {VERSION}",
            hint=action,
        )
    try:
        return _manifest(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{folder / MANIFEST} is damaged: {type(error).__name__}: {error}", hint=RECOMPILE
        ) from None


def _manifest(data: dict[str, Any]) -> Manifest:
    target = {**data["target"], "features": tuple(data["target"]["features"])}
    return Manifest(
        graphopt=str(data["graphopt"]),
        target=Machine(**target),
        inputs=tuple(map(_tensor, data["inputs"])),
        outputs=tuple(map(_tensor, data["outputs"])),
        memory=Memory(**data["memory"]),
        calls=tuple(map(_call, data["calls"])),
        weights=tuple(WeightEntry(**w) for w in data["weights"]),
        files={_file_name(name): File(**f) for name, f in data["files"].items()},
        states=tuple((int(i), int(o)) for i, o in data["states"]),
        pipeline=str(data["pipeline"]),
        kernel_pipeline=str(data["kernel_pipeline"]),
        budget={str(k): float(v) for k, v in data["budget"].items()},
        extra=dict(data["extra"]),
        prefix=str(data.get("prefix", PREFIX)),
        format=data["format"],
    )


def _tensor(data: dict[str, Any]) -> Tensor:
    return Tensor(data["name"], data["dtype"], tuple(map(int, data["shape"])), data["size_bytes"])


def _call(data: dict[str, Any]) -> Call:
    tuples = {
        "computes": tuple((str(m), str(s)) for m, s in data["computes"]),
        "results": tuple(map(_result, data["results"])),
        "reads": tuple(map(str, data["reads"])),
    }
    return Call(**{**data, **tuples})


def _result(data: dict[str, Any]) -> Result:
    axes = {name: tuple(map(int, data[name])) for name in ("shape", "strides")}
    return Result(**{**data, **axes})


def _file_name(name: str) -> str:
    """A name inside the artifact: nothing in a manifest may point out of it."""
    if name.startswith(("/", "\\")) or ".." in Path(name).parts:
        raise ValueError(f"file name {name!r}")
    return name
