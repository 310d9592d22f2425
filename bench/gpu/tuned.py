"""Cases tuned on this machine, within a time limit, and compiled with what was found."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.gpu.cases import TUNED, Case
from graphopt.driver import Options, build
from graphopt.errors import GraphoptError

_TRIALS = 200
_GRACE_S, _INTERRUPTS = 5.0, 4
"""For a run that was interrupted to end its worker, which may hold the device; Python may lose an
interrupt that comes while it imports, so there are several."""

Say = Callable[[str], None]


def tune_cases(
    cases: Sequence[Case], folder: Path, target: str, minutes: float, say: Say
) -> Iterator[Case]:
    """Tune those that take part tuned, each for its part of the minutes, and give each when its
    artifact is there. Records lie beside the artifacts, and a second run goes on from them."""
    chosen = [case for case in cases if case.tuned]
    for case in chosen:
        name, records = case.folders[TUNED], folder / f"{case.folder}.db"
        say(f"{name}: tuned for {minutes / len(chosen):.1f} minutes")
        try:
            tune(case, records, target, 60 * minutes / len(chosen))
            build(case.source, target=target, out=folder / name, options=_options(case, records))
        except Exception as error:  # one model's failure is not the next one's
            say(f"{name}: {error}")
        else:
            yield case


def tune(case: Case, records: Path, target: str, seconds: float, trials: int = _TRIALS) -> bool:
    """Whether it came to its end in this time. What was recorded until it was stopped counts.

    Raises: GraphoptError where it fails by itself.
    """
    records.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "graphopt", "tune", case.source, "--target", target, "--precision",
        case.precision, "--trials", str(trials), "--records", str(records), "--quiet",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        _stop(process)
        return False
    if process.returncode:
        raise GraphoptError(f"tuning {case.folder} failed: {said.strip().splitlines()[-1:]}")
    return True


def _stop(process: subprocess.Popen[str]) -> None:
    """As Ctrl-C does, so that its worker ends, too; by force when that takes too long."""
    for _ in range(_INTERRUPTS):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_GRACE_S)
            return
    process.kill()
    process.communicate()


def _options(case: Case, records: Path) -> Options:
    return Options(precision=case.precision, tuned=records)
