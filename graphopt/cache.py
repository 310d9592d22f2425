"""A content-addressed store of files: the name is the hash of everything the content depends on."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from graphopt.config import Config
from graphopt.errors import GraphoptError


def key_of(parts: Iterable[str]) -> str:
    """SHA-256 over texts; their boundaries count."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


class Cache:
    """One section of the cache folder, e.g. `objects`. Safe for several processes at once."""

    def __init__(self, section: str, config: Config | None = None) -> None:
        self.root = (config or Config.from_environment()).cache / section

    def path(self, key: str, suffix: str = "") -> Path:
        """Where the content of a key lies, whether or not it is there yet."""
        return self.root / key[:2] / f"{key[2:]}{suffix}"

    def find(self, key: str, suffix: str = "") -> Path | None:
        """The file of a key, if it is there."""
        path = self.path(key, suffix)
        return path if path.is_file() else None

    def put(self, key: str, content: bytes, suffix: str = "") -> Path:
        """Store and return the path. Raises: GraphoptError when the folder cannot be written."""
        path = self.path(key, suffix)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
        except OSError as error:
            raise GraphoptError(
                f"the cache folder {self.root} cannot be written: {error.strerror}",
                hint="set GRAPHOPT_CACHE to a folder you may write to",
            ) from error
        return path


def write_atomically(path: Path, content: bytes) -> None:
    """Readers see the old file or all of the new one. Raises: OSError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
