"""One run by several processes, as torchrun starts them: who is who, what each does, and what is said once.

All of this also holds for a process alone, which is the first and the only one.
"""

from __future__ import annotations

import gc
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

from lac.errors import ConfigError
from lac.processes import count as count
from lac.processes import rank as rank
from lac.processes import summed as summed

T = TypeVar("T")

_STARTED_BY = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_BEGINNING = timedelta(minutes=30)  # in which all processes are to show up
_PATIENCE = timedelta(days=1)  # the others wait while one computes features, or evaluates
_PRECEDENCE = 3.0  # seconds in which process 0 may tell an error that another process has, too


def first() -> bool:
    """Whether this is process 0, which alone writes and prints."""
    return rank() == 0


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", rank()))


# Beginning and end


@contextmanager
def joined() -> Iterator[None]:
    """Within it the processes that torchrun started are a group (gloo on the CPU, NCCL on GPUs); others are alone.

    Process 0 alone prints. An error in any process ends all, and one of them raises it: of an error that all have
    process 0, else the first. The environment tells who is who, as torchrun sets it.

    Raises:
        SystemExit: in place of an error, where another process raises one.
        ConnectionError: another process is gone.
    """
    if not _is_started() or int(os.environ["WORLD_SIZE"]) == 1 or count() > 1:
        yield
        return
    own, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = _fresh(_launcher(host=own == 0), own, world)
    distributed.init_process_group(store=store, rank=own, world_size=world, timeout=_PATIENCE)
    try:
        with ExitStack() as quiet:
            if own != 0:
                nowhere = quiet.enter_context(open(os.devnull, "w", encoding="utf-8"))
                quiet.enter_context(redirect_stdout(nowhere))
                quiet.enter_context(redirect_stderr(nowhere))
            yield
    except (Exception, KeyboardInterrupt) as error:
        # The group stays as it is until this process is gone: the others would take its end for the error.
        if not _tells(store, own):
            raise SystemExit(1) from error
        if _is_of_a_connection(error):
            raise ConnectionError("another process of this run has ended, or cannot be reached any more") from error
        raise
    gc.collect()  # what DistributedDataParallel keeps alive: gloo's threads that outlive Python's end abort the process
    distributed.destroy_process_group()


def _is_started() -> bool:
    """Whether torchrun has started this process."""
    return all(name in os.environ for name in _STARTED_BY)


def _launcher(*, host: bool) -> Any:
    """The store of torchrun, which outlives the processes; where it has none, the one that process 0 hosts."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return distributed.TCPStore(  # type: ignore[attr-defined]
        address, port, is_master=host and not _is_kept(), timeout=_BEGINNING, wait_for_workers=False, multi_tenant=True
    )


def _is_kept() -> bool:
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _fresh(store: Any, own: int, world: int) -> Any:
    """A part of the store that holds nothing yet: what processes wrote that have died since is still in the store.

    Every process shows up under a name that is new, and process 0 tells the part to those it sees.
    """
    name = uuid.uuid4().hex
    if own != 0:
        store.set(f"lac/process/{own}", name)
        part = store.get(f"lac/part/{name}").decode()  # waits for it
        store.set(f"lac/{part}/{own}", "here")
        return distributed.PrefixStore(f"lac/{part}", store)  # type: ignore[attr-defined]
    while not store.check([f"lac/{name}/{other}" for other in range(1, world)]):
        for other in range(1, world):
            if store.check([f"lac/process/{other}"]):
                store.set(f"lac/part/{store.get(f'lac/process/{other}').decode()}", name)
        time.sleep(0.02)
    return distributed.PrefixStore(f"lac/{name}", store)  # type: ignore[attr-defined]


def _tells(store: Any, own: int) -> bool:
    """Whether it is this process that tells an error."""
    try:
        until = time.monotonic() + (_PRECEDENCE if own else 0)
        while time.monotonic() < until and not store.check(["told"]):
            time.sleep(0.05)
        return bool(store.add("told", 1) == 1)
    except RuntimeError:  # the store is gone, and so is who could read
        return False


def _is_of_a_connection(error: BaseException) -> bool:
    return isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def kept(name: str, value: str = "") -> str:
    """`value`; where torchrun has started the processes again, what was given under that name before.

    "" stands for nothing: it is kept by nobody.
    """
    if not (_is_started() and _is_kept()):
        return value
    return str(_launcher(host=False).compare_set(f"lac/kept/{name}", "", value).decode())


# Together


def from_first(make: Callable[[], T]) -> T:
    """What `make()` gives in process 0, which alone calls it: in all processes."""
    if count() == 1:
        return make()
    box: list[Any] = [make() if first() else None]
    distributed.broadcast_object_list(box, src=0)
    found: T = box[0]
    return found


def in_turn(do: Callable[[], T]) -> T:
    """`do()` by process 0, then by the first of each machine, then by the rest: what it keeps on disk is made once."""
    if count() == 1:
        return do()
    turn = 0 if first() else 1 if _local_rank() == 0 else 2
    results = []
    for now in range(3):
        if now == turn:
            results.append(do())
        distributed.all_reduce(torch.zeros(1))  # all wait for all
    return results[0]


def own_device(name: str) -> str:
    """The device of this process where all are told `name`: with GPUs each process of a machine has its own.

    Raises:
        ConfigError: there are fewer GPUs than processes, or one is meant for all.
    """
    if count() == 1 or not name.startswith(("auto", "cuda")) or not torch.cuda.is_available():
        return name
    own, there = _local_rank(), torch.cuda.device_count()
    if name not in ("auto", "cuda"):
        raise ConfigError(f"device {name!r} cannot be that of {count()} processes: each takes its own, with 'cuda'")
    if own >= there:
        raise ConfigError(f"process {own} of this machine has no GPU: there are {there}; start as many, or take 'cpu'")
    torch.cuda.set_device(own)
    return f"cuda:{own}"
