"""torch.func and forward mode: every transform gives what reverse mode gives, on every engine."""

from collections.abc import Callable

import pytest
import torch
from embedded import frame_numbers
from oracle import ENGINES, leaves
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from lac import LACLoss, hard_alignment, smith_waterman, soft_alignment

# Of torch's own rules for forward mode, which it compiles when they are first needed.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

LENGTHS = ([3, 2, 0], [4, 1, 4])
GAPS = ("scalar", "pair", "column", "cell")
WHAT = (smith_waterman, soft_alignment)


def closed(what: Callable, backend: str, lengths=LENGTHS) -> Callable:
    def f(s: Tensor, o: Tensor, e: Tensor, t: Tensor) -> Tensor:
        return what(s, gap_open=o, gap_extend=e, temperature=t, lengths=lengths, backend=backend)

    return f


def inputs(gaps: str) -> list[Tensor]:
    return [x.detach() for x in leaves(3, 3, 4, gaps=gaps)]


def tangents(like: list[Tensor]) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(1)
    return tuple(torch.randn(x.shape, generator=g, dtype=x.dtype) for x in like)


def along(f: Callable, x: list[Tensor], v: tuple[Tensor, ...]) -> Tensor:
    """The derivative of f at x along v, from reverse mode alone."""
    x = [y.clone().requires_grad_() for y in x]
    value = f(*x)
    rows = [
        torch.autograd.grad(value.flatten()[k], x, retain_graph=True, allow_unused=True) for k in range(value.numel())
    ]
    total = [sum((d * t).sum() for d, t in zip(row, v, strict=True) if d is not None) for row in rows]
    return torch.stack([torch.as_tensor(y) for y in total]).reshape(value.shape)


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("gaps", GAPS)
@pytest.mark.parametrize("what", WHAT)
def test_forward_mode(what, gaps, backend):
    f, x = closed(what, backend), inputs(gaps)
    v = tangents(x)
    expected = along(f, x, v)
    value, result = jvp(f, tuple(x), v)
    torch.testing.assert_close(value, f(*x))
    torch.testing.assert_close(result, expected)
    with forward_ad.dual_level():
        dual = f(*(forward_ad.make_dual(y, t) for y, t in zip(x, v, strict=True)))
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, expected)


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("what", WHAT)
def test_forward_mode_of_one_argument(what, backend):
    f, x = closed(what, backend), inputs("cell")
    v = tangents(x)
    for k in range(4):
        direction = tuple(t if j == k else torch.zeros_like(t) for j, t in enumerate(v))
        result = jvp(lambda y, k=k: f(*(y if j == k else z for j, z in enumerate(x))), (x[k],), (v[k],))[1]
        torch.testing.assert_close(result, along(f, x, direction))


def test_the_fault_that_was_0():
    """In single precision and with nothing that requires a gradient, as users call it."""
    s, v = torch.randn(2, 2, 5, 6)
    for backend in ("auto", *ENGINES):
        result = jvp(lambda s, b=backend: smith_waterman(s, backend=b), (s,), (v,))[1]
        torch.testing.assert_close(result, (soft_alignment(s) * v).sum((1, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("gaps", GAPS)
def test_reverse_mode(gaps, backend):
    f, x = closed(smith_waterman, backend), inputs(gaps)
    leaves = [y.clone().requires_grad_() for y in x]
    weight = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    expected = torch.autograd.grad((f(*leaves) * weight).sum(), leaves)
    result = grad(lambda *x: (f(*x) * weight).sum(), argnums=(0, 1, 2, 3))(*x)
    pulled = vjp(f, *x)[1](weight)
    rows = [(row * weight.reshape(-1, *(1,) * (row.dim() - 1))).sum(0) for row in jacrev(f, argnums=(0, 1, 2, 3))(*x)]
    columns = [(c * weight.reshape(-1, *(1,) * (c.dim() - 1))).sum(0) for c in jacfwd(f, argnums=(0, 1, 2, 3))(*x)]
    for results in (result, pulled, rows, columns):
        for a, b in zip(results, expected, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("gaps", GAPS)
def test_hessian(gaps, backend):
    """Forward over reverse, reverse over reverse and reverse over forward: the derivatives of the gradient."""
    f, x = closed(smith_waterman, backend), inputs(gaps)
    expected = torch.autograd.functional.hessian(lambda *x: f(*x).sum(), tuple(x))
    result = hessian(lambda *x: f(*x).sum(), argnums=(0, 1, 2, 3))(*x)
    twice = jacrev(jacrev(lambda *x: f(*x).sum(), argnums=(0, 1, 2, 3)), argnums=(0, 1, 2, 3))(*x)
    mixed = jacrev(jacfwd(lambda *x: f(*x).sum(), argnums=(0, 1, 2, 3)), argnums=(0, 1, 2, 3))(*x)
    vectorised = torch.autograd.functional.hessian(lambda *x: f(*x).sum(), tuple(x), vectorize=True)
    for results in (result, twice, mixed, vectorised):
        for row, exact in zip(results, expected, strict=True):
            for a, b in zip(row, exact, strict=True):
                torch.testing.assert_close(a, b)


@pytest.mark.parametrize("backend", ENGINES)
def test_third_order(backend):
    s, o, e, t = inputs("scalar")
    s = s[:1, :2, :2]

    def value(s: Tensor) -> Tensor:
        return closed(smith_waterman, backend, None)(s, o, e, t).sum()

    third = jacrev(jacrev(jacrev(value)))(s)
    step = 1e-5
    shifted = [hessian(value)(s + sign * step * torch.eye(2, dtype=s.dtype)) for sign in (1, -1)]
    expected = (shifted[0] - shifted[1]) / (2 * step)
    result = torch.einsum("...bij,ij->...", third, torch.eye(2, dtype=s.dtype))
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-8)
    for other in (
        jacfwd(jacrev(jacrev(value))),
        jacrev(hessian(value)),
        hessian(jacrev(value)),
        hessian(jacfwd(value)),
    ):
        torch.testing.assert_close(other(s), third)


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("gaps", GAPS)
@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("in_dims", [(0, None, None, None), (1, 0, None, None), (2, None, 1, 0), (None, 0, 0, 0)])
def test_vmap(in_dims, what, gaps, backend):
    """One call on the engine's own batch; nested, and each problem with its own temperature."""
    f, x = closed(what, backend), inputs(gaps)
    size = 3
    g = torch.Generator().manual_seed(2)
    stacked = [
        y
        if dim is None
        else torch.stack([y * (0.5 + torch.rand((), generator=g)) for _ in range(size)], dim=min(dim, y.dim()))
        for y, dim in zip(x, in_dims, strict=True)
    ]
    dims = tuple(d if d is None else min(d, y.dim()) for d, y in zip(in_dims, x, strict=True))

    def alone(k: int) -> list[Tensor]:
        return [y if d is None else y.select(d, k) for y, d in zip(stacked, dims, strict=True)]

    expected = torch.stack([f(*alone(k)) for k in range(size)])
    torch.testing.assert_close(vmap(f, in_dims=dims)(*stacked), expected)
    first = lambda *x: grad(lambda *x: f(*x).square().sum(), argnums=(0, 1, 2, 3))(*x)  # noqa: E731
    for a, *bs in zip(vmap(first, in_dims=dims)(*stacked), *(first(*alone(k)) for k in range(size)), strict=True):
        torch.testing.assert_close(a, torch.stack(bs))
    nested = vmap(vmap(f, in_dims=dims), in_dims=(0,) * 4)(*(torch.stack((y, 0.5 * y + 0.1)) for y in stacked))
    torch.testing.assert_close(nested[0], expected)


def test_vmap_of_a_single_pair_and_of_lengths():
    s = torch.randn(5, 6, 7, dtype=torch.float64)
    n, m = torch.tensor([6, 3, 0, 1, 6]), torch.tensor([7, 7, 2, 4, 0])
    for backend in ENGINES:
        expected = smith_waterman(s, lengths=(n, m), backend=backend)
        single = vmap(lambda s, n, m, b=backend: smith_waterman(s[None], lengths=(n[None], m[None]), backend=b)[0])
        torch.testing.assert_close(single(s, n, m), expected)
        torch.testing.assert_close(vmap(lambda s, b=backend: smith_waterman(s, backend=b))(s), smith_waterman(s))


def test_forbidden_cells_and_infinite_gaps():
    """0 times infinity appears nowhere: in tangents by the temperature, in folded problems, in the padding."""
    s = torch.randn(2, 4, 5, dtype=torch.float64)
    s[0, 1, 2] = s[1, 3] = -torch.inf
    s[1, :, 4] = torch.nan
    t, gap = torch.tensor(0.7, dtype=torch.float64), torch.tensor(torch.inf, dtype=torch.float64)
    for backend in ENGINES:

        def f(t: Tensor, backend: str = backend) -> Tensor:
            return smith_waterman(s, gap_open=gap, temperature=t, lengths=([4, 4], [5, 4]), backend=backend)

        expected = (f(t + 1e-6) - f(t - 1e-6)) / 2e-6
        for result in (jvp(f, (t,), (torch.ones_like(t),))[1], jacrev(f)(t), vmap(jacfwd(f))(t[None])[0]):
            torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-7)
        second = (jacrev(f)(t + 1e-5) - jacrev(f)(t - 1e-5)) / 2e-5
        torch.testing.assert_close(hessian(f)(t), second, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("what", WHAT)
def test_under_torch_compile(what):
    """Without a graph break; the transforms' own rules serve, not torch's loops over the batch."""
    x = torch.randn(2, 4, 5)

    def f(x: Tensor) -> Tensor:
        return what(x, gap_open=0.6, temperature=0.7)

    def total(x: Tensor) -> Tensor:
        return f(x).square().sum()

    for g in (grad(total), vmap(f), jacrev(f), lambda x: jvp(f, (x,), (x,))[1], vmap(grad(total)), hessian(total)):
        torch._dynamo.reset()
        torch.testing.assert_close(torch.compile(g, fullgraph=True, backend="aot_eager")(x), g(x))


def test_under_fake_tensors():
    x = torch.randn(2, 4, 5)
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(x)
        assert grad(lambda x: smith_waterman(x).sum())(fake).shape == x.shape
        assert jacrev(smith_waterman)(fake).shape == (2, 2, 4, 5)
        assert jvp(smith_waterman, (fake,), (fake,))[1].shape == (2,)
        assert hessian(lambda x: smith_waterman(x).sum())(fake).shape == (2, 4, 5, 2, 4, 5)


@pytest.mark.promise("torch")
@pytest.mark.parametrize("form", ["posterior", "contrast", "score", None])
def test_the_loss(form):
    """torch.func: gradients of the loss pair by pair under vmap, and directional derivatives by jvp."""
    loss = LACLoss(sequence_form=form).double()
    parameters = {name: p.detach() for name, p in loss.named_parameters()}
    z1, z2 = torch.randn(3, 5, 4, dtype=torch.float64), torch.randn(3, 6, 4, dtype=torch.float64)
    clock = frame_numbers(z1[:1], z2[:1], form)

    def f(parameters: dict[str, Tensor], z1: Tensor, z2: Tensor) -> Tensor:
        return functional_call(loss, parameters, (z1[None], z2[None]), clock)

    each = vmap(grad(f), in_dims=(None, 0, 0))(parameters, z1, z2)
    for k in range(3):
        for name, value in grad(f)(parameters, z1[k], z2[k]).items():
            torch.testing.assert_close(each[name][k], value)
    v = torch.randn_like(z1[0])
    result = jvp(lambda z: f(parameters, z, z2[0]), (z1[0],), (v,))[1]
    torch.testing.assert_close(result, (grad(f, argnums=1)(parameters, z1[0], z2[0]) * v).sum())


def test_what_cannot_be_served_says_so():
    s = torch.randn(3, 4, 5)
    with pytest.raises(RuntimeError, match="hard alignments are paths"):
        vmap(lambda s: hard_alignment(s).score)(s)
    with pytest.raises(RuntimeError, match="backend='eager'"):
        vmap(lambda s: smith_waterman(s, backend="reference"))(s)


def test_hard_alignment_beside_derivatives_and_in_a_broken_graph():
    s = torch.randn(2, 4, 5)
    result = grad(lambda s: smith_waterman(s).sum() * len(hard_alignment(s).paths[0]))(s)
    torch.testing.assert_close(result, soft_alignment(s) * len(hard_alignment(s).paths[0]))
    torch._dynamo.reset()
    compiled = torch.compile(lambda s: hard_alignment(s).score.sum() + smith_waterman(s).sum(), backend="aot_eager")
    torch.testing.assert_close(compiled(s), hard_alignment(s).score.sum() + smith_waterman(s).sum())
