"""Writing files so that a kill or a full disk never leaves half of one."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lac_kernels.cache import cache_folder, make_folder, sweep

__all__ = [
    "LOCK", "atomic_path", "cache_folder", "is_sealed", "left_behind", "locked", "make_folder", "sealed",
    "while_writing", "write_json",
]  # fmt: skip

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
_SEAL = "sha256"
_log = logging.getLogger("lac")


@contextlib.contextmanager
def while_writing(path: Path, what: str = "") -> Iterator[None]:
    """An error of the system in the block names `path`, and in words what was written there."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, f"{error.strerror}, while writing{what}", str(path)) from error


@contextlib.contextmanager
def atomic_path(path: str | Path, *, keep: Path | None = None) -> Iterator[Path]:
    """Give a temporary path in the folder of `path`; rename it to `path` when the block ends well.

    The folder is made when it is missing. After the block the temporary file is flushed to the disk (fsync)
    and renamed with `os.replace`, so that a reader sees the old file or the whole new one. If the block
    raises, the temporary file is removed and `path` stays as it was.

    What a process that was killed left behind for the same path is removed once it is an hour old.

    With `keep` the old file is kept under that name once the new one is whole on the disk. A kill just between the
    two renames leaves the old file there and none at `path`.

    The temporary name keeps the suffix of `path`, because writers such as `numpy.save` and matplotlib
    choose the format by it.

    Raises:
        OSError: the folder cannot be made, or the file cannot be written (a full disk, for instance). The
            message names `path`.
        FileNotFoundError: the block wrote nothing.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        with while_writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(left_behind(path))
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
            temporary = Path(name)
            os.close(handle)
            # mkstemp makes the file private (0600); the result should be as readable as any other new file.
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(temporary, 0o666 & ~mask)
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            if keep is not None and path.exists():
                os.replace(path, keep)
            os.replace(temporary, path)
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()


def left_behind(path: Path) -> list[Path]:
    """The temporary files of `atomic_path` for `path`, of processes that write it or were killed doing so."""
    return list(path.parent.glob(f".{glob.escape(path.stem)}.????????{glob.escape(path.suffix)}"))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a folder from every other process that asks for it in this way, until the block or the process ends.

    However the process ends: the lock is one of the system (flock) on the file `.lock`, which stays. Where the system
    or the file system knows no such locks, nothing is locked.

    Raises:
        BlockingIOError: another process has it; the message names it.
        OSError: the file cannot be written.
    """
    path = folder / LOCK
    # Not through a link: what lies at its end would be overwritten.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags, 0o666), "rb+", buffering=0) as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                who = f"process {file.read(20).decode('ascii', 'replace') or '(unknown)'}"
                # Not by the error of the system, whose words are those of a lack of memory.
                raise BlockingIOError(
                    error.errno, f"{who} is at work in this folder; wait for it", str(folder)
                ) from None
            except OSError as error:
                _log.warning("%s cannot be locked (%s): see that no other process writes there", folder, error)
        with while_writing(path):
            file.truncate(0)
            file.write(str(os.getpid()).encode("ascii"))
        yield


def write_json(path: str | Path, obj: Any) -> None:
    """Write `obj` as indented JSON to `path` through `atomic_path`.

    Not-a-number and infinite floats become `null`: JSON has no word for them.

    Raises:
        TypeError: `obj` holds something that JSON cannot express.
        OSError: see `atomic_path`.
    """
    text = json.dumps(_plain(obj), indent=2, allow_nan=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sealed(obj: Mapping[str, Any]) -> dict[str, Any]:
    """`obj` for `write_json`, and with it the digest of what will stand there, so that damage is found."""
    plain: dict[str, Any] = _plain(dict(obj))
    return plain | {_SEAL: hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()}


def is_sealed(obj: Mapping[str, Any]) -> bool:
    """Whether what was read is what was `sealed`; also where no digest stands there, of which nothing is known."""
    return _SEAL not in obj or obj == sealed({name: value for name, value in obj.items() if name != _SEAL})


def _plain(obj: Any) -> Any:
    if isinstance(obj, dict):
        return {str(key): _plain(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_plain(value) for value in obj]
    if isinstance(obj, float) and (obj != obj or obj in (float("inf"), float("-inf"))):
        return None
    return obj
