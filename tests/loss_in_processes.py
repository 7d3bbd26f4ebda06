"""The loss in many processes: cases, and what a process, or one alone, makes of them."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from many_processes import meet
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lac import Consensus, FrameEncoder, LACLoss, self_similarity

E, N, M, PAIRS = 6, 9, 11, 9
GROUPS = (4, 7, 4, 4, 7, 9, 4, 7, 7)
PARTS = {2: (6, 3), 4: (2, 3, 1, 3)}  # pairs of each process
EMPTY = {
    1: (0, 0),
    8: (5, 0),
}  # pairs with a sequence that has no frame: in four processes one process may have no other
REDUCTIONS = ("mean", "sum", "none")


@dataclass(frozen=True)
class Case:
    """Settings of the loss, and what it is called with."""

    settings: dict[str, Any] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    make: Callable[..., LACLoss] = LACLoss
    dtype: torch.dtype = torch.float64


class Unscaled(LACLoss):
    """Takes the mean over what this process has: wrong."""

    def _processes(self) -> int:
        return 1

    def _terms(self, batch: Any) -> Any:
        return self._terms_of_many(batch) if dist.is_initialized() else super()._terms(batch)


class Alone(LACLoss):
    """Every process with its own part of the batch: what is left out without `gather`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "gather": False})


def cases() -> dict[str, Case]:
    few = {"n_thirds": 4}
    grouped: dict[str, dict[str, Any]] = {
        "of both sequences": {"given": ("groups",)},
        "of one clock": {"given": ("groups", "clock")},
        "with a guide": {"given": ("groups", "guide1")},
        "with guides": {"given": ("groups", "guide1", "guide2")},
        "with teachers": {"given": ("groups", "teacher1", "teacher2")},
        "with all of one clock": {"given": ("groups", "clock", "guide1", "teacher1")},
    }
    every = {
        "reversed": Case({"n_negatives": 3}),
        "batch": Case({"negatives": "batch"}),
        "both": Case({"negatives": "both", "n_negatives": 20}),
        "the next two": Case({"negatives": "both", "n_negatives": 2, "n_others": 2}),
        "own clocks": Case({"negatives": "batch", "gaps": "interval"}, ("own clocks",)),
        "contextual": Case({"negatives": "batch", "gaps": "contextual", "embed_dim": E}),
        "contrast, one clock": Case({"sequence_form": "contrast", "negatives": "both"}, ("clock",)),
        "posterior": Case({}, ("clock",)),
        "score": Case({"sequence_form": "score", "learn_similarity": True}),
        "score, one clock": Case({"sequence_form": "score"}, ("clock",)),
        "frames alone": Case({"sequence_weight": 0.0}, ("clock",)),
        "consensus alone": Case({"sequence_weight": 0.0, "frame_weight": 0.0}, ("groups",)),
        "few thirds": Case({"consensus": Consensus(**few)}, ("groups", "guide1", "guide2")),
    }
    every |= {f"groups, {name}": Case(**case) for name, case in grouped.items()}
    every |= {
        f"{name}, float32": Case(case.settings, case.given, case.make, torch.float32)
        for name, case in every.items()
        if name in ("both", "posterior", "score", "few thirds", "groups, with all of one clock")
    }
    return every


def joint_batch(case: Case) -> dict[str, Tensor]:
    """All pairs, the embeddings by the names z1 and z2."""
    g = torch.Generator().manual_seed(5)
    z1 = torch.randn(PAIRS, N, E, generator=g, dtype=torch.float64).cumsum(1)
    z2 = torch.randn(PAIRS, M, E, generator=g, dtype=torch.float64).cumsum(1)
    for k, group in enumerate(GROUPS):
        like = GROUPS.index(group)
        z1[k] = z1[like] + 0.3 * torch.randn(N, E, generator=g, dtype=torch.float64)
        z2[k, :N] = z1[k] + 0.3 * torch.randn(N, E, generator=g, dtype=torch.float64)
    lengths1, lengths2 = (torch.randint(t // 2, t + 1, (PAIRS,), generator=g) for t in (N, M))
    for k, (first, second) in EMPTY.items():
        lengths1[k], lengths2[k] = first, second
    batch = {"z1": z1.to(case.dtype), "z2": z2.to(case.dtype), "lengths1": lengths1, "lengths2": lengths2}
    times = [torch.rand(PAIRS, t, generator=g, dtype=torch.float64).cumsum(1) for t in (N, M)]
    if "clock" in case.given:
        batch |= {"times1": torch.arange(N).expand(PAIRS, N), "times2": torch.arange(M).expand(PAIRS, M)}
    if "own clocks" in case.given:
        batch |= {"times1": times[0], "times2": times[1]}
    if "groups" in case.given:
        batch["groups"] = torch.tensor(GROUPS)
    guides = {"guide1": self_similarity(z1), "guide2": self_similarity(z2)}
    teachers = {f"teacher{k}": z + 0.1 * torch.randn(z.shape, generator=g) for k, z in ((1, z1), (2, z2))}
    more = guides | teachers
    return batch | {name: x.to(case.dtype) for name, x in more.items() if name in case.given}


def part(batch: dict[str, Tensor], world: int, rank: int) -> dict[str, Tensor]:
    """The pairs of a process, without the frames that none of them has."""
    start = sum(PARTS[world][:rank])
    own = {name: x[start : start + PARTS[world][rank]] for name, x in batch.items()}
    longest = [int(own[f"lengths{k}"].max().clamp(min=1)) for k in (1, 2)]
    return {name: x[:, : longest[name.endswith("2")]] if x.dim() > 1 else x for name, x in own.items()}


def loss_of(case: Case, reduction: str) -> LACLoss:
    torch.manual_seed(0)
    loss = case.make(gather=True, reduction=reduction, **case.settings)
    with torch.no_grad():
        for p in loss.parameters():
            p += 0.1 * torch.randn(p.shape)
    return loss.to(case.dtype)


def result(case: Case, reduction: str, batch: dict[str, Tensor], first: int) -> dict[str, Tensor]:
    """Value and gradients; of "none", gradients of the values weighted by the pairs' places from `first` on."""
    loss = loss_of(case, reduction)
    torch.manual_seed(dist.get_rank() if dist.is_initialized() else 0)  # processes differ; the first one draws
    z1, z2 = (batch[name].clone().requires_grad_() for name in ("z1", "z2"))
    own_clocks = {"same_clock": False} if "own clocks" in case.given else {}
    value = loss(z1, z2, **{k: x for k, x in batch.items() if k not in ("z1", "z2")}, **own_clocks)
    if reduction == "none":
        weights = torch.arange(first, first + len(z1)).to(value.dtype).cos()
        (value * weights).sum().backward()
    else:
        value.backward()
    parameters = {name: p.grad for name, p in loss.named_parameters() if p.grad is not None}
    zeros = torch.zeros_like
    embeddings = {"z1": zeros(z1) if z1.grad is None else z1.grad, "z2": zeros(z2) if z2.grad is None else z2.grad}
    return {"value": value.detach(), **embeddings, **parameters}


class Trained(nn.Module):
    """Encoder and loss in one module, so that DistributedDataParallel has all parameters."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.encoder = FrameEncoder(E, embed_dim=8, width=16).to(case.dtype)
        self.loss = loss_of(case, "mean")

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        z1, z2 = (self.encoder(batch[f"z{k}"], lengths=batch[f"lengths{k}"]) for k in (1, 2))
        others = {name: x for name, x in batch.items() if name[:-1] not in ("z", "teacher")}
        return self.loss(z1, z2, **others)


def trained(case: Case, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights after three steps."""
    module = Trained(case)
    torch.manual_seed(dist.get_rank() if dist.is_initialized() else 0)
    stepped: nn.Module = DistributedDataParallel(module) if dist.is_initialized() else module
    optimizer = torch.optim.AdamW(stepped.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        stepped(batch).backward()
        optimizer.step()
    return {name: p.detach().clone() for name, p in module.named_parameters()}


TRAINED = {
    name: Case(settings, given)
    for name, settings, given in (
        ("contrast", {"negatives": "both"}, ("groups",)),
        ("posterior", {}, ("clock", "groups", "guide1")),
    )
}
WRONG = {
    "unscaled": Case({"negatives": "batch"}, make=Unscaled),
    "not gathered": Case({"negatives": "batch"}, make=Alone),
}


def second_derivative(batch: dict[str, Tensor]) -> Tensor:
    """By z2 of the sum of squares of the gradient by z2."""
    case = Case({"negatives": "batch"})
    z2 = batch["z2"].clone().requires_grad_()
    value = loss_of(case, "mean")(batch["z1"], z2, lengths1=batch["lengths1"], lengths2=batch["lengths2"])
    (gradient,) = torch.autograd.grad(value, z2, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), z2)
    return second


def refused(call: Callable[[], object]) -> str:
    """The error of a call, by its kind and message."""
    try:
        call()
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was refused"


def said(rank: int, batch: dict[str, Tensor]) -> dict[str, str]:
    """What is refused, in all processes together."""
    loss = LACLoss(gather=True, negatives="batch")
    z1, z2 = batch["z1"], batch["z2"]
    wide = torch.cat((z1, z1), 2), torch.cat((z2, z2), 2)
    return {
        "sizes": refused(lambda: loss(*(wide if rank else (z1, z2)))),
        "types": refused(lambda: loss(z1, z2) if rank else loss(z1.float(), z2.float())),
        "gradients": refused(lambda: loss(z1, z2.clone().requires_grad_() if rank else z2)),
        "guides": refused(lambda: loss(z1, z2, groups=torch.zeros(len(z1)).long(), guide1=z1 if rank else None)),
        "vmap": refused(lambda: torch.func.vmap(loss)(z1[None], z2[None])),
    }


def main(rank: int, world: int, file: str, out: str) -> None:
    meet(rank, world, file)
    first = sum(PARTS[world][:rank])
    results: dict[str, Any] = {}
    for name, case in cases().items():
        own = part(joint_batch(case), world, rank)
        for reduction in REDUCTIONS:
            results[f"{name}, {reduction}"] = result(case, reduction, own, first)
    for name, case in WRONG.items():
        results[name] = result(case, "mean", part(joint_batch(case), world, rank), first)
    for name, case in TRAINED.items():
        results[f"weights, {name}"] = trained(case, part(joint_batch(case), world, rank))
    own = part(joint_batch(Case()), world, rank)
    results["second derivative"] = second_derivative(own)
    results["said"] = said(rank, own)
    compiled = torch.compile(lambda z1, z2: LACLoss(gather=True, negatives="batch")(z1, z2), backend="eager")
    results["compiled"] = compiled(own["z1"], own["z2"])
    results["traced"] = LACLoss(gather=True, negatives="batch")(own["z1"], own["z2"])
    dist.destroy_process_group()
    meet(rank, world, f"{file}-again")
    results["met again"] = LACLoss(gather=True, negatives="batch")(own["z1"], own["z2"])
    torch.save(results, Path(out) / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
