"""How finding is judged: hits against known occurrences, and the methods on frames that can be told."""

import os

import numpy as np
import pytest
from planted import planted

from bench.finding import METHODS, Hit, Stream, Task, average_precision, common, digits_task, figures, joined, judged
from bench.tables_of_finding import finding
from lac.data import Clip
from lac.ways import Raw


def test_average_precision_is_the_mean_precision_at_right_hits():
    assert average_precision([(True, 3.0), (False, 2.0), (True, 1.0)], 2) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision([(True, 3.0), (False, 4.0)], 2) == pytest.approx(0.25)  # one is never found
    assert average_precision([], 3) == 0


def test_a_hit_is_right_once_and_with_half_in_common():
    there = [(0, 10), (50, 60)]
    hits = [Hit(1.0, 0, 12), Hit(3.0, 1, 11), Hit(2.0, 55, 65), Hit(0.5, 49, 60)]
    assert judged(hits, there) == pytest.approx([9 / 11, 0.0, 0.0, 10 / 11])
    assert common(hits[0], 20, 30) < 0


@pytest.mark.parametrize("method", METHODS)
def test_each_method_finds_a_planted_query(method):
    if method == "subsequence DTW":
        pytest.importorskip("dtaidistance", reason="subsequence DTW is that of dtaidistance, which is not installed")
    query, recording, spans = planted(0)
    best = max(METHODS[method](Raw(), query, recording), key=lambda hit: hit.score)
    assert any(common(best, 25 * start, 25 * end) > 0.5 for start, end in spans)


def test_figures_leave_out_streams_of_the_query_s_own_person():
    query, recording, spans = planted(0)
    of = [Clip("q", query.frames, query.times, action="wave", person="ann")]
    events = [("wave", round(25 * start), round(25 * end)) for start, end in spans]
    theirs, own = (Stream(Clip("r", recording.frames, recording.times, person=who), events) for who in ("bob", "ann"))
    row = figures(Raw(), "local alignment", Task([], of, [theirs, own]))
    assert (row["ap"], row["occurrences"], row["queries"]) == (1.0, len(spans), 1)


def test_a_session_knows_its_parts():
    clips = [Clip(str(k), np.full((n, 2), k, np.float32), np.arange(n) / 5, action=str(k)) for k, n in ((0, 3), (1, 4))]
    stream = joined("ann", clips)
    assert stream.occurrences == [("0", 0, 3), ("1", 3, 7)]
    assert stream.clip.times[1] == pytest.approx(0.2)


def test_the_table_says_when_there_are_no_rows():
    assert finding("nothing").startswith("Not measured")
    assert "| learned | local alignment |" in finding("digits")


@pytest.mark.skipif("LAC_DIGITS" not in os.environ, reason="LAC_DIGITS is not set")
def test_streams_are_of_people_that_are_not_trained_on():
    task = digits_task()
    assert not {clip.person for clip in task.train} & {stream.clip.person for stream in task.streams}
    assert {clip.person for clip in task.queries} == {stream.clip.person for stream in task.streams}
