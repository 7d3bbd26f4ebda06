"""Files that promise more than they hold, or unpack to more than is bearable, are refused before memory is taken."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("av", reason="videos need PyAV")
pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="limits of memory, and what a process uses"
)

from hostile import FILES, read_encoder, write_all  # noqa: E402
from tiny_run import write_clips, write_run  # noqa: E402

from lac.runs import checkpoint  # noqa: E402

ENCODERS = [one.name for one in FILES if one.read is read_encoder]  # have another name in a run folder
MOST = 256  # MB, more than what a reader's own packages take when they are first needed


@pytest.mark.promise("files")
def test_what_promises_too_much_is_refused_before_memory_is_taken(tmp_path, record_property):
    """A small file that asks for gigabytes is refused in a line that names it, before memory is taken.

    Archives, pictures, videos, sound, checkpoints, pickles, JSON, YAML, tables: see `hostile.FILES`.
    """
    write_all(tmp_path)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "hostile", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=environment, cwd=Path(__file__).parent, check=False
    )
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["name"] for one in said] == [one.name for one in FILES]
    assert [one["name"] for one in said if not one["error"]] == ["zeros.mat"]  # a variable of nothing is passed over
    for one in said:
        assert one["ours"], one
        assert "MemoryError" not in one["error"], one
        # FFmpeg asks for the room of a table of times, and gives it back before it has written to it.
        assert "allocate" not in one["error"] or one["name"] == "entries.mp4", one
        assert one["name"] in one["error"] or one["name"] in ("zeros.mat", *ENCODERS), one
        assert len(one["error"]) < 2100
    worst = max(one["mb"] for one in said)
    assert worst < MOST, max(said, key=lambda one: one["mb"])
    record_property("cases", len(said))
    record_property("worst", worst)
    record_property("limit", MOST)
    record_property("note", "MB that a file made the process take at most, and the limit")


@pytest.mark.promise("files")
def test_settings_of_a_run_ask_for_no_more_than_its_weights(tmp_path):
    """The loss of a run whose settings ask for terabytes is refused, before memory is taken for it."""
    run = write_run(
        tmp_path / "run", write_clips(tmp_path / "clips"), 3, **{"loss.gaps": "contextual", "loss.embed_dim": 4}
    )
    checkpoint.read_loss(run)
    settings = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(settings.replace("embed_dim: 4\n  gap_open", "embed_dim: 1000000\n  gap_open"))
    with pytest.raises(ValueError, match=r"loss\.safetensors does not fit LACLoss: embed_dim is 1000000"):
        checkpoint.read_loss(run)
