"""Pickles and checkpoints from anybody: whatever they ask for, nothing of it is called."""

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch

import lac.data
from lac.data.pickles import read_pickle
from lac.model.backbone import _read as read_backbone
from lac.runs import checkpoint


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def calls(module: str, name: str, *arguments: bytes) -> bytes:
    """A call as protocol 2 writes it: the global, the arguments, REDUCE."""
    return b"c%s\n%s\n(" % (module.encode(), name.encode()) + b"".join(arguments) + b"tR"


def gadgets(command: str, program: str, path: str) -> dict[str, bytes]:
    """What would run a shell command, a Python program, or write to a path, by the way in which it is asked for."""
    shell, code, file = text(command), text(program), text(path)
    word = b"cbuiltins\ngetattr\n("
    named = {
        f"{module}.{name}": calls(module, name, shell)
        for module, name in (
            ("os", "system"), ("posix", "system"), ("nt", "system"), ("os", "popen"), ("subprocess", "getoutput"),
            ("subprocess", "os.system"), ("commands", "getoutput"), ("platform", "popen"), ("pty", "spawn"),
            ("webbrowser", "open"), ("asyncio", "create_subprocess_shell"), ("ctypes", "CDLL"),
        )
    } | {
        f"{module}.{name}": calls(module, name, code)
        for module, name in (
            ("builtins", "eval"), ("builtins", "exec"), ("__builtin__", "eval"), ("__builtin__", "execfile"),
            ("builtins", "__import__"), ("builtins", "compile"), ("code", "InteractiveInterpreter"),
            ("timeit", "timeit"), ("cProfile", "run"), ("pdb", "run"), ("bdb", "Bdb"), ("trace", "Trace"),
            ("runpy", "run_path"), ("runpy", "_run_code"), ("importlib", "import_module"), ("imp", "load_source"),
            ("numpy.testing", "rundocs"), ("numpy.f2py", "compile"), ("numpy.distutils.exec_command", "exec_command"),
            ("torch._inductor.codecache", "compile_file"), ("torch.hub", "load"), ("torch.jit", "load"),
            ("torch.utils.cpp_extension", "load_inline"), ("torch.distributed.rpc.api", "_run_function"),
            ("operator", "attrgetter"), ("operator", "methodcaller"), ("functools", "partial"), ("types", "CodeType"),
            ("types", "FunctionType"), ("copyreg", "_reconstructor"), ("copyreg", "__newobj__"), ("marshal", "loads"),
            ("pickle", "loads"), ("_pickle", "loads"), ("dill", "loads"), ("cloudpickle", "loads"), ("shelve", "open"),
            ("builtins", "getattr"), ("builtins", "setattr"), ("builtins", "globals"), ("builtins", "type"),
        )
    } | {
        f"{module}.{name}": calls(module, name, file)
        for module, name in (
            ("builtins", "open"), ("io", "open"), ("os", "remove"), ("shutil", "rmtree"), ("os", "mkdir"),
            ("pathlib", "Path"), ("pathlib", "PosixPath"), ("numpy", "load"), ("numpy", "fromfile"),
            ("numpy", "memmap"), ("torch", "load"), ("torch", "save"), ("lac.files", "atomic_path"),
            ("lac.data.pickles", "read_pickle"), ("tempfile", "mkdtemp"), ("socket", "create_connection"),
            ("urllib.request", "urlopen"), ("sqlite3", "connect"), ("logging", "FileHandler"),
        )
    }  # fmt: skip
    inner = io.BytesIO()
    torch.save(torch.zeros(1).untyped_storage(), inner)
    by_opcode = {
        "INST": b"(" + shell + b"ios\nsystem\n",
        "OBJ": b"(cos\nsystem\n" + shell + b"o",
        "NEWOBJ": b"cos\nsystem\n(" + shell + b"t\x81",
        "NEWOBJ_EX": text("os") + text("system") + b"\x93(" + shell + b"t}\x92",
        "STACK_GLOBAL": text("os") + text("system") + b"\x93(" + shell + b"tR",
        "a dotted name": text("numpy") + text("dtype.__init__.__globals__") + b"\x93",
        "within an allowed module": text("numpy") + text("ctypeslib.ctypes.CDLL") + b"\x93(" + file + b"tR",
        "getattr of getattr": word + b"cos\nsystem\nX\x08\0\0\0__call__tR(" + shell + b"tR",
        "EXT1": b"\x82\x01(" + shell + b"tR",
        "PERSID": b"Pos.system\n",
        "BINPERSID": shell + b"Q",
        "BUILD of a class": b"cnumpy\ndtype\n(N}" + text("__call__") + b"cos\nsystem\nstb",
        "in a list": b"](" + calls("os", "system", shell) + b"e",
        "in a dict": b"}" + text("a") + calls("os", "system", shell) + b"s",
        "in a tensor": b"ctorch.storage\n_load_from_bytes\n(B" + _inside(calls("os", "system", shell)) + b"tR",
        "another reader of a tensor": calls("torch", "storage._load_from_bytes", shell),
        "as what an array is of": b"cnumpy.core.multiarray\n_reconstruct\n(cos\nsystem\n(K\0tC\x01btR",
        "as a type": b"cnumpy\ndtype\n(cos\nsystem\ntR",
    }
    return named | by_opcode


def _inside(call: bytes) -> bytes:
    """The length and the bytes of what torch wrote of a tensor before it wrote zips, with a call in it."""
    content = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + call + b"."
    return struct.pack("<I", len(content)) + content


def as_state(call: bytes) -> bytes:
    """A checkpoint in whose dict the call stands."""
    file, made = io.BytesIO(), io.BytesIO()
    torch.save({"a": torch.zeros(3)}, file)
    with zipfile.ZipFile(file) as parts, zipfile.ZipFile(made, "w") as target:
        for name in parts.namelist():
            content = b"\x80\x02}" + text("a") + call + b"s." if name.endswith("data.pkl") else parts.read(name)
            target.writestr(name, content)
    return made.getvalue()


def write_state(path, call):
    checkpoint._write(path, as_state(call) + checkpoint._MARK + checkpoint._BLANK)


def write_watch(path, call):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    path.write_bytes(file.getvalue() + b"\x80\x02" + call + b".")


PLACES = {
    "a.pkl": (lambda path, call: path.write_bytes(b"\x80\x04" + call + b"."), read_pickle),
    "a.npy": (write_watch, lambda path: lac.data.load("watch", path)),
    "trainer.pt": (write_state, checkpoint.read_state),
    "weights.pt": (lambda path, call: path.write_bytes(as_state(call)), read_backbone),
}


@pytest.mark.promise("files")
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", PLACES)
def test_nothing_that_a_pickle_asks_for_is_called(name, tmp_path, record_property):
    """A pickle or a checkpoint runs nothing, whatever it asks for and by whatever opcode."""
    made = tmp_path / "made"
    attacks = gadgets(f"touch {made}", f"open({str(made)!r}, 'w')", str(made))
    write, read = PLACES[name]
    path = tmp_path / name
    for what, call in attacks.items():
        write(path, call)
        with pytest.raises(ValueError, match=name):
            read(path)
        assert set(tmp_path.iterdir()) == {path}, what
    record_property("cases", len(attacks))
    pickle.loads(b"\x80\x04" + attacks["os.system"] + b".")
    assert made.exists(), "the attack that is refused is none"


def array(state: bytes, kind: bytes = b"", text_of_type: bytes = b"f8") -> bytes:
    """An array as NumPy pickles it, with another state of itself or of its type."""
    dtype = calls("numpy", "dtype", text(text_of_type.decode()), b"\x89\x88") + kind
    return (
        calls("numpy.core.multiarray", "_reconstruct", b"cnumpy\nndarray\n", b"K\0\x85", b"C\x01b")
        + state % dtype
        + b"b"
    )


SHAPE = b"(K\x01K\x02\x85%s\x89C\x10" + bytes(16) + b"t"


@pytest.mark.promise("files")
def test_an_array_in_a_pickle_is_what_its_bytes_are(tmp_path, record_property):
    """Numbers in a pickle are not followed as addresses, nor read beyond their end, whatever it says."""
    path = tmp_path / "a.pkl"

    def read(content):
        path.write_bytes(b"\x80\x02" + content + b".")
        return read_pickle(path)

    assert read(array(SHAPE)).tolist() == [0, 0]
    flags = b"(K\x03X\x01\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb"
    lied = pickle.loads(b"\x80\x02" + calls("numpy", "dtype", text("f8"), b"\x89\x88") + flags + b".")
    assert lied.hasobject  # float64 that NumPy takes for addresses
    assert not read(array(SHAPE, flags)).dtype.hasobject
    refused = {
        "more entries than bytes": array(SHAPE.replace(b"K\x02\x85", b"K\x03\x85")),
        "a negative length": array(SHAPE.replace(b"K\x02\x85", b"J\xfe\xff\xff\xff\x85")),
        "a length that is no number": array(SHAPE.replace(b"K\x02\x85", b"G" + struct.pack(">d", 2) + b"\x85")),
        "a product that wraps": array(b"(K\x01\x8a\x05\0\0\0\0\x01\x8a\x05\0\0\0\0\x01\x86%s\x89C\0t"),
        "objects from bytes": array(SHAPE, text_of_type=b"O8"),
        "numbers from a list": array(b"(K\x01K\x02\x85%s\x89](K\1K\2et"),
        "objects that are fewer": array(b"(K\x01K\x05\x85%s\x89](K\1K\2et", text_of_type=b"O8"),
        "named columns": array(SHAPE, text_of_type=b"i4,i4"),
        "an address": array(SHAPE, text_of_type=b"V8"),
        "no state": array(b"%sN"),
        "a type as the state": array(b"%s"),
    }
    for what, content in refused.items():
        with pytest.raises(ValueError, match=r"a\.pkl is not a pickle of plain arrays"):
            raise AssertionError(f"{what}: {read(content)!r}")
    record_property("cases", len(refused) + 2)


@pytest.mark.promise("files")
@pytest.mark.parametrize(
    "module", ["numpy.dtype", "numpy.core.multiarray._reconstruct", "_codecs.encode", "collections.OrderedDict"]
)
def test_a_pickle_changes_nothing_that_outlives_it(module, tmp_path):
    """What a pickle says of the functions that it may call changes none of them for the next one."""
    path = tmp_path / "a.pkl"
    package, _, name = module.rpartition(".")
    target = b"c%s\n%s\n" % (package.encode(), name.encode())
    for attribute in ("make", "__call__", "__defaults__", "__init__", "__setstate__", "update"):
        for state in (b"}" + text(attribute) + b"Ns", b"N}" + text(attribute) + b"Ns\x86"):
            path.write_bytes(b"\x80\x02" + target + state + b"b.")
            with pytest.raises(ValueError, match=r"a\.pkl is not a pickle"):
                read_pickle(path)
    path.write_bytes(pickle.dumps([np.arange(3), "é".encode()], 2))
    assert read_pickle(path)[0].tolist() == [0, 1, 2]
