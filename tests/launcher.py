"""Commands as processes of their own to which something happens at a chosen moment: a kill, a full disk, a signal.

A process that has imported everything forks one child for each command, so that a command takes no time to start. A
moment is a number of seconds, or the n-th time that the command opens, renames, makes or removes something in a
watched folder: an audit hook of Python counts, so nothing of the command itself is changed.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.chmod"}
BALLAST = "ballast"  # the file that fills a disk


@dataclass
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code; negative: the signal that ended it.
        out, err: what it wrote.
        seconds: that it took.
        events: the seconds and the path of every event in the watched folders.
    """

    code: int
    out: str
    err: str
    seconds: float
    events: list[tuple[float, str]] = field(default_factory=list)

    @property
    def errors(self) -> list[str]:
        """The lines that tell an error."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


class Launcher:
    """Starts commands; see the module. To be closed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, command: str, *argv: object, **more: Any) -> Ended:
        """Run `lac COMMAND ARGV`.

        Args:
            command: as `lac.cli.main` knows it.
            argv: its arguments.
            more: `watch`: the folders; `act`: what happens ("KILL", "INT", "TERM": a signal; "fill": the disk of the
                first watched folder is full; "limit": no file can grow; "clock": it jumps); `at`: at which event, from
                1, or `after`: how many seconds, neither: at the start; `variables`: of the environment; `uid`: of the
                user; `patch`: seconds that the clock is off from there on.
        """
        request = {"command": command, "argv": list(map(str, argv)), "folder": str(self._folder)} | more
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request, default=str) + "\n")
        self._process.stdin.flush()
        reply = json.loads(self._process.stdout.readline())
        out, err = ((self._folder / name).read_text(errors="replace") for name in ("out", "err"))
        events = [(float(line.split(" ", 1)[0]), line.split(" ", 1)[1]) for line in _lines(self._folder / "events")]
        return Ended(reply["code"], out, err, reply["seconds"], events)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(errors="replace").splitlines() if " " in line]


def _serve() -> None:
    import efficientnet_lite_pytorch  # noqa: F401
    import sklearn.linear_model
    import sklearn.svm  # noqa: F401
    from torch.utils.tensorboard import SummaryWriter  # noqa: F401

    from lac.cli import align_all, videos  # noqa: F401
    from lac.cli.main import COMMANDS
    from lac.runs import alignment_quality, run  # noqa: F401

    modules = {name: __import__(module, fromlist=["COMMAND"]) for name, (module, _) in COMMANDS.items()}
    for line in sys.stdin:
        request = json.loads(line)
        began = time.monotonic()
        child = os.fork()
        if not child:
            _become(request, began)
            sys.argv = ["lac", *request["argv"]]
            try:
                modules[request["command"]].COMMAND.entry()
            except SystemExit as end:
                sys.stdout.flush()
                os._exit(int(end.code or 0))  # at once: to take so much apart takes longer than most commands
        status = _wait(child, request, began)
        reply = {"code": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - began}
        print(json.dumps(reply), flush=True)


def _wait(child: int, request: dict[str, Any], began: float) -> int:
    after = request.get("after")
    while after is not None and time.monotonic() < began + after:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        time.sleep(0.001)
    if after is not None:
        os.kill(child, getattr(signal, "SIG" + request["act"]))
    return os.waitpid(child, 0)[1]


def _become(request: dict[str, Any], began: float) -> None:
    """What the child does before it is the command."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts behind `&` ignores it
    folder = Path(request["folder"])
    log = os.open(folder / "events", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number, name in ((0, os.devnull), (1, folder / "out"), (2, folder / "err")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC * bool(number)), number)
    os.environ.update(request.get("variables", {}))
    if "uid" in request:
        os.setgroups([])
        os.setgid(request["uid"])
        os.setuid(request["uid"])
    watched = [os.fspath(path) for path in request.get("watch", [])]
    act, at = request.get("act"), request.get("at")
    if act and at is None and "after" not in request:
        _happen(act, request)
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in _EVENTS or isinstance(arguments[0], int):
            return
        path = os.fsdecode(arguments[0])
        if not any(path.startswith(root) for root in watched) or path.endswith(BALLAST):
            return
        count += 1
        os.write(log, f"{time.monotonic() - began:.4f} {path}\n".encode())
        if count == at:
            _happen(str(act), request)

    if watched:
        sys.addaudithook(hook)


def _happen(act: str, request: dict[str, Any]) -> None:
    if act == "fill":
        fill(Path(request["watch"][0]))
    elif act == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    elif act == "clock":
        real, off = time.time, request["patch"]
        time.time = lambda: real() + off
    else:
        os.kill(os.getpid(), getattr(signal, "SIG" + act))


def fill(folder: Path) -> None:
    """Fill the disk to the last byte."""
    ballast = os.open(folder / BALLAST, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for size in (1 << 16, 1 << 12, 1):
        while True:
            try:
                os.write(ballast, b"\0" * size)
            except OSError:
                break
    os.close(ballast)


if __name__ == "__main__":
    _serve()
