"""CUDA C++ to a shared library: by nvcc for GPUs, by a C++ compiler in emulation. Compiled in
parallel, each object kept by its content."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import util
from pathlib import Path
from zlib import crc32

from graphopt.cache import Cache, key_of
from graphopt.config import Config
from graphopt.errors import BuildError
from graphopt.target import Step, Target
from graphopt_backends.cuda.cutlass_headers import (
    include_flags,
    template_headers,
    template_version,
)
from graphopt_backends.cuda.emit.device import TEMPLATES
from graphopt_backends.cuda.targets import is_emulated

_HOST_FLAGS = (
    "-fPIC", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections", "-fno-exceptions",
    "-fno-stack-protector", "-fno-asynchronous-unwind-tables",
)  # fmt: skip
_EMULATED_FLAGS = (
    "-std=c++17", "-O2", "-g0", "-DGO_EMULATED", "-fwrapv", "-fno-strict-aliasing",
    "-ffp-contract=off", "-fPIC", "-fvisibility=hidden",
)  # fmt: skip
_TEMPLATE_FLAGS = ("-std=c++17", "-O3", "-DNDEBUG", "--expt-relaxed-constexpr")
"""With assertions, nvcc calls functions between wgmma instructions, and waits for each."""

_SHOWN_LINES = 12

_HOST_ONLY = ("model.cu", "go_runtime.cu")
"""Files without device code, which the host's compiler takes in half the time."""

_KERNELS = 8
"""In one unit: eight take nvcc 3 s where one takes 2."""


@dataclass(frozen=True)
class Compiler:
    """What compiles files of device code, of host code, links, and compiles templates (less where
    their headers are); `identity` tells versions apart."""

    device: tuple[str, ...]
    host: tuple[str, ...]
    link: tuple[str, ...]
    identity: str
    templates: tuple[str, ...] = ()


def build(
    sources: Mapping[str, str],
    target: Target,
    out: Path,
    *,
    cc: str | None = None,
    config: Config | None = None,
    progress: Step | None = None,
) -> Path:
    """Compile every `.cu` and `.cpp` of `sources` and link them into `out`, a shared library; a
    folder gets `model.so`.

    It has machine code for the target and PTX for later GPUs, and the CUDA runtime in it: running
    it takes a driver alone. `cc` replaces nvcc's host compiler, and in emulation the C++ compiler.
    Raises: BuildError with the compiler's first lines.
    """
    config = config or Config.from_environment()
    compiler = find_compiler(target, cc)
    out = out if out.suffix == ".so" else out / "model.so"
    objects = compile_objects(sources, compiler, config, progress)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".link-") as folder:
        made = Path(folder) / out.name
        _run([*compiler.link, "-o", str(made), *map(str, objects)], what="linking")
        os.replace(made, out)
    return out


# Compilers -------------------------------------------------------------------------------------


def find_compiler(target: Target, cc: str | None = None) -> Compiler:
    """Raises: BuildError when it is not installed."""
    return _cplusplus(cc) if is_emulated(target) else _nvcc(target, cc)


def toolchain(target: Target, cc: str | None = None) -> str:
    """What `build` would compile with: the compiler's version and its options."""
    return find_compiler(target, cc).identity


def generate_code(isa: str) -> list[str]:
    """nvcc's options for machine code of one GPU and PTX for those that come after it. Code for
    `sm_90a` uses what no later one has: its PTX is that of sm_90."""
    number = isa.removeprefix("sm_")
    plain = number.removesuffix("a")
    if plain == number:
        return [f"-gencode=arch=compute_{number},code=[sm_{number},compute_{number}]"]
    return [
        f"-gencode=arch=compute_{number},code=sm_{number}",
        f"-gencode=arch=compute_{plain},code=compute_{plain}",
    ]


def _nvcc(target: Target, cc: str | None) -> Compiler:
    path = shutil.which("nvcc")
    if path is None:
        raise BuildError(
            "there is no nvcc on the PATH, which compiles for GPUs",
            hint="install the CUDA toolkit, version 12 or later; cuda:emulated needs none",
        )
    host = ["-ccbin", _found(cc)] if cc else []
    base = [path, "-std=c++17", "-O3", *host, f"-Xcompiler={','.join(_HOST_FLAGS)}"]
    device = [*base, *generate_code(target.isa)]
    link = [
        path, *host, "-shared", "-cudart", "static", "-Xcompiler=-static-libstdc++,-static-libgcc",
        "-Xlinker=--gc-sections,--exclude-libs=ALL,-soname,model.so,-s,-z,defs",
    ]  # fmt: skip
    identity = " ".join([_version_of(path), *device[1:], *link[1:]])
    host_flags = ",".join(f for f in _HOST_FLAGS if f != "-fno-exceptions")  # they throw
    code = generate_code(target.isa)[0]  # no PTX: later GPUs have not what they use
    templates = (path, *_TEMPLATE_FLAGS, *host, f"-Xcompiler={host_flags}", code)
    return Compiler(tuple(device), (*base, "-x", "c++"), tuple(link), identity, templates)


def _cplusplus(cc: str | None) -> Compiler:
    """The one named, the system's, or the pinned zig."""
    found = _found(cc) if cc else shutil.which("g++") or shutil.which("clang++")
    command = (found,) if found else (_zig(), "c++")
    flags = (*command, *_EMULATED_FLAGS)
    compiled = (*flags, "-x", "c++")
    identity = " ".join([_version_of(command[0]), *compiled])
    return Compiler(compiled, compiled, (*flags, "-shared", "-Wl,-soname,model.so"), identity)


def _found(cc: str) -> str:
    path = shutil.which(cc)
    if path is None:
        raise BuildError(
            f"there is no C++ compiler {cc!r}", hint="name one on the PATH, or leave out --cc"
        )
    return path


def _zig() -> str:
    spec = util.find_spec("ziglang")
    if spec is None or spec.origin is None:
        raise BuildError(
            "there is no C++ compiler: neither g++ nor clang++, nor zig (package ziglang)",
            hint="run `pip install ziglang`, or name a compiler: --cc g++",
        )
    return str(Path(spec.origin).parent / "zig")


@cache
def _version_of(path: str) -> str:
    option = "version" if Path(path).name == "zig" else "--version"
    shown = subprocess.run([path, option], capture_output=True, text=True, check=False)
    return f"{path} {shown.stdout.strip()}"


# Steps -----------------------------------------------------------------------------------------


def units(sources: Mapping[str, str], jobs: int) -> dict[str, tuple[str, ...]]:
    """What is compiled at once: the name of a file, and the kernels that it includes.

    Kernels are gathered: a compiler takes longer to read its headers than to compile one. Which go
    together depends on their names alone, so that most stay together when a model changes.
    Templates, of which one takes minutes, are alone.
    """
    files = [n for n in sources if n.endswith((".cu", ".cpp"))]
    alone = {*_HOST_ONLY, *(n for n in files if _has_templates(sources[n]))}
    kernels = sorted(n for n in files if n.endswith(".cu") and n not in alone)
    count = max(-(-len(kernels) // _KERNELS), min(jobs, len(kernels)))
    out: dict[str, tuple[str, ...]] = {n: () for n in files if n not in kernels}
    for name in kernels:
        unit = f"kernels_{crc32(name.encode()) % count}.cu"
        out[unit] = (*out.get(unit, ()), name)
    return out


def _has_templates(text: str) -> bool:
    return f'#include "{TEMPLATES}"' in text


def compile_objects(
    sources: Mapping[str, str],
    compiler: Compiler,
    config: Config,
    progress: Step | None = None,
) -> list[Path]:
    """One object per unit, from the cache where it is there. Raises: BuildError."""
    store = Cache("objects", config)
    headers = [text for name, text in sorted(sources.items()) if name.endswith(".h")]
    gathered = units(sources, config.jobs)
    texts = {
        unit: "".join(f'#include "{n}"\n' for n in names) or sources[unit]
        for unit, names in gathered.items()
    }
    commands = {unit: _command(unit, texts[unit], compiler) for unit in gathered}
    keys = {
        unit: key_of([commands[unit][1], unit, texts[unit], *(sources[n] for n in names), *headers])
        for unit, names in gathered.items()
    }
    missing = [unit for unit, key in keys.items() if store.find(key, ".o") is None]
    if missing:
        with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
            for name, text in {**sources, **texts}.items():
                (Path(folder) / name).write_text(text, encoding="utf-8")
            # the longest first: the last to finish should be a short one
            missing.sort(key=lambda u: -(_KERNELS * _has_templates(texts[u]) or len(gathered[u])))
            with ThreadPoolExecutor(config.jobs) as pool:
                made = pool.map(lambda u: _compile(Path(folder), u, commands[u][0]), missing)
                for done, (unit, content) in enumerate(zip(missing, made, strict=True)):
                    store.put(keys[unit], content, ".o")
                    if progress is not None:
                        progress(done + 1, len(missing))
    return [store.path(key, ".o") for key in keys.values()]


def _command(name: str, text: str, compiler: Compiler) -> tuple[tuple[str, ...], str]:
    """What compiles a unit, and what tells it from other versions. Raises: BuildError where headers
    are missing."""
    if _has_templates(text):
        folder = template_headers()
        versions = [compiler.identity, *compiler.templates[1:], template_version(folder)]
        return (*compiler.templates, *include_flags(folder)), " ".join(versions)
    device = name.endswith(".cu") and name not in _HOST_ONLY
    return compiler.device if device else compiler.host, compiler.identity


def _compile(folder: Path, name: str, command: Sequence[str]) -> bytes:
    made = folder / f"{name}.o"
    _run([*command, "-c", name, "-o", made.name], what=f"compiling {name}", cwd=folder)
    return made.read_bytes()


def _run(command: Sequence[str], *, what: str, cwd: Path | None = None) -> None:
    """Run a tool of the build. Raises: BuildError with what it said first."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(
            f"{what}: {command[0]} cannot be run: {error.strerror}",
            hint="install it again, or name another compiler with --cc",
        ) from error
    if done.returncode != 0:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        shown = "\n  ".join(said[:_SHOWN_LINES]) or f"exit status {done.returncode}"
        raise BuildError(
            f"{what} failed:\n  {shown}",
            hint="report this with the source: `--emit-source` keeps it; another --cc may do",
        )
