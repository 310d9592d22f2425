"""A tuning run in a process of its own, killed once it has a number of records."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

_RUN = """
import sys, graphopt
from graphopt.driver import Options
from graphopt.tune.explore import Effort

source, path, trials, vendor = sys.argv[1:]
graphopt.tune(source, trials=int(trials), target="cuda:emulated", database=path,
              options=Options(vendor=vendor), effort=Effort(1, 1, 1, processes=1))
"""
_MOST_S = 240.0


def tune_until_killed(source: str, path: Path, *, trials: int, vendor: str, records: int) -> None:
    """SIGKILL to the run as soon as there are so many records. The worker ends with its pipe."""
    command = [sys.executable, "-c", _RUN, source, str(path), str(trials), vendor]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + _MOST_S
    try:
        while _count(path) < records:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert os.path.getsize(path)


def _count(path: Path) -> int:
    if not path.is_file():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            (count,) = connection.execute("SELECT count(*) FROM records").fetchone()
            return int(count)
    except sqlite3.OperationalError:  # its tables are being made
        return 0
