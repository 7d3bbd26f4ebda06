"""Writing files so that a kill or a full disk never leaves half of one."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def atomic_path(path: str | Path, *, keep: Path | None = None) -> Iterator[Path]:
    """Give a temporary path in the folder of ``path``; rename it to ``path`` when the block ends well.

    The folder is made when it is missing. After the block the temporary file is flushed to the disk (fsync)
    and renamed with ``os.replace``, so that a reader sees the old file or the whole new one. If the block
    raises, the temporary file is removed and ``path`` stays as it was.

    With ``keep`` the old file is kept under that name once the new one is whole on the disk. A kill just between the
    two renames leaves the old file there and none at ``path``.

    The temporary name keeps the suffix of ``path``, because writers such as ``numpy.save`` and matplotlib
    choose the format by it.

    Raises:
        OSError: the folder cannot be made, or the file cannot be written (a full disk, for instance). The
            message names ``path``.
        FileNotFoundError: the block wrote nothing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
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
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, f"{error.strerror}, while writing", str(path)) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def write_json(path: str | Path, obj: Any) -> None:
    """Write ``obj`` as indented JSON to ``path`` through :func:`atomic_path`.

    Not-a-number and infinite floats become ``null``: JSON has no word for them.

    Raises:
        TypeError: ``obj`` holds something that JSON cannot express.
        OSError: see :func:`atomic_path`.
    """
    text = json.dumps(_plain(obj), indent=2, allow_nan=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _plain(obj: Any) -> Any:
    if isinstance(obj, dict):
        return {str(key): _plain(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_plain(value) for value in obj]
    if isinstance(obj, float) and (obj != obj or obj in (float("inf"), float("-inf"))):
        return None
    return obj
