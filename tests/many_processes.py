"""A script in several processes that talk to each other, for tests."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist

ROOT = Path(__file__).parent.parent


def run(script: Path, world: int, *arguments: str, seconds: float = 120) -> None:
    """Run `python SCRIPT RANK WORLD FILE ARGUMENTS` for each rank; FILE is where they meet, see `meet`.

    Raises:
        AssertionError: a process failed, or they were not done in time; with what they said.
    """
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels"), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / f"said-{rank}" for rank in range(world)]
        started = []
        try:
            for rank, log in enumerate(logs):
                command = [sys.executable, str(script), str(rank), str(world), f"{folder}/meet", *arguments]
                with log.open("w") as said:
                    started.append(subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT))
            codes: list[int | None] = []
            for process in started:
                try:
                    codes.append(process.wait(timeout=seconds))
                except subprocess.TimeoutExpired:
                    codes.append(None)
                    seconds = 1
        finally:
            for process in started:
                process.kill()
                process.wait()
        said = "\n".join(f"process {rank}: {log.read_text()[-4000:]}" for rank, log in enumerate(logs))
    assert not any(code != 0 for code in codes), f"exit codes {codes} (None: not done in time)\n{said}"


def meet(rank: int, world: int, file: str) -> None:
    """Make the default process group, by gloo."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world)
