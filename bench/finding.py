"""Is a query found where it occurs? Local alignment beside subsequence DTW and a sliding mean, on the same frames.

    python -m bench.finding

digits: a spoken digit of one person in streams of thirty digits that another person says. uiprmd: one repetition of a
movement in a session of another person, made of thirty repetitions of all ten movements. The people of the test say
or do nothing in training. "raw": frames as they are, `lac.ways.Raw`; "learned": a `FrameEncoder` trained with `LACLoss`
on pairs of recordings of two people that show the same thing, each between pieces of other recordings, without a
clock: `loss(z1, z2, times1=, times2=, same_clock=False, groups=)`.

A hit is right if it and an occurrence not yet found cover half of what both cover together.

watch: how many repetitions are in a recording, counted as the occurrences of its middle one (raw, all that score above
0), beside the guess of 20; the truth is a rule's, see `lac.data.watch`. speed: fifty frames in 100,000, of 128 numbers.

Rows are appended to bench/results/finding.csv as they finish; a row that is there already is not made again.
`python -m bench.report` makes the tables.
"""

import argparse
import datetime
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bench.rows import RESULTS, append_rows, command_line, commit, machine, read
from lac import FrameEncoder, LACLoss
from lac.data import Clip, load
from lac.data.augment import collate, whole
from lac.data.untrimmed import untrim
from lac.search import LONGEST, Compared, find
from lac.similarity import unit
from lac.system import describe
from lac.ways import Raw, Trained, Way

ROWS = RESULTS / "finding.csv"
RATE = 25.0  # frames a second
STEPS, PAIRS, NOISE, FOUND = 400, 20, 0.1, 40  # of training, in a batch, of frames; most hits in a stream
FIELDS = [
    "data", "features", "method", "seed", "steps", "ap", "overlap", "found", "precision", "recall", "queries",
    "occurrences", "seconds", "count_error", "guess_error", "device", "torch", "lac", "commit", "date", "command",
]  # fmt: skip


class Stream(NamedTuple):
    """A recording, and where it shows what: actions with their first frame and the one after the last."""

    clip: Clip
    occurrences: list[tuple[str, int, int]]


class Hit(NamedTuple):
    score: float
    start: float  # frames
    end: float
    chance: float = float("nan")


class Task(NamedTuple):
    """Clips to train on, queries, and streams in which those of other people are searched."""

    train: list[Clip]
    queries: list[Clip]
    streams: list[Stream]


# Tasks


def digits_task() -> Task:
    from lac.data import digits

    clips = load("digits", repetitions=50, untrimmed=False)
    speakers = sorted({clip.person for clip in clips.val})
    streams = [
        Stream(
            Clip(s.speaker, s.frames, s.times, person=s.speaker),
            [(str(o.digit), o.start, o.end) for o in s.occurrences],
        )
        for seed in range(5)
        for s in digits.streams(speakers=speakers, seed=seed)
    ]
    return Task(clips.train, load("digits", repetitions=3, untrimmed=False).val, streams)


def uiprmd_task() -> Task:
    clips = load("uiprmd", movement="all", untrimmed=False)
    rng = np.random.default_rng(0)
    by_person: dict[str, dict[str, list[Clip]]] = {}
    for clip in clips.val:
        by_person.setdefault(clip.person, {}).setdefault(clip.action, []).append(clip)
    streams, queries = [], []
    for person, movements in by_person.items():
        chosen = [clip for some in movements.values() for clip in some[1:4]]
        streams.append(joined(person, [chosen[k] for k in rng.permutation(len(chosen))]))
        queries += [clip for some in movements.values() for clip in some[4:6]]
    return Task(clips.train, queries, streams)


def joined(person: str, clips: Sequence[Clip]) -> Stream:
    """Recordings one after another."""
    ends = np.cumsum([len(clip) for clip in clips]).tolist()
    frames = np.concatenate([clip.frames for clip in clips])
    times = np.arange(len(frames)) * float(np.median(np.diff(clips[0].times)))
    occurrences = [(clip.action, start, end) for clip, start, end in zip(clips, [0, *ends[:-1]], ends, strict=True)]
    return Stream(Clip(person, frames, times, person=person), occurrences)


# Training


def trained(clips: Sequence[Clip], seed: int) -> Way:
    """An encoder and a loss, trained on pairs of recordings of one action by two people."""
    of: dict[str, dict[str, list[Clip]]] = {}
    for clip in clips:
        of.setdefault(clip.action, {}).setdefault(clip.person, []).append(clip)
    actions, rng = sorted(of), np.random.default_rng(seed)
    torch.manual_seed(seed)
    encoder, loss = FrameEncoder(clips[0].frames[0].size), LACLoss(consensus_weight=0.0, learn_similarity=True)
    parts = [{"params": encoder.parameters(), "lr": 1e-3}, {"params": loss.parameters(), "lr": 1e-2}]
    optimizer = torch.optim.AdamW(parts, weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min((k + 1) / 40, 0.5 + 0.5 * float(np.cos(np.pi * k / STEPS)))
    )
    for _ in range(STEPS):
        shown = [actions[k % len(actions)] for k in range(PAIRS)]
        people = [rng.choice(sorted(of[action]), 2, replace=False) for action in shown]
        one, two = (
            collate(
                [whole(between_others(of, action, both[side], rng)) for action, both in zip(shown, people, strict=True)]
            )
            for side in (0, 1)
        )
        z1, z2 = (
            encoder(x.frames + NOISE * torch.randn_like(x.frames), times=x.times, lengths=x.lengths) for x in (one, two)
        )
        clocks: dict[str, Any] = {"times1": one.times, "times2": two.times, "same_clock": False}
        groups = torch.tensor([actions.index(action) for action in shown])
        value = loss(z1, z2, lengths1=one.lengths, lengths2=two.lengths, groups=groups, **clocks)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_([*encoder.parameters(), *loss.parameters()], 1.0)
        optimizer.step()
        rate.step()
    return Trained(encoder.eval(), loss)


def between_others(of: dict[str, dict[str, list[Clip]]], action: str, person: str, rng: np.random.Generator) -> Clip:
    """A recording between pieces of others of the same person, faster or slower."""
    own = of[action][person]
    others = [some[int(rng.integers(len(some)))] for other in of if other != action and (some := of[other].get(person))]
    pieces = [partial(_frames, clip) for clip in others]
    return untrim(own[int(rng.integers(len(own)))], pieces, rng, max_distractors=25, speed=(0.8, 1.25))


def _frames(clip: Clip) -> np.ndarray:
    return clip.frames


# Methods: hits of a query in a stream, by what `Way.compared` compares


def local(way: Way, query: Clip, stream: Clip) -> list[Hit]:
    """`lac.search.find`, the score as it is."""
    step = float(stream.times[1] - stream.times[0])
    found = find(way.compared(query, stream), FOUND, chance=1.0)
    return [Hit(x.score, x.start / step, x.end / step + 1, x.chance) for x in found]


def subsequence_dtw(way: Way, query: Clip, stream: Clip) -> list[Hit]:
    """dtaidistance (Meert et al.), of unit vectors, hits that do not overlap."""
    from dtaidistance.subsequence.dtw import subsequence_alignment

    q, r = (x.double().numpy() for x in directions(way, query, stream))
    aligned = subsequence_alignment(np.ascontiguousarray(q), np.ascontiguousarray(r), penalty=0, use_c=True)
    longest = LONGEST * len(q)
    found = aligned.kbest_matches(FOUND, overlap=0, maxlength=longest)
    return [Hit(-float(x.value), int(x.segment[0]), int(x.segment[1]) + 1) for x in found]


def sliding_mean(way: Way, query: Clip, stream: Clip) -> list[Hit]:
    """The mean cosine with the frames at the same distance, of windows that do not overlap."""
    q, r = directions(way, query, stream)
    n, m = len(q), len(r)
    if m < n:
        return []
    windows = (q @ r.T).unfold(1, n, 1)  # (n, m - n + 1, n)
    means = windows.diagonal(dim1=0, dim2=2).mean(1).numpy()
    free, hits = np.ones(m, bool), list[Hit]()
    for start in np.argsort(-means, kind="stable").tolist():
        if len(hits) < FOUND and free[start : start + n].all():
            hits.append(Hit(float(means[start]), start, start + n))
            free[start : start + n] = False
    return hits


def directions(way: Way, query: Clip, stream: Clip) -> tuple[Tensor, Tensor]:
    """The frames that `local` compares, as unit vectors, without their recording's mean."""
    first, second = way.compared(query, stream).frames
    return unit(first), unit(second)


METHODS: dict[str, Callable[[Way, Clip, Clip], list[Hit]]] = {
    "local alignment": local,
    "subsequence DTW": subsequence_dtw,
    "sliding mean": sliding_mean,
}


# Figures


def average_precision(hits: Sequence[tuple[bool, float]], occurrences: int) -> float:
    """Mean precision at the right hits, of (right, score) in any order; what is never found counts 0."""
    order = sorted(hits, key=lambda hit: -hit[1])
    right = np.array([hit[0] for hit in order], dtype=float)
    return float((right * np.cumsum(right) / np.arange(1, len(right) + 1)).sum() / occurrences) if len(right) else 0.0


def judged(hits: Sequence[Hit], there: Sequence[tuple[int, int]]) -> list[float]:
    """For each hit, best first, its part in `common` with an occurrence not yet found; 0 where it is wrong."""
    left, shares = list(there), []
    for hit in sorted(hits, key=lambda hit: -hit.score):
        by_share = {
            (min(hit.end, e) - max(hit.start, s)) / (max(hit.end, e) - min(hit.start, s)): (s, e) for s, e in left
        }
        best = max(by_share, default=0.0)
        if best >= 0.5:
            left.remove(by_share[best])
        shares.append(best if best >= 0.5 else 0.0)
    return shares


def common(hit: Hit, start: int, end: int) -> float:
    """What a hit and an occurrence cover together, of what they cover; negative where they are apart."""
    return (min(hit.end, end) - max(hit.start, start)) / (max(hit.end, end) - min(hit.start, start))


def figures(way: Way, method: str, task: Task) -> dict[str, Any]:
    """One row: mean average precision over the queries, and what is found at a chance of 0.05."""
    began, precisions, overlaps, sure, occurrences = time.perf_counter(), [], [], [], 0
    for query in task.queries:
        hits: list[tuple[bool, float]] = []
        count = 0
        for clip, events in task.streams:
            if clip.person == query.person:
                continue
            there = [(start, end) for action, start, end in events if action == query.action]
            found = sorted(METHODS[method](way, query, clip), key=lambda hit: -hit.score)
            shares = judged(found, there)
            hits += [(share > 0, hit.score) for hit, share in zip(found, shares, strict=True)]
            overlaps += [share for share in shares if share > 0]
            sure += [share > 0 for hit, share in zip(found, shares, strict=True) if hit.chance <= 0.05]
            count += len(there)
        if count:
            precisions.append(average_precision(hits, count))
            occurrences += count
    with_chance = method == "local alignment"
    return {
        "ap": round(float(np.mean(precisions)), 4),
        "overlap": round(float(np.mean(overlaps)), 4),
        "found": len(sure) if with_chance else "",
        "precision": round(float(np.mean(sure)), 4) if with_chance and sure else "",
        "recall": round(sum(sure) / occurrences, 4) if with_chance else "",
        "queries": len(precisions),
        "occurrences": occurrences,
        "seconds": round(time.perf_counter() - began, 2),
    }


# Others


def watch_rows() -> list[dict[str, Any]]:
    """The mean error of the count over all recordings."""
    from lac.data import watch

    recordings = watch._recordings(watch._file(), RATE)
    errors, began = [], time.perf_counter()
    for one in recordings:
        cuts = watch._cuts(watch._excursion(one, RATE), RATE)
        start, end = cuts[len(cuts) // 2 - 1 : len(cuts) // 2 + 1]
        times = np.arange(len(one.signal)) / RATE
        query = Clip("query", one.signal[start:end], times[start:end])
        found = find(Raw().compared(query, Clip("recording", one.signal, times)), 200, chance=1.0)
        errors.append((abs(len(found) - len(cuts) - 1), abs(20 - len(cuts) - 1)))
    count, guess = np.mean(errors, axis=0)
    row = {"method": "local alignment", "count_error": round(float(count), 4), "guess_error": round(float(guess), 4)}
    return [row | {"features": "raw", "queries": len(errors), "seconds": round(time.perf_counter() - began, 2)}]


def speed_rows() -> list[dict[str, Any]]:
    """The median of five searches, chance included, after one that compiles."""
    rng = np.random.default_rng(0)
    q, r = (unit(torch.from_numpy(rng.normal(size=(n, 128)).astype(np.float32))) for n in (50, 100_000))
    for start in rng.integers(len(r) - 50, size=20):
        r[start : start + 50] = q
    gaps = torch.tensor(0.5), torch.tensor(0.1)
    compared = Compared(
        np.arange(50) / RATE, np.arange(len(r)) / RATE, lambda frames, _: (q @ r[frames].mT - 0.4, *gaps), (q, r)
    )
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        found = find(compared)
        seconds.append(time.perf_counter() - began)
    row = {"features": "made up", "method": "local alignment", "found": len(found), "queries": 1}
    return [row | {"seconds": round(float(np.median(seconds[1:])), 3)}]


OTHERS = {"watch": watch_rows, "speed": speed_rows}
TASKS = {"digits": digits_task, "uiprmd": uiprmd_task}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "data", nargs="*", choices=[*TASKS, *OTHERS, []], help=f"of {', '.join([*TASKS, *OTHERS])} (default: all)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="of what is trained, from 0 (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROWS, metavar="CSV", help="default: %(default)s")
    options = parser.parse_args()

    torch.set_num_threads(1)
    about = {
        **machine(describe(torch.device("cpu"))),
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
        "command": command_line("finding"),
    }
    there = {(row["data"], row["features"], row["seed"]) for row in read(options.out)}
    for data in options.data or [*TASKS, *OTHERS]:
        if data in OTHERS:
            append_rows(options.out, [{"data": data} | row | about for row in OTHERS[data]()], FIELDS)
            continue
        task = TASKS[data]()
        for seed in ("", *map(str, range(options.seeds))):
            features, steps = ("learned", str(STEPS)) if seed else ("raw", "")
            if (data, features, seed) in there:
                continue
            way = trained(task.train, int(seed)) if seed else Raw()
            rows = [
                {"data": data, "features": features, "method": method, "seed": seed, "steps": steps}
                | figures(way, method, task)
                | about
                for method in METHODS
            ]
            append_rows(options.out, rows, FIELDS)
            for row in rows:
                print(
                    data,
                    features,
                    seed,
                    row["method"],
                    row["ap"],
                    row["overlap"],
                    row["precision"],
                    row["recall"],
                    flush=True,
                )


if __name__ == "__main__":
    main()
