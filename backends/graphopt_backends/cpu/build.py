"""C text to a shared or static library: compiled in parallel, each object kept by its content."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path

from graphopt.cache import Cache, key_of
from graphopt.config import Config
from graphopt.errors import BuildError
from graphopt.target import Step, Target
from graphopt_backends.cpu.stubs import LIBC, LIBM, stub_source

_FLAGS = (
    "-O3", "-g0", "-fPIC", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections",
    "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math",
    "-fwrapv", "-fno-strict-aliasing", "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables", "-falign-loops=64",
)  # fmt: skip
"""Never -ffast-math: NaN and infinities are kept. -fwrapv: integers wrap as in numpy. Loops begin
with a cache line: a product of 24 instructions takes up to 1.25 times as long where its loop does
not (AVX2 on a Zen 3; BERT-base 0.89, ResNet-50 0.95 of before), for 4 percent more code."""

_SHOWN_LINES = 12


@dataclass(frozen=True)
class Compiler:
    """A C compiler. `identity` tells versions apart; `linker` and `archiver` are commands."""

    command: tuple[str, ...]
    identity: str
    is_zig: bool = False


def build(
    sources: Mapping[str, str],
    target: Target,
    out: Path,
    *,
    cc: str | None = None,
    config: Config | None = None,
    progress: Step | None = None,
) -> Path:
    """Compile every `.c` of `sources` and link them into `out`.

    `out` ends in `.so` (shared, needs libc alone) or `.a`; a folder gets `model.so`. `cc` replaces
    the pinned compiler, as GRAPHOPT_CC does. Raises: BuildError with the compiler's first lines.
    """
    config = config or Config.from_environment()
    compiler = find_compiler(cc or config.cc)
    out = out if out.suffix in (".so", ".a") else out / "model.so"
    objects = compile_objects(sources, target, compiler, config, progress)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".link-") as folder:
        made = Path(folder) / out.name
        if out.suffix == ".a":
            _archive(objects, made, compiler, config)
        else:
            _link(objects, made, target, compiler, config)
        os.replace(made, out)
    return out


# Compilers -------------------------------------------------------------------------------------


def find_compiler(cc: str | None = None) -> Compiler:
    """The pinned zig, or `cc`. Raises: BuildError when it is not installed."""
    if cc is None:
        zig = _zig()
        return Compiler((zig, "cc"), f"ziglang {metadata.version('ziglang')}", is_zig=True)
    path = shutil.which(cc)
    if path is None:
        raise BuildError(
            f"there is no C compiler {cc!r}", hint="name one on the PATH, or leave out --cc"
        )
    return Compiler((path,), _version_of(path))


def _zig() -> str:
    spec = util.find_spec("ziglang")
    if spec is None or spec.origin is None:
        raise BuildError(
            "the C compiler zig is not installed (package ziglang)",
            hint="run `pip install ziglang`, or name another compiler: --cc gcc",
        )
    return str(Path(spec.origin).parent / "zig")


@cache
def _version_of(path: str) -> str:
    shown = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return f"{path} {shown.stdout.strip()}"


def flags_for(target: Target, compiler: Compiler) -> list[str]:
    """What a file is compiled with, apart from its name."""
    flags = ["-std=gnu11", *_FLAGS]
    if compiler.is_zig:
        flags.append("-fno-sanitize=undefined")  # zig's default in some modes
        if target.triple:
            flags += ["-target", target.triple]
        if target.cpu and target.cpu != "generic":
            flags.append(f"-mcpu={target.cpu}")
    elif target.cpu and target.cpu != "generic":
        option = "-mcpu" if target.arch == "aarch64" else "-march"
        flags.append(f"{option}={target.cpu.replace('_', '-')}")
    if target.arch == "x86_64" and target.lanes_f32 == 16:
        # else clang splits 64-byte vectors in two on most processors that have AVX-512
        flags.append("-mprefer-vector-width=512")
    return flags


def toolchain(target: Target, cc: str | None = None, config: Config | None = None) -> str:
    """What `build` would compile with: the compiler's version and its options."""
    config = config or Config.from_environment()
    compiler = find_compiler(cc or config.cc)
    return " ".join([compiler.identity, *flags_for(target, compiler)])


# Steps -----------------------------------------------------------------------------------------


def compile_objects(
    sources: Mapping[str, str],
    target: Target,
    compiler: Compiler,
    config: Config,
    progress: Step | None = None,
) -> list[Path]:
    """One object per `.c`, from the cache where it is there. Raises: BuildError."""
    store = Cache("objects", config)
    flags = flags_for(target, compiler)
    headers = [text for name, text in sorted(sources.items()) if name.endswith(".h")]
    # -mcpu=native means another thing on another machine
    fixed = [compiler.identity, *flags, *sorted(target.features)]
    keys = {
        name: key_of([*fixed, name, text, *(headers if '#include "' in text else ())])
        for name, text in sources.items()
        if name.endswith(".c")
    }
    missing = [name for name, key in keys.items() if store.find(key, ".o") is None]
    if missing:
        with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
            for name, text in sources.items():
                (Path(folder) / name).write_text(text)
            # the longest first: the last to finish should be a short one
            missing.sort(key=lambda name: -len(sources[name]))
            with ThreadPoolExecutor(config.jobs) as pool:
                made = pool.map(
                    lambda n: _compile(Path(folder), n, flags, compiler, config), missing
                )
                for done, (name, content) in enumerate(zip(missing, made, strict=True)):
                    store.put(keys[name], content, ".o")
                    if progress is not None:
                        progress(done + 1, len(missing))
    return [store.path(key, ".o") for key in keys.values()]


def _compile(
    folder: Path, name: str, flags: Sequence[str], compiler: Compiler, config: Config
) -> bytes:
    made = folder / f"{name}.o"
    command = [*compiler.command, *flags, "-c", name, "-o", made.name]
    run_tool(command, config, what=f"compiling {name}", cwd=folder)
    return made.read_bytes()


def _archive(objects: Sequence[Path], out: Path, compiler: Compiler, config: Config) -> None:
    command = [compiler.command[0], "ar"] if compiler.is_zig else ["ar"]
    run_tool([*command, "rcsD", str(out), *map(str, objects)], config, what="archiving")


def _link(
    objects: Sequence[Path], out: Path, target: Target, compiler: Compiler, config: Config
) -> None:
    names = list(map(str, objects))
    shared = ["-shared", "-s", "--gc-sections", "-soname", "model.so", "--build-id=none"]
    if compiler.is_zig:
        # lld alone, against stubs: zig would build a libc first, for half a minute
        stubs = [str(_stub(lib, target, compiler, config)) for lib in (LIBC, LIBM)]
        command = [compiler.command[0], "ld.lld", *shared, "-z", "now", "-z", "relro", "-z", "defs"]
        run_tool([*command, "-o", str(out), *names, "--as-needed", *stubs], config, what="linking")
        return
    wrapped = [f"-Wl,{flag}" for flag in ("--gc-sections", "-soname,model.so", "--build-id=none")]
    command = [*compiler.command, "-shared", "-s", *wrapped, "-Wl,--as-needed"]
    run_tool([*command, "-o", str(out), *names, "-lm", "-lpthread"], config, what="linking")


def _stub(lib: str, target: Target, compiler: Compiler, config: Config) -> Path:
    """A library that has a libc's names and nothing in them: enough to link against."""
    store = Cache("stubs", config)
    flags = ["-O1", "-w", "-ffreestanding", "-fno-builtin", "-fPIC", "-g0"]
    if target.triple:
        flags += ["-target", target.triple]
    source = stub_source(lib)
    key = key_of([compiler.identity, target.arch, *flags, lib, source])
    found = store.find(key, ".so")
    if found is not None:
        return found
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        (Path(folder) / "stub.c").write_text(source)
        compiled = [*compiler.command, *flags, "-c", "stub.c", "-o", "stub.o"]
        run_tool(compiled, config, what=f"making a stub of {lib}", cwd=Path(folder))
        linked = [
            compiler.command[0],
            "ld.lld",
            "-shared",
            "-soname",
            lib,
            "stub.o",
            "-o",
            "stub.so",
        ]
        run_tool(linked, config, what=f"making a stub of {lib}", cwd=Path(folder))
        return store.put(key, (Path(folder) / "stub.so").read_bytes(), ".so")


def run_tool(command: Sequence[str], config: Config, *, what: str, cwd: Path | None = None) -> None:
    """Run a tool of the build. Raises: BuildError with what it said first."""
    environment = {
        **os.environ,
        "ZIG_GLOBAL_CACHE_DIR": str(config.cache / "zig"),
        "ZIG_LOCAL_CACHE_DIR": str(config.cache / "zig"),
    }
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise BuildError(
            f"{what}: {command[0]} cannot be run: {error.strerror}",
            hint="run `pip install --force-reinstall ziglang`, or name another compiler: --cc gcc",
        ) from error
    if done.returncode != 0:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        shown = "\n  ".join(said[:_SHOWN_LINES]) or f"exit status {done.returncode}"
        raise BuildError(
            f"{what} failed:\n  {shown}",
            hint="report this with the source: `--emit-source` keeps it; another --cc may do",
        )
