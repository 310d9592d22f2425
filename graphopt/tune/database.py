"""Tuning records in a small SQLite file. Rows are only ever added: a run that is killed has lost at
most the measurement it was making, and the next one goes on after the last row."""

from __future__ import annotations

import contextlib
import enum
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from graphopt.config import Config
from graphopt.errors import GraphoptError

VERSION = 1
_APPLICATION = 0x676F7475  # "gotu", in the file's header: what `file` and we know it by
_BUSY_S = 30.0

_SCHEMA = f"""
BEGIN;
CREATE TABLE places (key TEXT PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE records (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  region TEXT NOT NULL, place TEXT NOT NULL REFERENCES places(key), point TEXT NOT NULL,
  kernel TEXT NOT NULL, outcome TEXT NOT NULL, times_ns TEXT NOT NULL,
  rival TEXT NOT NULL, rival_times_ns TEXT NOT NULL, final INTEGER NOT NULL,
  message TEXT NOT NULL, computes TEXT NOT NULL, date TEXT NOT NULL
);
CREATE INDEX by_region ON records (place, region);
CREATE TRIGGER append_only_update BEFORE UPDATE ON records
  BEGIN SELECT RAISE(ABORT, 'records are only added'); END;
CREATE TRIGGER append_only_delete BEFORE DELETE ON records
  BEGIN SELECT RAISE(ABORT, 'records are only added'); END;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
"""
_COLUMNS = (
    "region", "place", "point", "kernel", "outcome", "times_ns", "rival", "rival_times_ns", "final",
    "message", "computes", "date",
)  # fmt: skip


class Outcome(enum.Enum):
    """What became of a candidate."""

    OK = "ok"
    WRONG = "wrong"
    CRASHED = "crashed"
    TIMED_OUT = "timed out"
    BUILD_FAILED = "build failed"


@dataclass(frozen=True)
class Record:
    """One candidate, measured in turns with a rival.

    `point` and `rival` are texts of points; a rival of "" means that there was none: the first
    measurement of the default. `times_ns` and `rival_times_ns` are single runs, of the same rounds.
    `final` marks the last comparison of the best with the default. `message` says what went wrong,
    `computes` what the region is in the model's words, `date` when (UTC, ISO 8601).
    """

    region: str
    place: str
    point: str
    kernel: str
    outcome: Outcome
    times_ns: tuple[int, ...] = ()
    rival: str = ""
    rival_times_ns: tuple[int, ...] = ()
    final: bool = False
    message: str = ""
    computes: str = ""
    date: str = ""
    id: int = 0


class Database:
    """An open file of records. Several processes may use one at a time."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        """Raises: GraphoptError when the file is no tuning database, or damaged."""
        self.path = path
        if not create and not path.is_file():
            raise GraphoptError(
                f"there are no tuning records at {path}", hint="`graphopt tune SOURCE` makes them"
            )
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
            self._prepare()

    def add(self, record: Record) -> Record:
        """Write one row; it is on disk when this returns. The row's id is in what is returned."""
        row = _row(record)
        slots = ", ".join("?" * len(_COLUMNS))
        with self._explained():
            cursor = self._connection.execute(
                f"INSERT INTO records ({', '.join(_COLUMNS)}) VALUES ({slots})", row
            )
        return _record((cursor.lastrowid, *row))

    def add_place(self, key: str, text: str) -> None:
        """Say what a place's key stands for, once."""
        with self._explained():
            self._connection.execute("INSERT OR IGNORE INTO places VALUES (?, ?)", (key, text))

    def records(self, place: str, region: str | None = None) -> list[Record]:
        """Those of a place, and of one region if it is given, oldest first."""
        where, values = "place = ?", [place]
        if region is not None:
            where, values = f"{where} AND region = ?", [place, region]
        with self._explained():
            rows = self._connection.execute(
                f"SELECT id, {', '.join(_COLUMNS)} FROM records WHERE {where} ORDER BY id", values
            ).fetchall()
        return [_record(row) for row in rows]

    def places(self) -> dict[str, str]:
        """Texts of the places there are records of, by key."""
        with self._explained():
            return dict(self._connection.execute("SELECT key, text FROM places").fetchall())

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _prepare(self) -> None:
        """An empty file gets its tables; any other is looked over before it is used."""
        run = self._connection.execute
        if run("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("its pages are inconsistent")
        (application,) = run("PRAGMA application_id").fetchone()
        (version,) = run("PRAGMA user_version").fetchone()
        empty = not run("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if empty and not application:
            self._connection.executescript(_SCHEMA)
        elif application != _APPLICATION:
            raise sqlite3.DatabaseError("it belongs to another program")
        elif version != VERSION:
            raise GraphoptError(
                f"{self.path} has tuning records of version {version}, not {VERSION}",
                hint="name another file, or update graphopt",
            )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of the file system and of SQLite as the user's."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise GraphoptError(
                f"the tuning records at {self.path} cannot be used: {error}",
                hint="name a file that you may write to, and that no other program has locked",
            ) from error
        except sqlite3.DatabaseError as error:
            raise GraphoptError(
                f"{self.path} is not a file of tuning records, or damaged: {error}",
                hint="move it away, or name another file",
            ) from error
        except OSError as error:
            raise GraphoptError(
                f"the tuning records at {self.path} cannot be used: {error.strerror}",
                hint="name a file that you may write to",
            ) from error


def default_path(config: Config | None = None) -> Path:
    """Where records are kept unless a file is named."""
    return (config or Config.from_environment()).cache / "tuning.sqlite"


def _row(r: Record) -> tuple[Any, ...]:
    return (
        r.region, r.place, r.point, r.kernel, r.outcome.value, _list(r.times_ns), r.rival,
        _list(r.rival_times_ns), int(r.final), r.message, r.computes, r.date,
    )  # fmt: skip


def _list(times: Sequence[int]) -> str:
    return json.dumps(list(times), separators=(",", ":"))


def _record(row: Sequence[Any]) -> Record:
    values = dict(zip(("id", *_COLUMNS), row, strict=True))
    values["outcome"] = Outcome(values["outcome"])
    for name in ("times_ns", "rival_times_ns"):
        values[name] = tuple(json.loads(values[name]))
    return Record(**{**values, "final": bool(values["final"])})
