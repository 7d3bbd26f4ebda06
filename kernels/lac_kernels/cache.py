"""Where files are kept that can be made again, and whether code may be loaded from there."""

import contextlib
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path


def cache_folder() -> Path:
    """The user's cache folder of this project: `LAC_CACHE`, else `XDG_CACHE_HOME`/lac, else ~/.cache/lac.

    An empty variable counts as unset, and so does an `XDG_CACHE_HOME` that is not absolute, as its specification asks.

    Raises:
        OSError: the user has no home folder, and no variable says where else.
    """
    if os.environ.get("LAC_CACHE"):
        return Path(os.environ["LAC_CACHE"]).absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():
        return base / "lac"
    try:
        return Path.home() / ".cache" / "lac"
    except RuntimeError as error:
        raise OSError("there is no home folder") from error


def make_folder(folder: Path) -> None:
    """Make a folder for the user alone (0700) if it is missing, and those above it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def sweep(temporary: Iterable[Path]) -> None:
    """Remove files that a process left behind which was killed, an hour ago or more."""
    for left in temporary:
        with contextlib.suppress(OSError):  # another process may do the same
            if time.time() - left.stat().st_mtime > 3600:
                left.unlink()


def others_can_write(path: Path) -> str | None:
    """Why somebody else could have written the file or folder `path`; None if only the user and root can.

    Links are followed. The owner must be the user or root, and nobody else may write to it or, if it is a file, to its
    folder. Folders further up may belong to others, who could at most put something of theirs in its place, but not be
    writable by all unless they are sticky, as /tmp is. Where there are no user numbers (Windows) nothing is checked.
    """
    if not hasattr(os, "getuid"):
        return None
    path = path.resolve()
    strict = (path,) if path.is_dir() else (path, path.parent)
    for place in (path, *path.parents):
        about = place.stat()
        mode = stat.S_IMODE(about.st_mode)
        if place in strict and about.st_uid not in (os.getuid(), 0):
            return f"{place} belongs to another user (number {about.st_uid})"
        if (place in strict and mode & 0o022) or (mode & 0o1002) == 0o0002:
            return f"others may write to {place} (mode {mode:o}); chmod go-w {place}"
    return None
