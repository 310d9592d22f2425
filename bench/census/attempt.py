"""One model type, from its class to the comparison, told as a record; and that in a process of its
own, which may crash or hang without harm."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from graphopt.frontend.traced import Traced

TOLERANCE = 1e-4
"""Of an output's largest magnitude: what the project promises for float32."""
_EAGER = 8
"""A result may be off by as many times what eager is off: the model amplifies rounding."""
_LARGEST = 30_000_000  # parameters: small enough to compile in seconds
PASSED, REFUSED, WRONG, CRASHED, SLOW, SKIPPED = (
    "passed", "refused", "wrong", "crashed", "too slow", "not built",
)  # fmt: skip
OUTCOMES = (PASSED, REFUSED, WRONG, CRASHED, SLOW, SKIPPED)
FAILURES = (WRONG, CRASHED)


@dataclass(frozen=True)
class Record:
    """`detail`: why, where it did not pass. `error`: the largest difference from eager in float64,
    relative to the output's largest magnitude. `seconds`: all of it, the imports too."""

    type: str
    outcome: str
    detail: str = ""
    error: float | None = None
    seconds: float = 0.0


def attempt(type_name: str, out: Path) -> Record:
    """Build, export, compile to `out`, run, compare."""
    from bench.census.inputs import with_inputs
    from bench.census.small import parameters, small_model
    from graphopt.artifact.loader import load
    from graphopt.driver import build
    from graphopt.errors import GraphoptError, InternalError
    from graphopt.frontend import trace_model

    try:
        if parameters(type_name) > _LARGEST:
            return Record(type_name, SKIPPED, "its small configuration is large")
        model, config = small_model(type_name)
        flat, inputs = with_inputs(type_name, model, config)
    except Exception as error:  # whatever its class raises
        return Record(type_name, SKIPPED, _told(error))
    try:
        traced = trace_model(flat, inputs)
        artifact = build(traced.graph, out=out).artifact
        assert artifact is not None
        results = load(artifact).run(traced.inputs())
        eager = traced.golden()[1]
        return _compared(type_name, results, _exact(traced, eager), eager)
    except InternalError as error:
        return Record(type_name, CRASHED, _told(error))
    except GraphoptError as error:
        return Record(type_name, REFUSED, _told(error))
    except Exception as error:  # a defect: users are to see GraphoptErrors alone
        return Record(type_name, CRASHED, _told(error))


def _exact(traced: Traced, eager: Mapping[str, Any]) -> Mapping[str, Any]:
    """What eager gives in float64; in float32 where the model's operators have no float64."""
    try:
        return traced.exact()
    except RuntimeError:
        return eager


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:400]


def _compared(
    type_name: str, results: Mapping[str, Any], exact: Mapping[str, Any], eager: Mapping[str, Any]
) -> Record:
    worst = 0.0
    for name, wanted in exact.items():
        off, allowed = difference(results[name], wanted, eager[name])
        worst = max(worst, off)
        if off > allowed:
            text = f"{name} is off by {off:.2g}, {allowed:.2g} allowed"
            return Record(type_name, WRONG, text, off)
    return Record(type_name, PASSED, error=worst)


def difference(result: Any, exact: Any, eager: Any) -> tuple[float, float]:
    """How far a result is off, relative to the largest magnitude, and how far it may be. Where the
    exact value is not finite, the result has to be so where eager is."""
    got, wanted, other = (np.asarray(x).astype(np.float64) for x in (result, exact, eager))
    if got.shape != wanted.shape or (np.isfinite(got) != np.isfinite(other)).any():
        return np.inf, TOLERANCE
    finite = np.isfinite(wanted) & np.isfinite(other)
    if not finite.any():
        return 0.0, TOLERANCE
    scale = float(np.abs(wanted[finite]).max()) or 1.0
    off, eager_off = (float(np.abs(x[finite] - wanted[finite]).max()) / scale for x in (got, other))
    return off, max(TOLERANCE, _EAGER * eager_off)


def isolated(type_name: str, limit_s: float, run: Callable[[str], Record]) -> Record:
    """What `run` says in a process of its own, a fork: what is imported by now is shared."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_tell, args=(sender, run, type_name))
    start = time.monotonic()
    process.start()
    sender.close()
    try:
        ended = receiver.poll(limit_s)
        told = receiver.recv_bytes() if ended else b""
    except EOFError:
        told = b""
    if not ended:
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.join()
    seconds = round(time.monotonic() - start, 1)
    if told:
        return dataclasses.replace(Record(**json.loads(told)), seconds=seconds)
    if not ended:
        return Record(type_name, SLOW, f"more than {limit_s:g} s", seconds=seconds)
    return Record(type_name, CRASHED, f"exit status {process.exitcode}", seconds=seconds)


def _tell(sender: Connection, run: Callable[[str], Record], type_name: str) -> None:
    os.setsid()  # the compilers that it starts end with it
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sender.send_bytes(json.dumps(dataclasses.asdict(run(type_name))).encode())


def in_folder(type_name: str) -> Record:
    """`attempt` in a folder that goes again."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        return attempt(type_name, Path(folder) / "artifact")
