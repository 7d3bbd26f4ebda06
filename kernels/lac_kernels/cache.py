"""Where files are kept that can be made again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The user's cache folder of this project: `LAC_CACHE`, else `XDG_CACHE_HOME`/lac, else ~/.cache/lac."""
    if "LAC_CACHE" in os.environ:
        return Path(os.environ["LAC_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lac"
