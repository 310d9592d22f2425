"""Artifacts of all cases, compiled ahead: it takes nvcc and no GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from importlib import util
from pathlib import Path

from bench.gpu.cases import CUTLASS, TUNED, Case
from bench.gpu.process import first_line
from graphopt.artifact.format import MANIFEST
from graphopt.driver import Options, build

NO_CUTLASS = "the wheel nvidia-cutlass is not installed"


def prepare(
    cases: Iterable[Case], folder: Path, target: str, say: Callable[[str], None]
) -> dict[str, str]:
    """Compile all that is not there yet; what went wrong, by artifact. Those with CUTLASS are left
    out where its headers are not installed."""
    failures: dict[str, str] = {}
    for case in cases:
        for engine, name in case.folders.items():
            why = prepare_one(case, engine, folder, target, say)
            if why and why != NO_CUTLASS:
                failures[name] = why
    return failures


def prepare_one(
    case: Case, engine: str, folder: Path, target: str, say: Callable[[str], None]
) -> str:
    """Compile the artifact of an engine, if it has one that is not there yet; "" or why not."""
    name = case.folders.get(engine, "")
    if not name or engine == TUNED or (folder / name / MANIFEST).is_file():
        return ""  # tuning makes its own, on the machine that measures
    if engine == CUTLASS and util.find_spec("cutlass_library") is None:
        say(f"{name}: left out, {NO_CUTLASS}")
        return NO_CUTLASS
    start = time.perf_counter()
    try:
        build(case.source, target=target, out=folder / name, options=_options(case, engine))
    except Exception as error:  # one model's failure is not the next one's
        say(f"{name}: {error}")
        return first_line(error)
    say(f"{name}: compiled in {time.perf_counter() - start:.0f} s")
    return ""


def _options(case: Case, engine: str) -> Options:
    vendor = "cutlass,cublaslt,cudnn" if engine == CUTLASS else "auto"
    return Options(precision=case.precision, vendor=vendor)
