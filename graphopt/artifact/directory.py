"""A directory that appears whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graphopt.artifact.format import MANIFEST
from graphopt.errors import ArtifactError

_LOCK, _OLD = ".writing", "-old"
_UNLOCKED_S = 60
"""A temporary has no lock for an instant when it is made, and when it takes its place."""

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Write into the directory this yields; on success it takes `folder`'s place, in one step.

    On failure `folder` is as it was. What a killed run left beside it is removed.
    Raises: ArtifactError when `folder` is not an artifact, or cannot be written.
    """
    folder = Path(os.path.abspath(folder))
    _refuse_foreign(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        temporary = Path(tempfile.mkdtemp(prefix=_prefix(folder), dir=folder.parent))
    except OSError as error:
        raise _unwritable(folder, error) from error
    lock = os.open(temporary / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield temporary
        (temporary / _LOCK).unlink()
        _finish(temporary)
        _swap(temporary, folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        os.close(lock)
        shutil.rmtree(temporary, ignore_errors=True)


def check_replaceable(folder: Path) -> None:
    """Whether `replacing` has a chance, told before the work is done. Raises: ArtifactError."""
    folder = Path(os.path.abspath(folder))
    _refuse_foreign(folder)
    above = next(p for p in folder.parents if p.exists())
    if not os.access(above, os.W_OK | os.X_OK) or not above.is_dir():
        code = errno.EACCES if above.is_dir() else errno.ENOTDIR
        raise _unwritable(folder, OSError(code, os.strerror(code)))


def _prefix(folder: Path) -> str:
    return f".{folder.name}.graphopt-"


def _unwritable(folder: Path, error: OSError) -> ArtifactError:
    return ArtifactError(
        f"{folder} cannot be written: {error.strerror or error}",
        hint="choose another directory with --out, or make room and permission there",
    )


def _refuse_foreign(folder: Path) -> None:
    """Only an artifact or an empty directory may be replaced."""
    if not os.path.lexists(folder):
        return
    if folder.is_dir() and ((folder / MANIFEST).is_file() or not any(folder.iterdir())):
        return
    raise ArtifactError(
        f"{folder} exists and is not an artifact",
        hint="choose another directory with --out; graphopt replaces nothing it did not write",
    )


def remove_leftovers(folder: Path) -> None:
    """Temporaries beside it whose writer is gone: nobody holds their lock. Raises: OSError."""
    folder = Path(os.path.abspath(folder))
    for path in folder.parent.glob(f"{_prefix(folder)}*"):
        if path.name.endswith(_OLD) and not folder.exists():
            os.rename(path, folder)  # killed between the two steps of a swap
            continue
        try:
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            if time.time() - path.stat().st_mtime > _UNLOCKED_S:
                shutil.rmtree(path, ignore_errors=True)
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            pass  # another process is writing this artifact now
        finally:
            os.close(lock)


def _finish(temporary: Path) -> None:
    """Everything on disk, readable as the user's other files are."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(temporary, 0o777 & ~mask)
    for path in temporary.rglob("*"):
        if path.is_file():
            if stat.S_IMODE(path.stat().st_mode) != 0o666 & ~mask:  # chmod renews the ctime
                os.chmod(path, 0o666 & ~mask)
            _sync(path)
    _sync(temporary)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(temporary: Path, folder: Path) -> None:
    """`temporary` becomes `folder`; the old one, if any, is left at `temporary`."""
    if not folder.exists():
        os.rename(temporary, folder)
    elif not _exchange(temporary, folder):
        aside = temporary.with_name(f"{temporary.name}{_OLD}")
        os.rename(folder, aside)
        try:
            os.rename(temporary, folder)
        except OSError:
            os.rename(aside, folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    with contextlib.suppress(OSError):  # some filesystems cannot sync a directory
        _sync(folder.parent)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two directories in one step; False where the system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    result = libc.renameat2(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE)
    return bool(result == 0)
