"""The evaluation protocol for frame embeddings, and the controls that belong beside every result.

Four tasks, as in CARL and TCC (Dwibedi et al., "Temporal Cycle-Consistency Learning", 2019; Chen et al.,
"Frame-wise Action Representations for Long Videos via Sequence Contrastive Learning", 2022): classification
of phases, progression, Kendall's tau and retrieval. Frames with a negative label are dropped before every one
of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from lac.data.base import Clip, Dataset
from lac.embed import embed_clips
from lac.errors import DataError, DataTypeError

FRACTIONS = (0.1, 0.5, 1.0)
KS = (5, 10, 15)
CLASSIFIERS = ("logistic", "svc")
_NOT_FINITE = "the embedding is not finite; the encoder has diverged, or the frames are too large for it"

Embed = Callable[[Sequence[Clip]], "list[np.ndarray]"]


@dataclass(frozen=True)
class EvalResult:
    """Results of one embedding. NaN where a task has no value.

    Args:
        classification: accuracy on the frames of all validation clips, by fraction of training clips.
        event_completion: progression: mean R^2 over the phases but the last, by fraction of training clips.
        kendalls_tau: mean over the pairs whose tau is a number.
        kendalls_tau_nan: number of pairs without one (their neighbours are all the same frame).
        kendalls_tau_pairs: number of all pairs.
        retrieval: AP@K by K.
        classifier: "logistic" or "svc".
        stride: every how many frames tau was taken.
        missing_classes: for "train" and "val" the labels that some clips of the split lack, with the number of those
            clips. A label is one that any clip of either split has.
        unseen_classes: by fraction the labels that none of its training clips has.
    """

    classification: dict[float, float]
    event_completion: dict[float, float]
    kendalls_tau: float
    kendalls_tau_nan: int
    kendalls_tau_pairs: int
    retrieval: dict[int, float]
    classifier: str
    stride: int
    missing_classes: dict[str, dict[int, int]] = field(default_factory=dict)
    unseen_classes: dict[float, list[int]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain values with string keys, for JSON."""

        def plain(value: Any) -> Any:
            return {str(key): plain(inner) for key, inner in value.items()} if isinstance(value, dict) else value

        return {key: plain(value) for key, value in dataclasses.asdict(self).items()}


def evaluate(
    embeddings_train: Sequence[np.ndarray],
    labels_train: Sequence[np.ndarray | None],
    embeddings_val: Sequence[np.ndarray],
    labels_val: Sequence[np.ndarray | None],
    *,
    stride: int = 1,
    fractions: Sequence[float] = FRACTIONS,
    ks: Sequence[int] = KS,
    classifier: str = "logistic",
) -> EvalResult:
    """Judge embeddings by the four tasks. Models are fitted on training clips only, on the embeddings as they
    are.

    - classification: scikit-learn's ``LogisticRegression`` (lbfgs, C = 1, at most 1e5 iterations), or ``SVC``
      (RBF, C = 1, as TCC and LAV use one), on all frames of the first max(1, floor(f n)) training clips.
    - event_completion (progression): for each phase c but the last, a least-squares fit of (t - last frame of
      c) / length, with t counted over the clip's labelled frames; R^2 on the validation frames, mean over c.
      Clips without phase c are left out of c; a c that no training or no validation clip has is left out of
      the mean.
    - kendalls_tau: for every ordered pair of validation clips, each ``stride``-th frame of the first goes to
      its nearest (squared Euclidean) ``stride``-th frame of the second; tau-b of the order they arrive in.
    - retrieval: AP@K is the share of a frame's K nearest frames of other validation clips that have its
      label, mean over the frames of a clip, then over clips. Frames at equal distance share the places that
      are left.

    Distances are computed in float64; differences below its rounding error count as ties, and of tied
    neighbours tau takes the first. So a constant embedding gives NaN for tau instead of noise.

    A clip without labels, or without any frame that has a phase, is left out of the tasks; it counts in
    ``missing_classes``. A phase that the classifier has not seen is predicted wrongly, and counts so.

    Args:
        embeddings_train, embeddings_val: for each clip (T, E), any floating type, finite.
        labels_train, labels_val: for each clip (T,) whole numbers, negative = no phase; or ``None``.
        stride: for tau, >= 1. Published figures use 2 (Penn Action) and 5 (Pouring, LAC), on longer clips.
        fractions: shares of the training clips, each within (0, 1].
        ks: each >= 1; where there are fewer than K frames in other clips, all of them count.
        classifier: "logistic" or "svc".

    Raises:
        TypeError: embeddings or labels that are no NumPy arrays of numbers.
        ValueError: lengths that differ, no labelled frame in a split, fewer than two validation clips with labelled
            frames, a single phase in all, embeddings that are not finite, or an option out of range. The message names
            the split and the clip's place in it.
    """
    if not isinstance(stride, int) or stride < 1:
        raise DataError(f"stride must be a whole number, at least 1, got {stride!r}")
    if not fractions or not all(0 < fraction <= 1 for fraction in fractions):
        raise DataError(f"fractions must lie within (0, 1], got {tuple(fractions)}")
    if not ks or not all(isinstance(k, int) and k >= 1 for k in ks):
        raise DataError(f"ks must be whole numbers, at least 1, got {tuple(ks)}")
    if classifier not in CLASSIFIERS:
        raise DataError(f"unknown classifier {classifier!r}: choose one of {', '.join(CLASSIFIERS)}")
    train = _labelled(embeddings_train, labels_train, "train")
    val = _labelled(embeddings_val, labels_val, "val")
    if len(val) < 2:
        raise DataError(
            "retrieval and Kendall's tau compare validation clips with each other: at least 2 with phases are needed, "
            "got 1"
        )
    if len(_classes(train + val)) < 2:
        raise DataError(f"all labelled frames have the label {train[0][1][0]}: there is nothing to tell apart")
    counts = {float(fraction): max(1, int(fraction * len(train))) for fraction in fractions}
    classes = _classes(train + val)
    taus = _taus([embedding[::stride] for embedding, _ in val])
    return EvalResult(
        classification={f: _accuracy(train[:count], val, classifier) for f, count in counts.items()},
        event_completion={f: _progression(train[:count], val) for f, count in counts.items()},
        kendalls_tau=float(np.nanmean(taus)) if np.isfinite(taus).any() else float("nan"),
        kendalls_tau_nan=int(np.isnan(taus).sum()),
        kendalls_tau_pairs=len(taus),
        retrieval=_average_precision(val, ks),
        classifier=classifier,
        stride=stride,
        missing_classes={
            "train": _missing(classes, train, len(embeddings_train)),
            "val": _missing(classes, val, len(embeddings_val)),
        },
        unseen_classes={f: sorted(classes - _classes(train[:count])) for f, count in counts.items()},
    )


def evaluate_dataset(dataset: Dataset, embed: Embed, **options: Any) -> EvalResult:
    """Embed the clips of a data set by ``embed(clips) -> [(T, E), ...]`` and judge them; see
    :func:`evaluate`; what is wrong with an embedding names its clip."""
    return evaluate(
        _embedded(embed, dataset.train),
        [clip.labels for clip in dataset.train],
        _embedded(embed, dataset.val),
        [clip.labels for clip in dataset.val],
        **options,
    )


def _embedded(embed: Embed, clips: Sequence[Clip]) -> list[np.ndarray]:
    found = embed(clips)
    if len(found) != len(clips):
        raise DataError(f"embed must return an embedding for each of {len(clips)} clips, got {len(found)}")
    for clip, embedding in zip(clips, found, strict=True):
        where = f"clip {clip.name!r}"
        _check_arrays(where, embedding, clip.labels)
        if embedding.ndim != 2 or len(embedding) != len(clip):
            raise DataError(
                f"{where}: its embedding must be (frames, features) of {len(clip)} frames, got {embedding.shape}"
            )
        if not np.isfinite(embedding).all():
            raise DataError(f"{where}: {_NOT_FINITE}")
    return found


def controls(
    dataset: Dataset,
    config: Mapping[str, Any],
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    **options: Any,
) -> dict[str, EvalResult]:
    """The rows that belong beside every result: what one gets without learning anything.

    Args:
        dataset: the clips that the encoder is judged on.
        config: the encoder's ``config``; the third control is ``FrameEncoder(**config)`` at random
            initialisation.
        seed: of that initialisation. The global random state is left as it was.
        device: where the encoder runs.
        options: of :func:`evaluate`; the same as for the encoder.

    Returns:
        "time index": the embedding is (frame number) / (length of the whole clip), one number a frame;
        "raw features": the frames themselves, flattened; "random encoder".
    """
    from lac.model.encoder import FrameEncoder

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = FrameEncoder(**config).to(device)
    rows: dict[str, Embed] = {
        "time index": time_index,
        "raw features": raw_features,
        "random encoder": lambda clips: embed_clips(encoder, clips, device),
    }
    return {name: evaluate_dataset(dataset, embed, **options) for name, embed in rows.items()}


def time_index(clips: Sequence[Clip]) -> list[np.ndarray]:
    """The control that has seen nothing: frame number / length of the whole clip, (T, 1)."""
    return [np.arange(len(clip))[:, None] / len(clip) for clip in clips]


def raw_features(clips: Sequence[Clip]) -> list[np.ndarray]:
    """The frames as they are, flattened to (T, D)."""
    return [clip.frames.reshape(len(clip), -1) for clip in clips]


_Labelled = list[tuple[np.ndarray, np.ndarray]]


def _labelled(embeddings: Sequence[np.ndarray], labels: Sequence[np.ndarray | None], split: str) -> _Labelled:
    """Embeddings (T, E) float64 and labels (T,) of the frames that have a phase, for the clips that have any."""
    if len(embeddings) != len(labels) or len(embeddings) == 0:
        raise DataError(f"{split}: {len(embeddings)} clips of embeddings, {len(labels)} of labels")
    kept = []
    for place, (embedding, label) in enumerate(zip(embeddings, labels, strict=True)):
        where = f"{split} clip {place}"
        _check_arrays(where, embedding, label)
        if embedding.ndim != 2 or (label is not None and label.shape != (len(embedding),)):
            raise DataError(
                f"{where}: embeddings must be (frames, features) and labels (frames,), got {embedding.shape} "
                f"and {None if label is None else label.shape}"
            )
        if embedding.shape[1] != embeddings[0].shape[1]:
            raise DataError(
                f"{where} has {embedding.shape[1]} features a frame, {split} clip 0 has {embeddings[0].shape[1]}"
            )
        if not np.isfinite(embedding).all():
            raise DataError(f"{where}: {_NOT_FINITE}")
        if label is not None and (chosen := label >= 0).any():
            kept.append((embedding[chosen].astype(np.float64), label[chosen]))
    if not kept:
        lack = "labels" if all(label is None for label in labels) else "frame with a label >= 0"
        raise DataError(f"the {split} split has no {lack}; the evaluation needs phases in both splits")
    return kept


def _check_arrays(where: str, embedding: Any, label: Any) -> None:
    for what, array, kinds in (("embeddings", embedding, "biuf"), ("labels", label, "iu")):
        if what == "labels" and array is None:
            continue
        kind = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
        if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
            numbers = "real numbers" if what == "embeddings" else "whole numbers"
            raise DataTypeError(f"{where}: {what} must be a NumPy array of {numbers}, got {kind}")


def _classes(clips: _Labelled) -> set[int]:
    return {int(label) for _, labels in clips for label in np.unique(labels)}


def _missing(classes: set[int], clips: _Labelled, count: int) -> dict[int, int]:
    """For each class that some of ``count`` clips lack the number of those clips; beyond ``clips`` they lack all."""
    without = {c: count - sum(bool((labels == c).any()) for _, labels in clips) for c in sorted(classes)}
    return {c: number for c, number in without.items() if number}


def _accuracy(train: _Labelled, val: _Labelled, classifier: str) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    features, labels = (np.concatenate(part) for part in zip(*train, strict=True))
    if len(np.unique(labels)) < 2:
        return float("nan")
    model = LogisticRegression(solver="lbfgs", max_iter=100_000) if classifier == "logistic" else SVC()
    model.fit(features, labels)
    features, labels = (np.concatenate(part) for part in zip(*val, strict=True))
    return float((model.predict(features) == labels).mean())


def _progression(train: _Labelled, val: _Labelled) -> float:
    phases = np.unique(np.concatenate([labels for _, labels in train + val]))
    scores = []
    for phase in phases[:-1]:
        fitted, judged = (_progress(clips, int(phase)) for clips in (train, val))
        if fitted is None or judged is None:
            continue
        centre, middle = fitted[0].mean(axis=0), fitted[1].mean()
        weight, *_ = np.linalg.lstsq(fitted[0] - centre, fitted[1] - middle, rcond=None)
        residual = judged[1] - middle - (judged[0] - centre) @ weight
        total = judged[1] - judged[1].mean()
        if (total**2).sum() > 0:
            scores.append(1 - (residual**2).sum() / (total**2).sum())
    return float(np.mean(scores)) if scores else float("nan")


def _progress(clips: _Labelled, phase: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Features and targets (t - last frame of the phase) / length of the clips that have the phase."""
    with_phase = [(embedding, labels) for embedding, labels in clips if (labels == phase).any()]
    if not with_phase:
        return None
    targets = [(np.arange(len(labels)) - np.flatnonzero(labels == phase)[-1]) / len(labels) for _, labels in with_phase]
    return np.concatenate([embedding for embedding, _ in with_phase]), np.concatenate(targets)


def _distances(queries: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, float]:
    """Squared Euclidean distances (Q, K), and the rounding error below which two of them are equal."""
    norm_q, norm_k = (queries**2).sum(axis=1), (keys**2).sum(axis=1)
    distances = norm_q[:, None] - 2 * queries @ keys.T + norm_k
    largest = float(norm_q.max() + norm_k.max())
    return distances, 4 * np.finfo(np.float64).eps * (queries.shape[1] + 4) * largest


def _centred(embeddings: Sequence[np.ndarray]) -> list[np.ndarray]:
    # A common offset changes no distance, but it would cost digits in |q|^2 - 2 q.k + |k|^2.
    centre = np.concatenate(embeddings).mean(axis=0)
    return [embedding - centre for embedding in embeddings]


def _taus(embeddings: Sequence[np.ndarray]) -> np.ndarray:
    """Kendall's tau-b of every ordered pair of clips; NaN where it is not defined."""
    clips = _centred(embeddings)
    taus = []
    for place, queries in enumerate(clips):
        others = [clip for other, clip in enumerate(clips) if other != place]
        nearest = []
        for keys in others:
            distances, error = _distances(queries, keys)
            nearest.append(np.argmax(distances <= distances.min(axis=1, keepdims=True) + error, axis=1))
        taus.append(_tau(np.stack(nearest)))
    return np.concatenate(taus)


def _tau(ranks: np.ndarray) -> np.ndarray:
    """tau-b of each row of (R, n) against 0, 1, ..., n - 1, which has no ties: (C - D) / sqrt(P (P -
    ties))."""
    rows, n = ranks.shape
    upper = np.triu_indices(n, 1)
    order = np.sign(ranks[:, upper[1]] - ranks[:, upper[0]])
    pairs, untied = len(upper[0]), np.abs(order).sum(axis=1)
    taus = np.full(rows, np.nan)
    np.divide(order.sum(axis=1), np.sqrt(pairs * untied), out=taus, where=untied > 0)
    return taus


def _average_precision(val: _Labelled, ks: Sequence[int]) -> dict[int, float]:
    features = _centred([embedding for embedding, _ in val])
    everything = np.concatenate(features)
    labels = np.concatenate([label for _, label in val])
    clip = np.repeat(np.arange(len(val)), [len(label) for _, label in val])
    means: dict[int, list[float]] = {k: [] for k in ks}
    for place, queries in enumerate(features):
        others = clip != place
        distances, error = _distances(queries, everything[others])
        same = labels[others] == val[place][1][:, None]
        limits = [min(k, int(others.sum())) for k in ks]
        ordered = np.partition(distances, [limit - 1 for limit in limits], axis=1)
        for k, limit in zip(ks, limits, strict=True):
            farthest = ordered[:, limit - 1 : limit]
            nearer = distances < farthest - error
            tied = (distances <= farthest + error) & ~nearer
            left = limit - nearer.sum(axis=1)
            hits = (nearer & same).sum(axis=1) + left * (tied & same).sum(axis=1) / tied.sum(axis=1)
            means[k].append(float((hits / limit).mean()))
    return {k: float(np.mean(values)) for k, values in means.items()}
