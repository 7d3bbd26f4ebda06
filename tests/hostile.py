"""Small files that promise too much, and a process that reads them and says what each has cost.

python -m hostile FOLDER      # prints a line of JSON for each file of `write_all`
"""

import io
import json
import pickle
import resource
import struct
import sys
import wave
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from made_up_data import watch_file

import lac
import lac.data
from lac.data import convert
from lac.data.convert.mat import read_mat
from lac.data.folder import read_clip
from lac.data.labels import read_phases
from lac.data.pickles import read_pickle
from lac.data.reading import read_json, read_npz
from lac.data.sound import read_wav
from lac.model.backbone import _read as read_backbone
from lac.runs import checkpoint
from lac.runs.config import TrainConfig

ROOM = 2 << 30  # bytes of addresses that the reading process may take: nothing here needs half of it


class Hostile(NamedTuple):
    """A file: its name, what writes it, and what reads it."""

    name: str
    write: Callable[[Path], object]
    read: Callable[[Path], object]


def npy(header: dict[str, Any], content: bytes = b"") -> Callable[[Path], object]:
    def write(path: Path) -> None:
        file = io.BytesIO()
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False} | header)  # type: ignore[arg-type]
        path.write_bytes(file.getvalue() + content)

    return write


def bytes_of(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def sparse(size: int) -> Callable[[Path], object]:
    """A file of so many bytes, all of them 0, that takes no room on the disk."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(size)

    return write


def archive(claimed: int) -> Callable[[Path], object]:
    """An npz whose directory says that its array unpacks to so many bytes."""

    def write(path: Path) -> None:
        np.savez_compressed(path, a=np.zeros(1000))
        content = bytearray(path.read_bytes())
        at = content.rindex(b"PK\1\2") + 24
        content[at : at + 4] = struct.pack("<I", claimed)
        path.write_bytes(content)

    return write


def png(side: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1_000_000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def jpeg(side: int) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        from PIL import Image

        file = io.BytesIO()
        Image.new("RGB", (16, 16)).save(file, "jpeg")
        content = bytearray(file.getvalue())
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = struct.pack(">HH", side, side)
        path.write_bytes(content)

    return write


def film_of_a_large_picture(path: Path) -> None:
    """A video of PNG pictures, all but the first of them of 30000 x 30000."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("png", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "rgb24"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        frame.pts = 0
        container.mux(stream.encode(frame))
        for time in (1, 2):
            packet = av.Packet(png(30000))
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, time, time, stream.codec_context.time_base
            container.mux(packet)


def film_with(mark: bytes, offset: int, value: int) -> Callable[[Path], object]:
    """An mp4 in which the number at some bytes behind a mark is another."""

    def write(path: Path) -> None:
        from tiny_video import grey, write_video

        write_video(path, grey(range(5)), np.arange(5) / 25)
        content = bytearray(path.read_bytes())
        at = content.rindex(mark) + offset
        content[at : at + 4] = struct.pack(">I", value)
        path.write_bytes(content)

    return write


def sound(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(2000))
    content = bytearray(path.read_bytes())
    content[40:44] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(content)


def with_digest(content: bytes) -> Callable[[Path], object]:
    """As lac writes it, with the digest of just this content."""
    return lambda path: checkpoint._write(path, content + checkpoint._MARK + checkpoint._BLANK)


def weights(header: bytes, length: int | None = None) -> Callable[[Path], object]:
    return with_digest(struct.pack("<Q", len(header) if length is None else length) + header)


def encoder(**changes: Any) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        made = lac.FrameEncoder(3, embed_dim=4, width=8, heads=2, layers=1)
        checkpoint.write_weights(path, made, {"FrameEncoder": made.config | changes})

    return write


def read_encoder(path: Path) -> object:
    path.rename(path.parent / checkpoint.ENCODER)
    return checkpoint.read_encoder(path.parent)


def saved(state: object) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def repacked(change: Callable[[str, bytes], bytes], how: int) -> bytes:
    """A state of a tensor in an archive whose parts are others, or packed."""
    file, made = io.BytesIO(saved({"a": torch.zeros(1000)})), io.BytesIO()
    with zipfile.ZipFile(file) as parts, zipfile.ZipFile(made, "w", how) as target:
        for name in parts.namelist():
            target.writestr(name, change(name, parts.read(name)))
    return made.getvalue()


def bomb(levels: int = 40) -> list[Any]:
    """Two of the list before in each list: 2^40 parts of 40 lists."""
    inside: list[Any] = [1]
    for _ in range(levels):
        inside = [inside, inside]
    return inside


def objects(value: object) -> np.ndarray:
    """An array that holds a Python object."""
    boxed = np.empty((), dtype=object)
    boxed[()] = value
    return boxed


def deep(levels: int = 100_000) -> bytes:
    return b"\x80\x02" + b"]" * levels + b"a" * (levels - 1) + b"."


def of_repetitions(path: Path) -> None:
    """Ten of the list before in each list of a YAML file."""
    lines = ["a0: &a0 [x]", *(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 12))]
    path.write_text("data:\n" + "\n".join(f"  {line}" for line in lines))


def of_merges(path: Path) -> None:
    lines = ["a0: &a0 {x: 1}", *(f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 10)}]}}" for k in range(1, 12))]
    path.write_text("data:\n" + "\n".join(f"  {line}" for line in lines))


def matlab(path: Path) -> None:
    """A variable that unpacks to 400 MB of zeros."""
    packed = zlib.compress(bytes(400_000_000), 1)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    path.write_bytes(head + struct.pack("<II", 15, len(packed)) + packed)


def record(path: Path) -> None:
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    length = struct.pack("<Q", 2**60)
    path.write_bytes(length + struct.pack("<I", masked_crc32c(length)) + bytes(20))


def image(path: Path) -> object:
    folder = path.with_suffix("")
    folder.mkdir()
    path.rename(folder / path.name)
    return read_clip(folder, size=8, backbone=None)


def film(path: Path) -> object:
    return read_clip(path, size=8, backbone=None)


def pickled(value: object) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(pickle.dumps(value, protocol=2))


MEMO = b"\x80\x02Nr" + struct.pack("<I", 2**28) + b"."
FILES = [
    Hostile("shape.npy", npy({"shape": (10**12,)}), read_clip),
    Hostile("negative.npy", npy({"shape": (-5, 3)}), read_clip),
    Hostile("product.npy", npy({"shape": (2**32, 2**32)}), read_clip),
    Hostile("nothing.npy", npy({"shape": (2**30,), "descr": "|S0"}), read_clip),
    Hostile("objects.npy", npy({"shape": (2**30,), "descr": "|O"}, b"\x80\x04]."), read_clip),
    Hostile("large.npy", npy({"shape": (2**20,), "descr": "|S2000000000"}), read_clip),
    Hostile("header.npy", bytes_of(b"\x93NUMPY\2\0" + struct.pack("<I", 2**32 - 1) + b"{" * 99), read_clip),
    Hostile("claims.npz", archive(2**32 - 2), lambda path: read_npz(path, ["a"])),
    Hostile("cut.npz", archive(2**29), lambda path: read_npz(path, ["a"])),
    Hostile("wide.png", bytes_of(png(60000)), image),
    Hostile("within.png", bytes_of(png(13000)), image),
    Hostile("wide.jpg", jpeg(65500), image),
    Hostile("large.mov", film_of_a_large_picture, film),
    Hostile("count.mp4", film_with(b"stsz", 12, 2**32 - 1), film),
    Hostile("times.mp4", film_with(b"stts", 12, 2**31), film),
    Hostile("entries.mp4", film_with(b"stts", 8, 2**28), film),
    Hostile("sound.wav", sound, read_wav),
    Hostile("header.safetensors", weights(b"{}", 2**60), checkpoint.read_weights),
    Hostile("deep.safetensors", weights(b"[" * 100_000), checkpoint.read_weights),
    Hostile("width.safetensors", encoder(width=10**6, input_dim=10**6), read_encoder),
    Hostile("layers.safetensors", encoder(layers=10**9), read_encoder),
    Hostile("kind.safetensors", encoder(width=[8]), read_encoder),
    Hostile(
        "packed.pt",
        with_digest(repacked(lambda name, part: part, zipfile.ZIP_DEFLATED)),
        checkpoint.read_state,
    ),
    Hostile(
        "short.pt",
        with_digest(repacked(lambda name, part: part[:16] if "data/" in name else part, zipfile.ZIP_STORED)),
        checkpoint.read_state,
    ),
    Hostile(
        "number.pt",
        with_digest(repacked(lambda name, part: part.replace(b"M\xe8\x03", b"J\0\0\0\x40"), zipfile.ZIP_STORED)),
        checkpoint.read_state,
    ),
    Hostile("repeated.pt", with_digest(saved({"a": torch.zeros(1).expand(2**40)})), checkpoint.read_state),
    Hostile("bomb.pt", with_digest(saved({"history": bomb()})), checkpoint.read_state),
    Hostile("backbone.pt", bytes_of(repacked(lambda name, part: part, zipfile.ZIP_DEFLATED)), read_backbone),
    Hostile("memo.pkl", bytes_of(MEMO), read_pickle),
    Hostile("bytes.pkl", bytes_of(b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"."), read_pickle),
    Hostile("frame.pkl", bytes_of(b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"N."), read_pickle),
    Hostile("array.pkl", bytes_of(b"cnumpy\nndarray\n(J" + struct.pack("<i", 2**30) + b'S"O"\ntR.'), read_pickle),
    Hostile(
        "reconstruct.pkl",
        bytes_of(b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(J\0\0\0\x40tS'b'\ntR."),
        read_pickle,
    ),
    Hostile("repeated.pkl", pickled([torch.zeros(1, dtype=torch.int64).expand(2**30)]), read_pickle),
    Hostile("bomb.pkl", pickled(bomb()), read_pickle),
    Hostile("objects.pkl", pickled(objects(bomb())), read_pickle),
    Hostile("deep.pkl", bytes_of(deep()), read_pickle),
    Hostile("number.pkl", pickled([1 << 100_000]), read_pickle),
    Hostile("watch.npy", lambda path: watch_file(path, bomb()), lambda path: lac.data.load("watch", path)),
    Hostile("deep.json", bytes_of(b"[" * 100_000), read_json),
    Hostile("nested.json", bytes_of(b"[" * 200 + b"]" * 200), read_json),
    Hostile("large.json", sparse(1 << 30), read_json),
    Hostile("line.csv", sparse(1 << 30), read_phases),
    Hostile("repeated.yaml", of_repetitions, TrainConfig.read),
    Hostile("merged.yaml", of_merges, TrainConfig.read),
    Hostile("deep.yaml", bytes_of(b"data: " + b"[" * 100_000), TrainConfig.read),
    Hostile("large.yaml", sparse(1 << 30), TrainConfig.read),
    Hostile("zeros.mat", matlab, read_mat),
    Hostile("a_train-0-of-1.tfrecord", record, lambda path: convert.FORMATS["tcc"][0](path.parent)),
    Hostile(
        "m01_s01_e01_positions.txt",
        sparse(1 << 30),
        lambda path: lac.data.load("uiprmd", path.parent, untrimmed=False),
    ),
]  # fmt: skip


def write_all(folder: Path) -> None:
    """Each file in a folder of its own."""
    for number, one in enumerate(FILES):
        (folder / str(number)).mkdir()
        one.write(folder / str(number) / one.name)


def read_all(folder: Path) -> None:
    """Print what came of each: its error, and by how many MB the most memory that was ever used has grown."""
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    for number, one in enumerate(FILES):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        said = {"name": one.name, "error": "", "kind": "", "ours": True}
        try:
            one.read(folder / str(number) / one.name)
        except Exception as error:
            said |= {"error": str(error), "kind": type(error).__name__, "ours": isinstance(error, ValueError | OSError)}
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(json.dumps(said | {"mb": grown}), flush=True)


if __name__ == "__main__":
    read_all(Path(sys.argv[1]))
