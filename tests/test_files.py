import errno
import json
import os
import stat
import time

import pytest

from lac import files
from lac.files import atomic_path, locked, write_json


def test_written_whole(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".txt"
        temporary.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"
    assert os.listdir(path.parent) == ["a.txt"]


def test_file_is_as_readable_as_others(tmp_path):
    (tmp_path / "plain").write_text("")
    write_json(tmp_path / "a.json", 1)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "a.json")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize("error", [ValueError("stop"), KeyboardInterrupt()])
def test_failure_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write():
        with atomic_path(path) as temporary:
            temporary.write_text("half of it")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_full_disk_is_told_with_the_name(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text("old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_json(path, {"a": 1})
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_json_has_null_for_what_is_not_a_number(tmp_path):
    write_json(tmp_path / "a.json", {"a": [float("nan"), (1, float("inf"))], 0.5: {"b": True, "c": None}})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [None, [1, None]], "0.5": {"b": True, "c": None}}


def test_json_of_something_else_writes_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_left_is_swept_when_it_is_old(tmp_path):
    old, young, other = (tmp_path / f".a.{name}.txt" for name in ("abcd1234", "efgh5678", "mine"))
    for path in (old, young, other):
        path.write_text("half")
        os.utime(path, (time.time() - (100 if path is young else 4000),) * 2)
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
    assert sorted(os.listdir(tmp_path)) == sorted([young.name, other.name, "a.txt"])


def test_the_old_file_is_kept_once_the_new_one_is_whole(tmp_path, monkeypatch):
    path, before = tmp_path / "a.json", tmp_path / "a.before.json"
    for k in range(3):
        with atomic_path(path, keep=before) as temporary:
            temporary.write_text(str(k))
    assert (path.read_text(), before.read_text()) == ("2", "1")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"), atomic_path(path, keep=before) as temporary:
        temporary.write_text("3")
    assert (path.read_text(), before.read_text()) == ("2", "1")


def test_a_folder_is_locked_once(tmp_path):
    mine = f"process {os.getpid()} is at work"
    with locked(tmp_path), pytest.raises(BlockingIOError, match=mine), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, caplog):
    def none(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files.fcntl, "flock", none)
    with locked(tmp_path):
        pass
    assert "cannot be locked" in caplog.text


@pytest.mark.promise("files")
def test_temporary_names_are_not_to_be_guessed(tmp_path, record_property):
    """Temporary files have names that nobody can guess, in the folder of the result, not in /tmp."""
    names = set()
    for _ in range(200):
        with atomic_path(tmp_path / "a.txt") as temporary:
            assert temporary.parent == tmp_path
            assert temporary.stat().st_nlink == 1
            assert not temporary.is_symlink()
            temporary.write_text("whole")
            names.add(temporary.name)
    assert len(names) == 200
    assert all(len(name) == len(".a.????????.txt") for name in names)
    record_property("cases", 200)


@pytest.mark.promise("files")
@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="links need rights there")
def test_what_is_written_replaces_a_link(tmp_path):
    """A result is not written through a link that lies in its place: the link is replaced."""
    (tmp_path / "other").write_text("not to be changed")
    (tmp_path / "a.json").symlink_to(tmp_path / "other")
    write_json(tmp_path / "a.json", 1)
    assert not (tmp_path / "a.json").is_symlink()
    assert (tmp_path / "other").read_text() == "not to be changed"
