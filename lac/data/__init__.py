"""Data sets: `load(name)` gives training and validation clips; `register` adds your own."""

from lac.data import digits as _digits
from lac.data import folder as _folder
from lac.data import uiprmd as _uiprmd
from lac.data import watch as _watch
from lac.data.base import Clip, Dataset, check_options, load, names, register

__all__ = ["Clip", "Dataset", "check_options", "load", "names", "register"]

register("watch", _watch.load)
register("uiprmd", _uiprmd.load)
register("digits", _digits.load)
register("folder", _folder.load)
