"""Candidates that do what they should not: each is told for what it is, and harms nobody."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import planted
import pytest
from planted import TARGET, case

from graphopt.tune.candidate import Candidate
from graphopt.tune.database import Outcome
from graphopt.tune.measure import Duel, Measurer, Patience
from graphopt.tune.memory import GUARD_BYTES, POISON, guarded
from graphopt.tune.messages import Failed, Prebuild, Start

pytestmark = pytest.mark.compiler


@pytest.fixture(scope="module")
def measurer() -> Iterator[Measurer]:
    with Measurer(TARGET) as measurer:
        measurer.open(case())
        yield measurer


def test_two_good_ones_are_timed_in_turns(measurer: Measurer) -> None:
    """The times are those that the kernels tell: no Python is in them."""
    assert measurer.prepare(planted.GOOD) is None
    duel = measurer.duel(planted.QUICK, planted.GOOD, 5)
    assert duel == Duel((100,) * 5, (1000,) * 5)


MISDEEDS = [
    (planted.CRASHES, Outcome.CRASHED, "killed by SIGSEGV"),
    (planted.TRAPS, Outcome.CRASHED, "killed by SIGILL"),
    (planted.WRONG, Outcome.WRONG, "result 0 is off by 0.25 of its largest magnitude"),
    (planted.LEAVES_OUT, Outcome.WRONG, "result 0 is NaN or infinite where it should not be"),
    (planted.SPOILS_BELOW, Outcome.WRONG, "result 0 is off by 0.75 of its largest magnitude"),
    (planted.SPOILS_ABOVE, Outcome.WRONG, "result 0 is off by 1 of its largest magnitude"),
    (planted.OVERRUNS, Outcome.WRONG, "it writes outside its buffers"),
    (planted.UNDERRUNS, Outcome.WRONG, "it writes outside its buffers"),
    (planted.OVERRUNS_SCRATCH, Outcome.WRONG, "it writes outside its buffers"),
    (planted.WRITES_OPERAND, Outcome.WRONG, "it writes into operand 0"),
    (planted.NO_C, Outcome.BUILD_FAILED, "compiling no_c.c failed"),
]


@pytest.mark.parametrize(
    ("bad", "outcome", "message"), MISDEEDS, ids=[c.kernel for c, _, _ in MISDEEDS]
)
def test_a_misdeed_is_told_and_the_next_candidate_is_well(
    measurer: Measurer, bad: Candidate, outcome: Outcome, message: str
) -> None:
    failed = measurer.prepare(bad, planted.GOOD)
    assert failed is not None
    assert failed.outcome is outcome, failed.message
    assert message in failed.message
    assert measurer.duel(planted.QUICK, planted.GOOD, 2) == Duel((100, 100), (1000, 1000))


def test_a_candidate_may_turn_bad_while_it_is_timed(measurer: Measurer) -> None:
    assert measurer.prepare(planted.CRASHES_LATER) is None
    failed = measurer.duel(planted.CRASHES_LATER, planted.GOOD, 5)
    assert failed == Failed(Outcome.CRASHED, "killed by SIGSEGV")
    assert isinstance(measurer.duel(planted.QUICK, planted.GOOD, 1), Duel)


@pytest.mark.parametrize("hangs", [planted.HANGS, planted.HANGS_LATER])
def test_one_that_hangs_is_given_up(hangs: Candidate) -> None:
    with Measurer(TARGET, patience=Patience(build_s=20.0, run_s=2.0)) as measurer:
        measurer.open(case())
        assert measurer.prepare(planted.GOOD) is None
        measurer.prebuild([planted.HANGS, planted.HANGS_LATER])
        measurer.patience = Patience(build_s=0.5, run_s=2.0)
        failed = measurer.duel(hangs, planted.GOOD, 5)
        assert isinstance(failed, Failed)
        assert failed.outcome is Outcome.TIMED_OUT
        assert "it took longer than" in failed.message
        measurer.patience = Patience()
        assert isinstance(measurer.duel(planted.QUICK, planted.GOOD, 1), Duel)


def test_what_is_built_together_fails_alone(measurer: Measurer) -> None:
    """One of a batch that does not compile is no reason to give up the others."""
    measurer.prebuild([planted.NO_C, planted.GOOD, planted.QUICK])
    assert measurer.prepare(planted.QUICK) is None
    failed = measurer.prepare(planted.NO_C)
    assert failed is not None
    assert failed.outcome is Outcome.BUILD_FAILED


def test_operands_that_a_kernel_rearranges_are_laid_out_for_each(measurer: Measurer) -> None:
    """Two kernels share the place of their weights, and neither sees the other's."""
    x = case().operands[0]
    one, two = (replace(planted.GOOD, kernel=f"go_{n}", packed={0: x.copy()}) for n in ("p", "q"))
    bad = replace(planted.GOOD, kernel="go_r", packed={0: x[::-1].copy()})
    assert measurer.prepare(one) is None
    failed = measurer.prepare(bad)
    assert failed is not None
    assert failed.outcome is Outcome.WRONG
    assert isinstance(measurer.duel(one, two, 3), Duel)


@pytest.mark.parametrize("bad", [planted.CRASHES, planted.HANGS])
def test_nothing_is_left_in_the_temporary_directory(
    bad: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Measurer(TARGET, patience=Patience(run_s=1.0)) as measurer:
        measurer.open(case())
        assert measurer.prepare(planted.GOOD) is None
        assert list(tmp_path.iterdir())
        measurer.patience = Patience(build_s=1.0, run_s=1.0)
        assert isinstance(measurer.prepare(bad, planted.GOOD), Failed)
        measurer.patience = Patience()
        assert measurer.prepare(planted.QUICK) is None
    assert not list(tmp_path.iterdir())


def test_a_worker_whose_tuner_was_killed_tidies_up(tmp_path: Path) -> None:
    """As SIGKILL leaves it: the other end of the pipe closes, and that is all."""
    here, there = Pipe()
    folder = tmp_path / "files"
    folder.mkdir()
    command = f"from graphopt.tune.worker import main; main({there.fileno()})"
    with subprocess.Popen([sys.executable, "-c", command], pass_fds=[there.fileno()]) as worker:
        there.close()
        here.send(Start(TARGET, None, 0, str(folder)))
        here.send(Prebuild((planted.GOOD,)))
        assert here.recv() is None
        assert list(folder.iterdir())
        here.close()
        assert worker.wait(60) == 0
    assert not folder.exists()


def test_few_kernels_stay_loaded_and_the_others_come_back(measurer: Measurer) -> None:
    many = [replace(planted.QUICK, kernel=f"go_many_{i}") for i in range(9)]
    assert [measurer.prepare(c) for c in many] == [None] * 9
    assert measurer.duel(many[0], many[8], 2) == Duel((100, 100), (100, 100))


def test_a_new_process_goes_on_where_the_old_one_was(measurer: Measurer) -> None:
    assert measurer.prepare(planted.GOOD) is None
    measurer.renew()
    assert measurer.duel(planted.QUICK, planted.GOOD, 2) == Duel((100, 100), (1000, 1000))


@pytest.mark.parametrize("huge", [True, False])
def test_guards_lie_on_both_sides_of_a_buffer(huge: bool) -> None:
    for memory in guarded([100, 7, 1 << 20], huge=huge):
        memory.fill(np.ones(1, np.float32))
        assert memory.address % 64 == 0
        assert memory.guards_hold()
        assert memory.guards_hold(4), "behind what is used there is poison"
        memory.bytes[5] = 0
        assert memory.guards_hold()
        assert not memory.guards_hold(4)
        memory.poison()
        assert (memory.bytes == POISON).all()
        for at in (-1, -GUARD_BYTES, len(memory.bytes), len(memory.bytes) + GUARD_BYTES - 1):
            beside = (ctypes.c_uint8 * 1).from_address(memory.address + at)
            beside[0] = 0
            assert not memory.guards_hold()
            beside[0] = POISON
