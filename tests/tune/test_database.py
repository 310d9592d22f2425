"""The file of records: what is written stays, whoever dies; what is no such file is refused."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from records import record

from graphopt.errors import GraphoptError
from graphopt.tune.database import Database, Outcome, default_path

A = record("rows=6", (12, 11, 10))
B = record("rows=8", (9, 9, 9), "rows=6", (12, 11, 10), final=True)
C = record("rows=4", outcome=Outcome.CRASHED, rival="rows=6")


def test_records_read_back(tmp_path: Path) -> None:
    with Database(tmp_path / "new" / "r.sqlite") as database:
        written = [database.add(r) for r in (A, B, C)]
        assert database.records("here") == written
    assert written == [replace(r, id=i + 1) for i, r in enumerate((A, B, C))]
    with Database(tmp_path / "new" / "r.sqlite") as database:
        assert database.records("here", "region") == written


def test_records_of_other_regions_and_places_are_not_given(tmp_path: Path) -> None:
    with Database(tmp_path / "r.sqlite") as database:
        for region, place in (("region", "here"), ("region", "there"), ("other", "here")):
            database.add(replace(A, region=region, place=place))
        assert [(r.region, r.place) for r in database.records("here", "region")] == [
            ("region", "here")
        ]
        assert len(database.records("here")) == 2
        assert database.records("nowhere") == []


def test_a_place_is_told_once(tmp_path: Path) -> None:
    with Database(tmp_path / "r.sqlite") as database:
        database.add_place("here", "a processor")
        database.add_place("here", "a processor")
        assert database.places() == {"here": "a processor"}


@pytest.mark.parametrize(
    "change", ["UPDATE records SET times_ns = '[1]'", "DELETE FROM records WHERE id = 1"]
)
def test_rows_are_only_added(tmp_path: Path, change: str) -> None:
    with Database(tmp_path / "r.sqlite") as database:
        database.add(A)
    with (
        sqlite3.connect(tmp_path / "r.sqlite") as raw,
        pytest.raises(sqlite3.IntegrityError, match="records are only added"),
    ):
        raw.execute(change)
    raw.close()


_ADDS_UNTIL_KILLED = """
import sys
from pathlib import Path
from records import record
from graphopt.tune.database import Database
database = Database(Path(sys.argv[1]))
for i in range(1_000_000):
    database.add(record(f"rows={i}", (i, i)))
    print(i, flush=True)
"""


def test_a_killed_run_keeps_every_record_it_announced(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-c", _ADDS_UNTIL_KILLED, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    assert process.stdout is not None
    for _ in range(20):
        last = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    last = int(rest.split()[-1]) if rest.split() else last
    with Database(path) as database:
        found = database.records("here")
        assert [r.times_ns for r in found[: last + 1]] == [(i, i) for i in range(last + 1)]
        assert len(found) <= last + 2, "at most the one being written is there as well"
        database.add(A)


def damaged(path: Path) -> None:
    with Database(path) as database:
        for i in range(200):
            database.add(record(f"rows={i}", tuple(range(50))))
    content = bytearray(path.read_bytes())
    content[4096:8192] = os.urandom(4096)
    path.write_bytes(content)


def no_database(path: Path) -> None:
    path.write_text("schedules: none of this is SQL\n" * 40)


def anothers(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE bookmarks (url TEXT)")
    raw.close()


@pytest.mark.parametrize("spoil", [damaged, no_database, anothers])
def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path, spoil: object) -> None:
    assert callable(spoil)
    path = tmp_path / "r.sqlite"
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(GraphoptError) as raised, Database(path) as database:
        database.records("here")
    assert f"{path} is not a file of tuning records, or damaged: " in raised.value.message
    assert raised.value.hint == "move it away, or name another file"
    assert path.read_bytes() == before, "and nothing was done to it"


def test_records_of_a_later_graphopt(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    Database(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 9")
    raw.close()
    with pytest.raises(GraphoptError) as raised:
        Database(path)
    assert str(raised.value) == (
        f"{path} has tuning records of version 9, not 1\n"
        "hint: name another file, or update graphopt"
    )


def test_nothing_is_created_for_who_only_reads(tmp_path: Path) -> None:
    with pytest.raises(GraphoptError) as raised:
        Database(tmp_path / "r.sqlite", create=False)
    assert str(raised.value) == (
        f"there are no tuning records at {tmp_path / 'r.sqlite'}\n"
        "hint: `graphopt tune SOURCE` makes them"
    )
    assert not list(tmp_path.iterdir())


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GraphoptError, match="cannot be used") as raised:
        Database(tmp_path / "file" / "r.sqlite")
    assert raised.value.hint == "name a file that you may write to"
    with pytest.raises(GraphoptError, match="cannot be used"):
        Database(tmp_path)


def test_by_default_records_lie_in_the_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path))
    assert default_path() == tmp_path / "tuning.sqlite"
