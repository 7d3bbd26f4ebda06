"""Two rows of frames, joined by lines."""

import numpy as np
import pytest

from lac.data import Clip
from lac.moments import MOST, choose_moments, draw_moments, spread
from lac.pictures import Source

FRAMES = {"signals": (4,), "poses": (5, 2), "images": (3, 8, 6), "features": (20,)}


def source(length, shape=(4,), start=0.0, name="a"):
    frames = np.random.default_rng(length).normal(size=(length, *shape))
    return Source(Clip(name, frames, start + np.arange(length) / 10))


def drawn(figure):
    """The panels of the frames, the thick lines from clip to clip, and all texts."""
    figure.canvas.draw()
    (axes,) = figure.axes
    thick = [line for line in axes.lines if line.get_marker() == "o"]
    return axes.child_axes, thick, [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("shape", FRAMES.values(), ids=FRAMES)
def test_matched_moments_are_joined_at_their_times(shape):
    path = np.stack([np.arange(10, 50), np.arange(30, 70)], axis=1)
    figure = draw_moments(source(60, shape), source(80, shape, start=2.0, name="b"), path, rate=10)
    panels, thick, texts = drawn(figure)
    assert 2 * MOST >= len(panels) > len(thick) > 2
    width = figure.axes[0].get_xlim()[1]
    for line in thick:
        (x1, x2), (y1, y2) = line.get_data()
        assert y1 > y2  # from the row above to the one below
        first, second = (x1 - 0.25) / (width - 0.5) * 6 - 0.05, (x2 - 0.25) / (width - 0.5) * 8 + 2 - 0.05
        assert second - first == pytest.approx(4, abs=1e-6)  # as the path says: 20 frames later, and begun 2 s later
        assert f"{first:.2f} s" in texts
        assert f"{second:.2f} s" in texts
    assert "A   a" in texts
    assert "B   b" in texts


def test_stretches_without_a_match_are_grey_and_pale():
    path = np.stack([[0, 1, 2, 3, 20, 21], [40, 41, 42, 43, 44, 45]], axis=1)
    figure = draw_moments(source(30), source(60), path, rate=10)
    panels, thick, _ = drawn(figure)
    axes = figure.axes[0]
    bars = [path.vertices[:, 0] for bars in axes.collections for path in bars.get_paths()]
    spans = [[vertices.min(), np.ptp(vertices)] for vertices in bars]
    cell1, cell2 = 10.5 / 30, 10.5 / 60
    np.testing.assert_allclose(spans[:3], [[0.25, 10.5], [0.25, 4 * cell1], [0.25 + 20 * cell1, 2 * cell1]])
    np.testing.assert_allclose(spans[3:], [[0.25, 10.5], [0.25 + 40 * cell2, 6 * cell2]])
    pale = [panel for panel in panels if panel.lines[0].get_alpha()]
    assert len(panels) - len(pale) == 2 * len(thick)
    assert pale


@pytest.mark.parametrize("lengths", [(1, 1), (1, 40), (3, 2000), (7, 7)])
@pytest.mark.parametrize("matches", [0, 1, 2])
def test_few_frames_and_few_matches(lengths, matches):
    path = np.repeat(np.arange(min(matches, *lengths))[:, None], 2, axis=1)
    panels, thick, texts = drawn(draw_moments(*(source(n) for n in lengths), path, rate=10))
    assert len(thick) == len(path)
    assert ("nothing in common" in texts) == (not len(path))
    assert panels


def test_names_are_text_whatever_they_hold():
    name = "cost$^$ of $5 " + 100 * "x"
    _, _, texts = drawn(draw_moments(source(9, name=name), source(9), [[0, 0]], rate=10, title=name))
    assert any(text.startswith("A   cost$^$") and len(text) <= 80 for text in texts)


def test_frames_that_would_overlap_stand_side_by_side():
    np.testing.assert_allclose(spread(np.array([1.0, 4.0, 8.0]), 1.0, 0.0, 9.0), [1, 4, 8])
    np.testing.assert_allclose(spread(np.array([4.0, 4.0, 4.0]), 1.0, 0.0, 9.0), [3, 4, 5])
    np.testing.assert_allclose(spread(np.array([0.0, 0.1, 8.9, 9.0]), 1.0, 0.0, 9.0), [0, 1, 8, 9])
    places = np.sort(np.random.default_rng(0).uniform(0, 9, 10))
    moved = spread(places, 1.0, 0.0, 9.0)
    np.testing.assert_allclose(moved, np.arange(10.0))


def test_moments_are_spread_over_the_path():
    path = np.repeat(np.arange(100)[:, None], 2, axis=1)
    assert choose_moments(path, 5).tolist() == [0, 25, 50, 74, 99]
    assert len(choose_moments(path, 0)) == 3
    assert len(choose_moments(path, 99)) == 7
    assert choose_moments(path[:2], 5).tolist() == [0, 1]
    assert choose_moments(path[:0], 5).tolist() == []
