"""Checksums of an artifact's files, and the memory of which files were found whole.

`model.so` is hashed at every load. `weights.bin` may be hundreds of megabytes, a quarter of a
second to hash; it is hashed (in pieces, on all cores) at the first load, and the file's identity is
then remembered in the cache folder: device, inode, size and both time stamps. Any write to the file
changes its ctime, which no program can set back, and the next load hashes it again. What this does
not see is a disk that returns other bytes for an untouched file: `graphopt verify` reads all of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from graphopt.artifact.format import RECOMPILE, File
from graphopt.cache import Cache
from graphopt.errors import ArtifactError, GraphoptError

PIECE_BYTES = 4 << 20
"""Files larger than this also have a tree digest: the SHA-256 of the SHA-256s of their pieces."""

_SETTLED_NS = 50_000_000
"""Time stamps have the kernel's tick; a file changed this recently could change again unseen."""


class Hasher:
    """Digests of a file while it is written."""

    def __init__(self) -> None:
        self._all = hashlib.sha256()
        self._pieces: list[bytes] = []
        self._piece = hashlib.sha256()
        self._in_piece = self.size_bytes = 0

    def update(self, data: memoryview) -> None:
        self._all.update(data)
        self.size_bytes += len(data)
        while len(data):
            part = data[: PIECE_BYTES - self._in_piece]
            self._piece.update(part)
            self._in_piece += len(part)
            data = data[len(part) :]
            if self._in_piece == PIECE_BYTES:
                self._end_piece()

    def _end_piece(self) -> None:
        self._pieces.append(self._piece.digest())
        self._piece, self._in_piece = hashlib.sha256(), 0

    def file(self) -> File:
        """The entry of the whole file."""
        if self._in_piece:
            self._end_piece()
        large = self.size_bytes > PIECE_BYTES
        tree = hashlib.sha256(b"".join(self._pieces)).hexdigest() if large else ""
        return File(self.size_bytes, self._all.hexdigest(), tree)


def check_file(path: Path, expected: File, *, trust_records: bool) -> None:
    """Raises: ArtifactError when a file is missing or is not what the manifest says.

    `trust_records`: a large file that was found whole before, and not touched since, is not read.
    """
    try:
        status = path.stat()
        if status.st_size != expected.size_bytes:
            raise ArtifactError(
                f"{path} is {status.st_size} bytes, and was written as {expected.size_bytes}",
                hint=RECOMPILE,
            )
        if expected.tree and trust_records and _is_recorded(path, status, expected):
            return
        found = _tree(path, status.st_size) if expected.tree else _plain(path)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing", hint=RECOMPILE) from None
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}", hint=RECOMPILE) from None
    if found != (expected.tree or expected.sha256):
        raise ArtifactError(
            f"{path} is damaged: its checksum is not the manifest's", hint=RECOMPILE
        )
    if expected.tree:
        record(path, expected)


def record(path: Path, expected: File) -> None:
    """Remember that a file is whole. Without a writable cache it is checked again next time."""
    with contextlib.suppress(OSError, GraphoptError):
        status = path.stat()
        if time.time_ns() - status.st_ctime_ns > _SETTLED_NS:
            content = json.dumps(_identity(status, expected)).encode()
            Cache("verified").put(_key(path), content, ".json")


def _is_recorded(path: Path, status: os.stat_result, expected: File) -> bool:
    try:
        text = Cache("verified").path(_key(path), ".json").read_bytes()
        return bool(json.loads(text) == _identity(status, expected))
    except (OSError, ValueError):
        return False


def _key(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()


def _identity(status: os.stat_result, expected: File) -> list[object]:
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns,
            expected.tree]  # fmt: skip


def _plain(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tree(path: Path, size: int) -> str:
    """The digest of the pieces' digests; hashlib lets other threads run."""
    with path.open("rb") as file, ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        descriptor = file.fileno()

        def piece(offset: int) -> bytes:
            return hashlib.sha256(os.pread(descriptor, PIECE_BYTES, offset)).digest()

        return hashlib.sha256(b"".join(pool.map(piece, range(0, size, PIECE_BYTES)))).hexdigest()
