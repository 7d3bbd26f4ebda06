import csv

import pytest
import torch
from rich.console import Console
from torch import Tensor

from lac import smith_waterman
from lac.cli.bench import _table, main
from lac.measure.clock import Timer
from lac.measure.errors import relative_error
from lac.measure.gate import gate
from lac.measure.problem import Inputs, Shape
from lac.measure.rows import FIELDS, shape_of
from lac.measure.run import measure
from lac.measure.sides import MODES, Answer, Call, Side, h100_seconds, own_sides
from lac_kernels import ops

CPU = torch.device("cpu")
QUICK = ["--device", "cpu", "--threads", "1", "--seconds", "0.01"]


@pytest.fixture
def no_limits(monkeypatch):
    """A second is spent on the machine's limits in every run; one test of them is enough."""
    monkeypatch.setattr("lac.measure.limits.limits", lambda mode, dtype, device: [])


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_table_rows_and_plot(tmp_path, capsys):
    out, plot = tmp_path / "rows.csv", tmp_path / "growth.png"
    arguments = [*QUICK, "--shapes", "1x6x6", "1x12x12", "3x12x12", "--rows", str(out), "--plot", str(plot)]
    assert main([*arguments, "--backends", "loop", "wavefront", "eager"]) == 0
    rows = rows_of(out)
    assert list(rows[0]) == FIELDS
    timed = [row for row in rows if row["batch"]]
    assert [row["side"] for row in timed] == ["naive loop", "naive wavefront", "lac eager"] * 3
    for row in timed:
        assert 0 < float(row["ms_p20"]) <= float(row["ms_p50"]) <= float(row["ms_p80"])
        assert float(row["mcells_per_s"]) == pytest.approx(shape_of(row).cells / float(row["ms_p50"]) / 1e3, rel=1e-2)
        assert float(row["error"]) < 1e-4
    assert [row["side"] for row in rows if not row["batch"]] == ["limit: memory", "limit: arithmetic"]
    assert plot.read_bytes()[1:4] == b"PNG"
    shown = capsys.readouterr().out
    for words in ("3x12x12", "naive loop", "x wave", "limit: memory", str(out), str(plot)):
        assert words in shown


def test_a_ragged_batch(no_limits, tmp_path, capsys):
    """Its lengths stand in the rows; the padding counts for nothing, neither in the check nor in the pace."""
    shape = Shape.parse("9x6,3x8,1x1")
    assert shape == Shape(3, 9, 8, (9, 3, 1), (6, 8, 1))
    assert (shape.cells, shape.padded_cells, str(shape)) == (79, 216, "9x6,3x8,1x1")
    for mode in MODES:
        out = tmp_path / f"{mode}.csv"
        arguments = ["--shapes", str(shape), "--mode", mode, "--rows", str(out)]
        assert main([*QUICK, *arguments, "--backends", "loop", "wavefront", "eager"]) == 0
        for row in rows_of(out):
            assert shape_of(row) == shape
            assert float(row["error"]) < 1e-4
            assert float(row["mcells_per_s"]) == pytest.approx(79 / float(row["ms_p50"]) / 1e3, rel=1e-2)
            assert ("padded" in row["computes"]) == (row["side"] == "naive wavefront")
    assert "9x6,3x8,1x1" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["3", "3x4", "3x4x5x6", "0x4x4", "3x4,5", "3x4,5x0", "3x4,2x3x4", "3x4,"])
def test_what_is_no_shape(text):
    with pytest.raises(ValueError, match="BATCHxNxM"):
        Shape.parse(text)


def test_rows_are_added(no_limits, tmp_path):
    out = tmp_path / "rows.csv"
    for mode in ("forward", "second"):
        assert main([*QUICK, "--shapes", "1x4x4", "--backends", "eager", "--mode", mode, "--rows", str(out)]) == 0
    assert [row["mode"] for row in rows_of(out)] == ["forward", "second"]


def test_a_backend_that_is_wrong_gets_no_time(no_limits, tmp_path, capsys, monkeypatch):
    forward = ops.forward

    def wrong(scores: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
        score, saved = forward(scores, *rest)
        return score * (1.001 if scores.dtype == torch.float32 else 1), saved

    monkeypatch.setattr(ops, "forward", wrong)
    out = tmp_path / "rows.csv"
    assert main([*QUICK, "--shapes", "1x9x9", "--backends", "wavefront", "eager", "--rows", str(out)]) == 0
    found = {row["side"]: row for row in rows_of(out)}
    assert "WRONG" in found["lac eager"]["skipped"]
    assert found["lac eager"]["ms_p50"] == ""
    assert float(found["naive wavefront"]["ms_p50"]) > 0
    assert "lac eager: WRONG" in capsys.readouterr().out


def test_wrong_on_the_measured_shape_only():
    """An error that the small problem of the gate does not show is still found."""

    def prepare(inputs: Inputs, mode: str) -> Call:
        score = smith_waterman(inputs.scores, gap_open=1.0, gap_extend=0.4)
        return lambda: Answer(score + (inputs.scores.shape[1] > 40), None)

    side = Side("off by one", "", "", prepare)
    assert gate([side], "forward", torch.float32, CPU) == {}
    (row,) = measure([side], Shape(1, 41, 8), mode="forward", device=CPU, seconds=0.01)
    assert "WRONG" in row["skipped"]
    assert "ms_p50" not in row


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_naive_forms_agree_with_the_specification(mode, dtype):
    sides = own_sides(CPU)
    assert gate([sides["wavefront"], sides["loop"], sides["eager"]], mode, dtype, CPU) == {}


def test_too_large_is_skipped_and_the_rest_goes_on(no_limits, tmp_path, capsys):
    out = tmp_path / "rows.csv"
    shapes = ["--shapes", "9x99999x99999", "1x6x7"]
    assert main([*QUICK, *shapes, "--backends", "loop", "eager", "--rows", str(out)]) == 0
    timed = [row for row in rows_of(out) if row["batch"]]
    assert "would take minutes" in timed[0]["skipped"]
    assert "not enough memory" in timed[1]["skipped"]
    assert all(float(row["ms_p50"]) > 0 for row in timed[2:])
    assert "GB free" in " ".join(capsys.readouterr().out.split())


def test_out_of_memory_while_running():
    def prepare(inputs: Inputs, mode: str) -> Call:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")

    (row,) = measure([Side("s", "", "", prepare)], Shape(1, 2, 2), mode="both", device=CPU, seconds=0.01)
    assert row["skipped"] == "out of memory"


def test_interrupt_keeps_the_finished_rows(no_limits, tmp_path, capsys, monkeypatch):

    def interrupted(sides, shape, **options):
        if shape.n == 7:
            raise KeyboardInterrupt
        return measure(sides, shape, **options)

    monkeypatch.setattr("lac.measure.run.measure", interrupted)
    out = tmp_path / "rows.csv"
    arguments = [*QUICK, "--shapes", "1x6x6", "1x7x7", "1x8x8", "--backends", "eager", "--rows", str(out)]
    assert main(arguments) == 130
    assert [row["n"] for row in rows_of(out) if row["batch"]] == ["6"]
    captured = capsys.readouterr()
    assert "1x6x6" in captured.out
    assert "interrupted" in captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--shapes", "16x64"], "BATCHxNxM"),
        (["--shapes", "0x64x64"], "at least 1"),
        (["--backends", "fastest"], "loop, wavefront, eager, cpu, triton"),
        (["--threads", "0"], "at least 1"),
        (["--seconds", "0"], "--seconds"),
        (["--device", "meta"], "'meta' cannot be used"),
        (["--device", "tpu"], "'tpu'"),
    ],
)
def test_bad_arguments(arguments, words, capsys):
    assert main(["--device", "cpu", *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(capsys):
    assert main(["--device", "cuda"]) == 2
    assert "use 'auto' or 'cpu'" in capsys.readouterr().err


def test_a_file_of_other_columns_is_not_touched(tmp_path, capsys):
    out = tmp_path / "mine.csv"
    out.write_text("a,b\n1,2\n")
    assert main([*QUICK, "--shapes", "1x4x4", "--backends", "eager", "--rows", str(out)]) == 1
    assert "other columns" in capsys.readouterr().err
    assert out.read_text() == "a,b\n1,2\n"


def test_peak_memory_is_seen():
    """64 MB that live while the side runs, and only then."""

    def prepare(inputs: Inputs, mode: str) -> Call:
        def run() -> Answer:
            torch.ones(2**24).sum()
            return Answer(None, None)

        return run

    (row,) = measure([Side("s", "", "", prepare)], Shape(1, 2, 2), mode="both", device=CPU, seconds=0.01)
    if row["peak_bytes"] == "":
        pytest.skip("this system does not tell the peak memory of a process")
    assert int(row["peak_bytes"]) == pytest.approx(2**26, abs=2**22)


def test_a_timer_counts_what_the_stopwatch_says():
    """Two untimed runs, then turns until the seconds are full; a run that is slow at once counts."""
    calls = []

    def timer(seconds: float, took: float) -> Timer:
        return Timer(seconds, CPU, stopwatch=lambda call: (took, call()))

    slow = timer(1.0, 0.4)
    assert slow.warm_up(lambda: lambda: calls.append("run") or len(calls)) == 2
    assert not slow.quick
    while not slow.done:
        slow.turn(lambda: calls.append("run"))
    assert slow.seconds == [0.4] * 3
    assert len(calls) == 5
    assert slow.percentiles() == pytest.approx((0.4, 0.4, 0.4))

    quick = timer(1.0, 0.004)
    quick.warm_up(lambda: lambda: None)
    assert quick.quick
    quick.turn(lambda: None)
    assert quick.seconds == [0.004] * 3  # a turn of a hundredth of a second

    very_slow = timer(1.0, 21.0)
    very_slow.warm_up(lambda: lambda: None)
    assert very_slow.done
    assert very_slow.seconds == [21.0]


def test_the_error_is_relative_to_the_largest_or_to_the_floor():
    exact = torch.tensor([0.5, -4.0], dtype=torch.float64)
    assert relative_error(exact.float() + 1, exact) == pytest.approx(1 / 4)
    assert relative_error(exact + 1, exact, each=True) == pytest.approx(1)
    assert relative_error(exact + 1, exact, 0.1, each=True) == pytest.approx(2)
    assert relative_error(exact / 10 + 1, exact / 10) == pytest.approx(1)
    assert relative_error(torch.tensor([1.0, torch.nan]), exact) == float("inf")
    assert relative_error(exact[:0], exact[:0]) == 0
    with pytest.raises(ValueError, match="shape"):
        relative_error(exact[None], exact)


def test_of_a_gpu_microseconds_and_the_estimate_are_shown(capsys):
    pytest.importorskip("triton")
    shapes = {"16x256x256": 0.2, "1024x256x256": 1.0}
    rows = []
    for text, ms in shapes.items():
        shape = Shape.parse(text)
        seconds = h100_seconds(shape, "both", torch.float32)
        row = dict.fromkeys(FIELDS, "") | {
            "side": "lac triton",
            "mode": "both",
            "error": "1e-6",
            "peak_bytes": "1000000",
        }
        row |= {"batch": str(shape.batch), "n": "256", "m": "256", "ms_estimated": f"{1e3 * seconds:.4g}"}
        row |= {"ms_p20": str(ms), "ms_p50": str(ms), "ms_p80": str(ms)}
        rows.append(row | {"mcells_per_s": str(shape.cells / ms / 1e3)})
    Console(width=120).print(_table(rows, title="both, float32, a GPU"))
    shown = capsys.readouterr().out
    assert "us p20" in shown
    assert "Gcell/s" in shown
    first, second = (line.split() for line in shown.splitlines() if "lac triton" in line)
    assert first[2:5] == ["200"] * 3
    assert float(first[5]) == pytest.approx(129, rel=0.1)
    assert first[6] == "5.24"
    assert float(second[5]) > float(first[5])
