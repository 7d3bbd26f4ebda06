"""The operators: what torch asks of them, and torch.compile."""

import os
import subprocess
import sys

import pytest
import torch
from embedded import FORMS, frame_numbers
from oracle import ENGINES, leaves
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from lac import LACLoss, smith_waterman, soft_alignment
from lac_kernels import ops


def canonical(gaps: str, lengths: bool) -> tuple:
    s, o, e, t = leaves(2, 2, 3, gaps=gaps, dtype=torch.float32)
    o, e = (x.detach().reshape((1,) * (3 - x.dim()) + x.shape).requires_grad_() for x in (o, e))
    ragged = [torch.tensor(x, dtype=torch.int32) if lengths else None for x in ([2, 1], [2, 3])]
    return s, o, e, t, *ragged


# torch 2.14 hides this warning of its own from its users, but not from one who turns warnings into errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning:torch._subclasses")
@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize(("gaps", "lengths"), [("scalar", False), ("cell", True)])
def test_opcheck(gaps, lengths, backend):
    inputs = canonical(gaps, lengths)
    torch.library.opcheck(ops.forward_op, (*inputs, True, backend))
    torch.library.opcheck(ops.forward_op, (*(None if x is None else x.detach() for x in inputs), False, backend))
    _, saved = ops.forward_op(*inputs, True, backend)
    grad = torch.randn(2).requires_grad_()
    for with_gaps in (True, False):
        arguments = (grad, *inputs, saved.detach(), torch.float32, with_gaps, backend)
        torch.library.opcheck(ops.gradient_op, arguments)
    v = [torch.randn_like(x).requires_grad_() for x in inputs[:3]]
    second = (grad, *inputs, *v, backend)
    torch.library.opcheck(ops.second_op, tuple(x.detach() if isinstance(x, torch.Tensor) else x for x in second))
    # Its derivative is eager's sweeps, unrolled when traced: right, but half a minute to compile.
    torch.library.opcheck(
        ops.second_op, second, test_utils=("test_schema", "test_autograd_registration", "test_faketensor")
    )
    torch.library.opcheck(ops.hard_op, (*(None if x is None else x.detach() for x in inputs), backend))


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize(("gaps", "lengths"), [("scalar", False), ("cell", True)])
def test_both_forms_of_an_operator_agree(gaps, lengths, backend):
    """Called straight on plain tensors, or through the dispatcher: the same numbers, to the third order."""

    def results(forward, gradient):
        inputs = canonical(gaps, lengths)
        score, saved = forward(*inputs, True, backend)
        weight = torch.tensor([1.0, 2.0], requires_grad=True)
        d = gradient(weight, *inputs, saved, torch.float32, True, backend)
        loss = (score * weight).sum() + sum(x.square().sum() for x in d)
        leaves = (weight, *inputs[:4])
        first = torch.autograd.grad(loss, leaves, create_graph=True)
        second = torch.autograd.grad(sum(x.square().sum() for x in first), leaves)
        return score, *d, *first, *second

    plain, opaque = results(ops.forward, ops.gradient), results(ops.forward_op, ops.gradient_op)
    for x, y in zip(plain, opaque, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0)


@pytest.mark.parametrize("backend", ENGINES)
def test_third_order_where_the_direction_depends_on_the_scores(backend):
    inputs = leaves(1, 2, 3, gaps="cell")

    def f(s, o, e, t):
        return soft_alignment(s, gap_open=o, gap_extend=e, temperature=t, backend=backend).square()

    assert torch.autograd.gradgradcheck(f, inputs)


def test_who_looks_on_sees_the_operators():
    """Tracing, fake and meta tensors get what torch can look into; plain autograd does not need it."""
    scores = torch.randn(2, 5, 6)

    def names(graph):
        return {str(node.target) for node in graph.graph.nodes if "lac" in str(node.target)}

    def f(x):
        return torch.autograd.grad(smith_waterman(x).sum(), x)[0]

    traced = make_fx(f)(scores.requires_grad_())
    assert names(traced) == {"lac.smith_waterman.default", "lac.smith_waterman_gradient.default"}
    torch.testing.assert_close(traced(scores), f(scores))
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(scores)
        assert smith_waterman(fake).shape == (2,)
    assert smith_waterman(torch.empty(2, 5, 6, device="meta")).is_meta


def test_compiles_without_a_graph_break():
    torch._dynamo.reset()

    def f(scores, gap, lengths1, lengths2):
        options = {"gap_open": gap, "gap_extend": 0.2, "temperature": 0.3, "lengths": (lengths1, lengths2)}
        posterior = soft_alignment(scores, **options)
        return smith_waterman(scores, **options).sum() + (posterior**2).sum()

    compiled = torch.compile(f, fullgraph=True, dynamic=True, backend="aot_eager")
    for b, n, m in ((2, 6, 7), (3, 9, 5), (4, 5, 5)):
        scores = torch.randn(b, n, m, requires_grad=True)
        gap = torch.tensor(0.5, requires_grad=True)
        lengths = (torch.randint(1, n + 1, (b,)), torch.randint(1, m + 1, (b,)))
        expected = torch.autograd.grad(f(scores, gap, *lengths), (scores, gap))
        result = torch.autograd.grad(compiled(scores, gap, *lengths), (scores, gap))
        for x, y in zip(result, expected, strict=True):
            torch.testing.assert_close(x, y)


@pytest.mark.promise("torch")
@pytest.mark.parametrize("form", [*FORMS, None])
def test_the_loss_compiles_without_a_graph_break(form):
    """torch.compile traces the loss of every form whole, without a graph break, and so its backward."""
    torch._dynamo.reset()
    loss = LACLoss(sequence_form=form)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    z1, z2 = torch.randn(3, 8, 16, requires_grad=True), torch.randn(3, 9, 16)
    lengths = {"lengths1": torch.tensor([8, 4, 1]), "lengths2": torch.tensor([9, 9, 2])}
    arguments = lengths | frame_numbers(z1, z2, form)
    expected = torch.autograd.grad(loss(z1, z2, **arguments), z1)[0]
    result = torch.autograd.grad(compiled(z1, z2, **arguments), z1)[0]
    torch.testing.assert_close(result, expected)


FALL_BACK = """
import warnings
import torch
from lac import smith_waterman
scores = torch.randn(2, 3, 4)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    results = [smith_waterman(scores) for _ in range(2)]
assert all(torch.equal(result, smith_waterman(scores, backend="eager")) for result in results)
print(len(caught), *(w.message for w in caught))
try:
    smith_waterman(scores, backend="cpu")
except RuntimeError as error:
    print(error)
"""


def test_auto_falls_back_aloud(tmp_path):
    """Where the preferred engine cannot run, for want of a compiler, "auto" uses eager and says so once; a named
    backend raises."""
    environment = {
        "PATH": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "LAC_CACHE": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", FALL_BACK]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    warning, error = done.stdout.splitlines()
    assert warning.startswith("1 lac: the cpu engine cannot run on cpu")
    assert "using the slower eager engine" in warning
    assert "install g++" in warning
    assert "backend='cpu' cannot run on device 'cpu'" in error
