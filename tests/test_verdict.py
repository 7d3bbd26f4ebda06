"""Sentences on tables of made-up figures."""

import dataclasses
import math

import numpy as np
import pytest

from lac.data import Clip, Dataset
from lac.runs.alignment_quality import AlignmentQuality
from lac.runs.config import TrainConfig
from lac.runs.evaluate import EvalResult
from lac.runs.matching import Matching
from lac.runs.verdict import Known, margin, verdict, verdict_on_matching

NAN = math.nan
KNOWN = Known(train=60, val=40, labelled=40, trained_on_labels=True, frames=120, people=True, view=40, steps=2000)


def row(accuracy, progression, tau, retrieval, people=None):
    return EvalResult(
        {0.1: 0.0, 1.0: accuracy}, {0.1: 0.0, 1.0: progression}, tau, 0, 1560, {5: retrieval, 15: 0.0},
        "logistic", 1, {} if people is None else {5: people},
    )  # fmt: skip


def judged(trained, index=(0.5, 0.3, 0.9, 0.4), raw=(0.6, 0.1, 0.4, 0.7), random=(0.55, 0.2, 0.3, 0.6), **known):
    rows = {"trained encoder": trained, "time index": index, "raw features": raw, "random encoder": random}
    return verdict({name: row(*figures) for name, figures in rows.items()}, KNOWN._replace(**known))


def test_the_margin_shrinks_with_the_clips():
    assert margin(16) == pytest.approx(0.1)
    assert margin(16, "progression") == pytest.approx(0.2)
    assert margin(0) == margin(1)


def test_better_in_everything():
    assert judged((0.9, 0.8, 0.99, 0.9)) == [
        "The trained encoder beats the best control in accuracy (by 0.30, raw features), progression (by 0.50, time "
        "index), tau (by 0.09, time index), AP@5 (by 0.20, raw features).",
        "To try next: a run with another --seed, to see it again; lac-eval RUN --alignment, for the matching itself.",
    ]


def test_some_better_some_level_some_worse():
    # The margin of 40 clips is .063, and of progression .126.
    assert judged((0.9, 0.4, 0.5, 0.75)) == [
        "The trained encoder beats the best control in accuracy (by 0.30, raw features).",
        "Level, nearer than the 0.06 (0.13 for progression) that 40 clips tell apart: progression (time index), AP@5 "
        "(raw features).",
        "Below the best control: tau (by 0.40, time index).",
        "To try next: lac-align with more than two clips (their consensus needs no training); a run with another "
        "--seed, to see it again.",
    ]
    assert judged((0.9, 0.43, 0.5, 0.77))[0].endswith(
        "progression (by 0.13, time index), AP@5 (by 0.07, raw features)."
    )


def test_better_in_nothing():
    sentences = judged((0.4, 0.1, 0.2, 0.5), steps=300)
    assert sentences[0] == "The trained encoder beats the best control in nothing, as far as 40 clips can tell."
    assert sentences[1].startswith("Below the best control: accuracy (by 0.20, raw features), progression (by 0.20, ")
    assert sentences[2].startswith("To try next: --set train.steps=1000; ")
    assert len(sentences) == 3


def test_two_clips_tell_next_to_nothing():
    sentences = judged((0.8, 0.5, 0.95, 0.9), labelled=2, val=2)
    assert sentences[0].endswith("in nothing, as far as 2 clips can tell.")
    assert sentences[1].startswith("Level, nearer than the 0.28 (0.57 for progression) that 2 clips tell apart: accur")
    assert "phases of more validation clips (2 tell differences of 0.28)" in sentences[2]


def test_figures_that_are_no_numbers():
    # Without labels of training clips there is no accuracy; a collapsed embedding has no tau, though its controls do.
    none = {"index": (NAN, NAN, 0.9, 0.4), "raw": (NAN, NAN, NAN, 0.7), "random": (NAN, NAN, 0.3, 0.6)}
    sentences = judged((NAN, NAN, NAN, 0.9), trained_on_labels=False, **none)
    assert sentences[:2] == [
        "The trained encoder beats the best control in AP@5 (by 0.20, raw features).",
        "Below the best control: tau (no number).",
    ]
    assert sentences[2].startswith("To try next: labels of some train clips, for accuracy and progression; ")
    assert "accuracy (" not in " ".join(sentences)


def test_a_fit_that_does_not_carry_over_is_not_better():
    worse = judged((0.9, -0.5, 0.99, 0.9), index=(0.5, -3, 0.9, 0.4), raw=(0.6, -4, 0.4, 0.7), random=(0, -9, 0, 0))
    assert worse[1] == "Below the best control: progression (R² below 0)."


@pytest.mark.parametrize(
    ("known", "advice"),
    [
        ({"frames": 20, "rate": 10.0}, "--set data.options.fps=20 (views take up to 40)"),
        ({"frames": 5, "rate": 10.0}, "--set data.options.fps=30 (views take up to 40)"),
        ({"frames": 20, "rate": 30.0}, "--set augment.frames=10 (views take up to 40)"),
        ({"frames": 20}, "--set augment.frames=10 (views take up to 40)"),
        ({"train": 9}, "more clips (9 to train on are few)"),
        ({"rate": 25.0, "size": 112}, "--set data.options.size=224"),
        ({"people": False}, "clips.csv with persons"),
    ],
)
def test_advice_follows_from_the_data(known, advice):
    weak, strong = (0.4, 0.1, 0.2, 0.5), (0.9, 0.8, 0.99, 0.9)
    last = judged(weak, **known)[-1]
    if "people" in known:
        last = judged(strong, **known)[-1]
    else:
        assert advice not in judged(strong, **known)[-1]
    assert advice in last
    assert advice not in judged(weak)[-1]


def test_retrieval_within_a_person():
    sentences = verdict(
        {"trained encoder": row(0.9, 0.8, 0.99, 0.9, 0.5), "time index": row(0.5, 0.3, 0.9, 0.4, 0.4),
         "raw features": row(0.6, 0.1, 0.4, 0.7, 0.48)}, KNOWN,
    )  # fmt: skip
    assert "AP@5 (by 0.20, raw features)" in sentences[0]
    assert sentences[1].endswith(": AP among other people (raw features).")
    assert "clips of more people (neighbours are found within a person)" in sentences[2]


def test_time_alone_tells_the_phase():
    index = (0.95, 0.95, 0.99, 0.95)
    assert judged((0.6, 0.4, 0.9, 0.6), index=index)[-1].startswith("To try next: clips that begin before the action ")


def test_rows_of_embeddings():
    rows = {"embeddings": row(0.9, 0.8, 0.99, 0.9), "time index": row(0.5, 0.3, 0.9, 0.4)}
    known = KNOWN._replace(view=0, steps=0)
    assert verdict(rows, known) == [
        "The embeddings beat the best control in accuracy (by 0.40, time index), progression (by 0.50, time index), "
        "tau (by 0.09, time index), AP@5 (by 0.50, time index)."
    ]
    controls = {"time index": row(0.5, 0.3, 0.9, 0.4), "raw features": row(0.9, 0.8, 0.99, 0.9)}
    assert verdict(controls, known)[0].startswith("The raw features beat the best control in accuracy (by 0.40, time ")


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"labelled": 0}, "phases (labels/NAME.csv) of two validation clips, 0 of 40 have some."),
        ({"labelled": 1}, "1 of 40 have some."),
        ({"labelled": 1, "val": 1}, "two validation clips with phases, and there is 1; give more."),
        ({}, "labels of two phases at least."),
    ],
)
def test_where_nothing_was_evaluated_it_says_what_would_be_needed(known, words):
    sentences = verdict({}, KNOWN._replace(**known))
    assert sentences[0].startswith("Nothing was judged: that takes ")
    assert sentences[0].endswith(words)


def quality(**hits_and_errors):
    rows = {name: Matching(0.0, 0.0, hit, error, 1.0, NAN) for name, (hit, error) in hits_and_errors.items()}
    return AlignmentQuality({name.replace("_", " "): figures for name, figures in rows.items()}, ["a"] * 16, 0, 240)


def test_matching():
    table = quality(
        linear_stretching=(0.5, 0.3), **{"DTW,_raw": (0.4, 0.4), "DTW,_learned": (0.9, 0.0)}, LACLoss=(0.7, 0.25)
    )
    assert verdict_on_matching(table) == (
        "Matching, LACLoss beside the best without learning: hit 0.70 against 0.50 (linear stretching), better; error "
        "0.25 against 0.30 (linear stretching), level."
    )
    table = quality(linear_stretching=(0.5, 0.1), **{"soft-DTW,_raw": (0.9, 0.4)}, LACLoss=(0.7, NAN))
    assert verdict_on_matching(table).endswith("hit 0.70 against 0.90 (soft-DTW, raw), worse.")
    assert "nothing to match" in verdict_on_matching(quality(linear_stretching=(0.5, 0.1), LACLoss=(NAN, NAN)))


def test_what_is_known_of_data():
    clips = [Clip(name, np.zeros((n, 1)), np.arange(n), labels) for name, n, labels in (
        ("a", 3, None), ("b", 5, np.array([-1] * 5)), ("c", 10, np.arange(10)), ("d", 4, None)
    )]  # fmt: skip
    known = Known.of(Dataset("d", clips[:2], clips[2:], [str(k) for k in range(10)]))
    assert known == Known(2, 2, 1, False, 4.0, False)
    theirs = Known.of(
        Dataset(
            "d", clips[:2], [dataclasses.replace(clip, person="x") for clip in clips[2:]], [str(k) for k in range(10)]
        ),
        TrainConfig.read(
            None, {"augment.frames": 8, "train.steps": 7, "data.options.fps": 10.0, "data.options.size": [90, 160]}
        ),
    )
    assert theirs == known._replace(people=True, view=8, steps=7, rate=10.0, size=160)
