import sys
import warnings

import numpy as np
import pytest
import torch

from lac import plots

TIMES1, TIMES2 = np.arange(12) / 25, np.cumsum(np.linspace(0.02, 0.06, 9))


def alignment(**changes):
    generator = torch.Generator().manual_seed(0)
    arguments = {
        "posterior": torch.rand(12, 9, generator=generator),
        "path": torch.tensor([[2, 1], [3, 2], [5, 3]]),
        "times1": TIMES1,
        "times2": TIMES2,
    } | changes
    return plots.plot_alignment(**arguments)


def test_the_path_is_drawn_in_seconds():
    (line,) = alignment().axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), TIMES1[[2, 3, 5]])
    np.testing.assert_allclose(line.get_xdata(), TIMES2[[1, 2, 3]])


def test_cells_surround_their_frames():
    axes = alignment().axes[0]
    corners = axes.collections[0].get_coordinates()
    x, y = corners[0, :, 0], corners[:, 0, 1]
    assert ((x[:-1] < TIMES2) & (x[1:] > TIMES2)).all()
    assert ((y[:-1] < TIMES1) & (y[1:] > TIMES1)).all()
    assert axes.yaxis_inverted()
    assert "(s)" in axes.get_xlabel()
    assert "(s)" in axes.get_ylabel()


def test_zero_score_is_neutral():
    axes = alignment(scores=np.linspace(-3, 1, 108).reshape(12, 9)).axes[0]
    assert axes.collections[0].get_clim() == (-3, 3)


@pytest.mark.parametrize("empty", [torch.empty(0, 2), []])
def test_an_empty_path_and_single_frames_can_be_drawn(empty):
    alignment(path=empty)
    figure = alignment(posterior=np.zeros((1, 1)), path=empty, times1=[3.0], times2=[0.0], scores=np.zeros((1, 1)))
    figure.canvas.draw()


@pytest.mark.parametrize(
    ("path", "title"), [([], "no match"), ([[2, 1]], "best path (point)"), ([[2, 1], [3, 2]], "best path (line)")]
)
def test_the_title_says_what_is_drawn(path, title):
    axes = alignment(path=path).axes[0]
    assert axes.get_title().partition("\n")[0] == f"soft alignment, {title}"
    assert len(axes.lines) == bool(path)
    assert not path or (axes.lines[0].get_marker() == ".") == (len(path) == 1)  # a line of one point shows nothing


@pytest.mark.parametrize("changes", [{"posterior": np.zeros((9, 12))}, {"scores": np.zeros((12, 8))}])
def test_shapes_that_do_not_agree_are_named(changes):
    with pytest.raises(ValueError, match=r"must .*\(12, 9\)"):
        alignment(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": [[2, 9]]}, r"path must lie within \(12, 9\)"),
        ({"path": [[-1, 0]]}, r"path must lie within \(12, 9\)"),
        ({"times1": TIMES1[::-1]}, "times1 must be finite and increase"),
        ({"times2": TIMES2 * np.nan}, "times2 must be finite and increase"),
    ],
)
def test_frames_that_are_not_there_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        alignment(**changes)


def ridge(shift):
    """A posterior whose ridge is `shift` columns beside a path, and the path."""
    path = np.stack([np.arange(2, 8), np.arange(1, 7)], axis=1)
    posterior = np.full((12, 9), 1e-4)
    posterior[path[:, 0], (path[:, 1] + shift) % 9] = 0.8
    return {"posterior": posterior, "path": path}


@pytest.mark.parametrize(("shift", "share"), [(0, 1.0), (1, 1.0), (3, 0.0)])
def test_a_path_beside_the_ridge_is_told(shift, share):
    made = ridge(shift)
    assert plots.on_ridge(**made) == share
    panels = {"alone": tuple(made.values())}
    for figure in (alignment(**made), plots.plot_alignments(panels, TIMES1, TIMES2)):
        told = "path off the ridge: 0 % of its cells are near the likeliest" in figure.axes[0].get_title()
        assert told == (share == 0)


def test_the_share_on_the_ridge_by_hand():
    posterior = np.array([[0.5, 0.3, 0.2, 0.1], [0.0, 0.0, 0.1, 0.8], [0.1, 0.1, 0.1, 0.1], [0.0, 0.0, 0.0, 0.0]])
    # A frame beside the likeliest; three beside it; flat, so that no cell is likelier; none likely at all.
    assert plots.on_ridge(posterior, [[0, 1], [1, 0], [2, 3], [3, 1]]) == 0.5
    assert np.isnan(plots.on_ridge(posterior, []))
    assert np.isnan(plots.on_ridge(posterior * np.nan, [[0, 1]]))


def full_colours(axes):
    """How far the colours drawn are from those of 0, as a share of the whole way."""
    image = axes.collections[0]
    zero, one = float(image.norm(0.0)), 1.0
    return float(np.abs(np.asarray(image.norm(image.get_array())) - zero).max() / (one - zero))


def test_noise_does_not_reach_the_full_colour():
    rng = np.random.default_rng(0)
    noise = rng.dirichlet(np.ones(9), size=12) / 4
    scores, soft = alignment(scores=rng.normal(0, 0.1, (12, 9)), posterior=noise).axes[:2]
    several = plots.plot_alignments({"noise": (noise, [])}, TIMES1, TIMES2).axes[0]
    for axes in (scores, soft, several):
        assert 0.01 < full_colours(axes) < 0.5
    sure = np.eye(12, 9)
    for figure in (alignment(posterior=sure), plots.plot_alignments({"sure": (sure, [])}, TIMES1, TIMES2)):
        assert full_colours(figure.axes[0]) == 1


def test_colours_mean_the_same_in_every_picture():
    for posterior in (np.full((12, 9), 1e-3), np.eye(12, 9)):
        soft = alignment(posterior=posterior).axes[0]
        several = plots.plot_alignments({"a": (posterior, []), "b": (posterior / 2, [])}, TIMES1, TIMES2)
        for axes in (soft, *several.axes[:2]):
            image = axes.collections[0]
            assert image.get_clim() == (0, 1)
            assert image.norm(0.25) == pytest.approx(0.5)
        assert several.axes[-1].get_ylabel() == "probability of a match (by its root)"


def test_names_are_text_whatever_they_hold():
    names = (r"cost$\frac$ of $5", "<b>" + 200 * "x")
    figure = alignment(names=names, title=names[0])
    figure.canvas.draw()
    assert figure.axes[0].get_ylabel() == f"{names[0]}, time (s)"
    assert len(figure.axes[0].get_xlabel()) < 60
    labels = np.repeat([0, 1], 6), np.repeat([0, 1, 0], 3)
    alignments(names=names, title=names[0], labels=labels, label_names=names).canvas.draw()


def test_numbers_that_are_not_finite_can_be_drawn():
    scores = np.full((12, 9), np.nan)
    alignment(posterior=scores, scores=scores).canvas.draw()
    scores[0, :3] = 2.0, -5.0, -np.inf
    assert alignment(scores=scores).axes[0].collections[0].get_clim() == (-5, 5)


def test_curves_have_a_panel_each():
    history = {
        "step": [10.0, 20.0],
        "total": [2.0, 1.0],
        "lr": [0.1, 0.2],
        "gap_open": [1.0, 0.9],
        "margin": [0, 1],
    }
    figure = plots.plot_curves(history)
    shown = {axes.get_title(loc="left"): axes.lines[0].get_ydata() for axes in figure.axes if axes.get_visible()}
    assert list(shown) == ["total", "lr", "gap open", "margin"]
    np.testing.assert_array_equal(shown["gap open"], [1.0, 0.9])


def test_curves_need_lists_of_one_length():
    with pytest.raises(ValueError, match="lengths"):
        plots.plot_curves({"step": [1.0], "total": [1.0, 2.0]})


def test_a_picture_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = plots.save_figure(alignment(), tmp_path / "new" / "alignment.png")
    before = path.read_bytes()
    assert before.startswith(b"\x89PNG")
    figure = alignment()

    def full(target, **_):
        target.write_bytes(before[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure, "savefig", full)
    with pytest.raises(OSError, match="No space left"):
        plots.save_figure(figure, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["alignment.png"]


def test_letters_that_the_font_lacks_are_no_reason_to_warn(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.save_figure(alignment(names=("\u6f22\u5b57", "b")), tmp_path / "alignment.png")


def test_pyplot_is_not_imported():
    alignment().canvas.draw()
    assert "matplotlib.pyplot" not in sys.modules


def alignments(**changes):
    generator = torch.Generator().manual_seed(0)
    before, after = torch.rand(2, 12, 9, generator=generator)
    arguments = {"times1": TIMES1, "times2": TIMES2} | changes
    path = torch.tensor([[2, 1], [3, 2], [5, 3]])
    return plots.plot_alignments({"before": (before / 2, path), "after": (after, path + 1)}, **arguments)


def test_alignments_stand_side_by_side_in_the_same_colours():
    labels = np.repeat([-1, 0, 1], 4), np.repeat([1, 0, 2], 3)
    figure = alignments(labels=labels, label_names=["up", "down", "over"], names=("a", "b"), title="both")
    figure.canvas.draw()
    before, after = figure.axes[:2]
    assert before.collections[0].get_clim() == after.collections[0].get_clim()
    for axes, rows in ((before, [2, 3, 5]), (after, [3, 4, 6])):
        (line,) = axes.lines
        np.testing.assert_allclose(line.get_ydata(), TIMES1[rows])
        assert axes.yaxis_inverted()
        assert len(axes.patches) == 2
        assert [text.get_text() for text in axes.get_xticklabels(minor=True)] == ["down", "up", "over"]
        np.testing.assert_allclose(axes.xaxis.get_minorticklocs()[1], TIMES2[4], atol=0.02)
    assert [text.get_text() for text in before.get_yticklabels(minor=True)] == ["up", "down"]
    heading = before.get_title().partition("\n")[0]
    assert (heading, before.get_ylabel(), figure.get_suptitle()) == ("before", "a, time (s)", "both")


def test_an_alignment_without_a_path_among_others():
    empty = (np.zeros((12, 9)), torch.empty(0, 2))
    figure = plots.plot_alignments({"before": empty, "after": empty}, TIMES1, TIMES2)
    figure.canvas.draw()
    assert figure.axes[0].get_title() == "before: no match"
    assert not figure.axes[0].lines


def test_alignments_that_cannot_be():
    with pytest.raises(ValueError, match="alignments must hold one at least"):
        plots.plot_alignments({}, TIMES1, TIMES2)
    with pytest.raises(ValueError, match=r"posterior must be \(len\(times1\), len\(times2\)\), here \(12, 8\)"):
        alignments(times2=TIMES2[:8])
