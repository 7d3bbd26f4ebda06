"""TFRecords of TCC, read without TensorFlow.

Dwibedi, Aytar, Tompson, Sermanet, Zisserman, "Temporal Cycle-Consistency Learning", CVPR 2019. A record is a
`tf.train.SequenceExample` for each video: context `name`; feature lists `video` (a JPEG file for each frame) and
`frame_labels` (a number for each frame).
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from lac.bounds import open_file
from lac.data.convert.penn_events import ACTIONS, phases
from lac.data.convert.plain import Content, Item, LeftOut, Source, whole_numbers
from lac.errors import DataError

_FILE = re.compile(r"(?P<dataset>\w.*)_(?P<split>train|val|test)-(?P<shard>\d+)(-of-(?P<shards>\d+))?\.tfrecord")
_JPEG = b"\xff\xd8"
_Message = memoryview
_Value = int | memoryview
_EMPTY = memoryview(b"")


def read(root: Path) -> Source:
    """`DATASET_SPLIT-K-of-N.tfrecord` in the folder, or in folders such as `DATASET_tfrecords` in it.

    A task for each data set; `penn_action`, whose clips are named NNNN_ACTION, has one for each action.
    """
    found = [
        (path, match)
        for path in sorted([*root.glob("*.tfrecord"), *root.glob("*/*.tfrecord")])
        if (match := _FILE.fullmatch(path.name))
    ]
    if not found:
        raise FileNotFoundError(f"{root} has no file such as pouring_train-0-of-2.tfrecord, nor has a folder in it")
    found.sort(key=lambda one: (one[0].parent, one[1]["dataset"], one[1]["split"], int(one[1]["shard"])))
    _check_shards(found)
    datasets = list(dict.fromkeys(match["dataset"] for _, match in found))
    single = len(datasets) == 1 and datasets[0] != "penn_action"
    records = [(path, match, number, place) for path, match in found for number, place in enumerate(_records(path))]

    def items() -> Iterator[Item]:
        for path, match, number, place in records:
            where = f"{path}, record {number}"
            context, lists = _parsed(path, place, where)
            name = _name(context, where)
            task = name[5:] if match["dataset"] == "penn_action" else "" if single else match["dataset"]
            split = "val" if match["split"] == "test" else match["split"]
            yield Item(name, split, task, functools.partial(_load, lists, match["dataset"], task))

    names = {"": phases(datasets[0])} if single else {task: phases(task) for task in (*datasets, *ACTIONS)}
    return Source(items(), len(records), names)


def _check_shards(found: list[tuple[Path, re.Match[str]]]) -> None:
    here = {(path.parent, match["dataset"], match["split"], int(match["shard"])) for path, match in found}
    for path, match in found:
        for shard in range(int(match["shards"] or 0)):
            if (path.parent, match["dataset"], match["split"], shard) not in here:
                raise FileNotFoundError(f"{path} is one of {match['shards']} files, but number {shard} is missing")


def _records(path: Path) -> Iterator[tuple[int, int]]:
    """Offset and length of the records of a file: length, its checksum, content, checksum of the content.

    The second checksum is not compared: without a compiled package that takes seconds for each video.
    """
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    offset = number = 0
    with open_file(path) as file:
        size = path.stat().st_size
        while offset < size:
            file.seek(offset)
            head = file.read(12)
            if len(head) == 12:
                length, check = struct.unpack("<QI", head)
                if masked_crc32c(head[:8]) != check:
                    raise DataError(f"{path}, record {number}: wrong checksum; it is no TFRecord file, or damaged")
            if len(head) < 12 or offset + 16 + length > size:
                raise DataError(f"{path}, record {number}: the file is cut short; fetch it again")
            yield offset + 12, length
            offset, number = offset + 16 + length, number + 1


def _parsed(path: Path, place: tuple[int, int], where: str) -> tuple[dict[str, list[_Value]], dict[str, list[_Value]]]:
    """Values of the context, and of the feature lists, by name: fields 1 and 2 of a SequenceExample."""
    with open_file(path) as file:
        file.seek(place[0])
        content = memoryview(file.read(place[1]))
    context: dict[str, list[_Value]] = {}
    lists: dict[str, list[_Value]] = {}
    try:
        for number, part in _fields(content):
            for name, value in _entries(_message(part)):
                if number == 1:
                    context[name] = _values(value)
                elif number == 2:
                    features = [_message(feature) for kind, feature in _fields(value) if kind == 1]
                    lists[name] = [one for feature in features for one in _values(feature)]
    except ValueError as error:
        raise DataError(f"{where}: it is no SequenceExample: {error}") from error
    return context, lists


def _entries(part: _Message) -> Iterator[tuple[str, _Message]]:
    """A map of protobuf: messages of a key and a value."""
    for number, entry in _fields(part):
        if number == 1:
            pair = dict(_fields(_message(entry)))
            yield bytes(_message(pair.get(1, _EMPTY))).decode("utf-8"), _message(pair.get(2, _EMPTY))


def _values(feature: _Message) -> list[_Value]:
    """A Feature: field 1 lists bytes, 2 floats, which no field of TCC holds, 3 int64, packed or one by one."""
    found: list[_Value] = []
    for kind, values in _fields(feature):
        for _, value in _fields(_message(values)) if kind in (1, 3) else ():
            if kind == 1:
                found.append(_message(value))
            elif isinstance(value, int):
                found.append(_signed(value))
            else:
                at = 0
                while at < len(value):
                    one, at = _varint(value, at)
                    found.append(_signed(one))
    return found


def _fields(message: _Message) -> Iterator[tuple[int, _Value]]:
    """Numbers and values of the fields of a protobuf message; fields of fixed width are passed over."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            number, at = _varint(message, at)
            yield key >> 3, number
            continue
        length, at = _varint(message, at) if kind == 2 else ({1: 8, 5: 4}.get(kind, len(message)), at)
        if at + length > len(message):
            raise DataError("a field is longer than its message")
        if kind == 2:
            yield key >> 3, message[at : at + length]
        at += length


def _varint(message: _Message, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
    raise DataError("a number does not end")


def _message(value: _Value) -> _Message:
    if isinstance(value, int):
        raise DataError("a number in place of a message")
    return value


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _name(context: dict[str, list[_Value]], where: str) -> str:
    values = context.get("name", [])
    if len(values) != 1 or isinstance(values[0], int):
        raise DataError(f"{where}: it has no name, so it is no record of TCC")
    return bytes(values[0]).decode("utf-8", errors="replace")


def _load(lists: dict[str, list[_Value]], dataset: str, task: str) -> Content:
    if dataset == "penn_action" and task not in ACTIONS:
        raise LeftOut(f"action {task} has no phases")
    images = [b"" if isinstance(image, int) else bytes(image) for image in lists.get("video", [])]
    for number, image in enumerate(images):
        if not image.startswith(_JPEG):
            raise LeftOut("video cannot be read", f"frame {number} is no JPEG file")
    return Content(images, whole_numbers(lists["frame_labels"]) if lists.get("frame_labels") else None)
