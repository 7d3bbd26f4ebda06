"""The evaluation protocol for frame embeddings.

Four tasks, as in CARL and TCC (Dwibedi et al., "Temporal Cycle-Consistency Learning", 2019; Chen et al.,
"Frame-wise Action Representations for Long Videos via Sequence Contrastive Learning", 2022): classification
of phases, progression, Kendall's tau and retrieval. Frames with a negative label are dropped before every one
of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lac.data.base import Clip, Dataset
from lac.errors import DataError, DataTypeError
from lac.runs.metrics import Labelled, accuracy, average_precision, classes, progression, taus

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
        retrieval_other_people: AP@K by K, of neighbours in clips of other people alone; empty where it is not known
            whose each clip is, or all are of one person.
        missing_classes: for "train" and "val" the labels that some clips of the split lack, with the number of those
            clips. A label is one that any clip of either split has. "train" is empty where no training clip has labels.
        unseen_classes: by fraction the labels that none of its training clips has; empty where none has labels.
    """

    classification: dict[float, float]
    event_completion: dict[float, float]
    kendalls_tau: float
    kendalls_tau_nan: int
    kendalls_tau_pairs: int
    retrieval: dict[int, float]
    classifier: str
    stride: int
    retrieval_other_people: dict[int, float] = field(default_factory=dict)
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
    persons_val: Sequence[str] | None = None,
) -> EvalResult:
    """Judge embeddings by the four tasks. Models are fitted on training clips only, on the embeddings as they
    are.

    - classification: scikit-learn's `LogisticRegression` (lbfgs, C = 1, at most 1e5 iterations), or `SVC`
      (RBF, C = 1, as TCC and LAV use one), on all frames of the first max(1, floor(f n)) training clips.
    - event_completion (progression): for each phase c but the last, a least-squares fit of (t - last frame of
      c) / length, with t counted over the clip's labelled frames; R^2 on the validation frames, mean over c.
      Clips without phase c are left out of c; a c that no training or no validation clip has is left out of
      the mean.
    - kendalls_tau: for every ordered pair of validation clips, each `stride`-th frame of the first goes to
      its nearest (squared Euclidean) `stride`-th frame of the second; tau-b of the order they arrive in.
    - retrieval: AP@K is the share of a frame's K nearest frames of other validation clips that have its
      label, mean over the frames of a clip, then over clips. Frames at equal distance share the places that
      are left.
    - retrieval_other_people: the same among the validation clips of other people than the frame's own.

    Distances are computed in float64; differences below its rounding error count as ties, and of tied
    neighbours tau takes the first. So a constant embedding gives NaN for tau instead of noise.

    A clip without labels, or without any frame that has a phase, is left out of the tasks; it counts in
    `missing_classes`. A phase that the classifier has not seen is predicted wrongly, and counts so. Where no training
    clip has labels, classification and progression are NaN: they alone learn from labels.

    Args:
        embeddings_train, embeddings_val: for each clip (T, E), any floating type, finite.
        labels_train, labels_val: for each clip (T,) whole numbers, negative = no phase; or `None`.
        stride: for tau, >= 1. Published figures use 2 (Penn Action) and 5 (Pouring, LAC), on longer clips.
        fractions: shares of the training clips, each within (0, 1].
        ks: each >= 1; where there are fewer than K frames in other clips, all of them count.
        classifier: "logistic" or "svc".
        persons_val: for each validation clip whose it is, "" = not known; or `None`.

    Raises:
        TypeError: embeddings or labels that are no NumPy arrays of numbers.
        ValueError: lengths that differ, fewer than two validation clips with labelled frames, a single phase in all,
            embeddings that are not finite, or an option out of range. The message names the split and the clip's place
            in it.
    """
    _check_options(stride, fractions, ks, classifier)
    train = _labelled(embeddings_train, labels_train, "train")
    val = _labelled(embeddings_val, labels_val, "val")
    _check_phases(train, val, labels_val)
    counts = {float(fraction): max(1, int(fraction * len(train))) for fraction in fractions}
    labels = classes(train + val)
    people = _people(persons_val, labels_val)
    orders = taus([embedding[::stride] for embedding, _ in val])
    return EvalResult(
        classification={f: accuracy(train[:count], val, classifier) for f, count in counts.items()},
        event_completion={f: progression(train[:count], val) for f, count in counts.items()},
        kendalls_tau=float(np.nanmean(orders)) if np.isfinite(orders).any() else float("nan"),
        kendalls_tau_nan=int(np.isnan(orders).sum()),
        kendalls_tau_pairs=len(orders),
        retrieval=average_precision(val, ks, range(len(val))),
        retrieval_other_people=average_precision(val, ks, people) if people else {},
        classifier=classifier,
        stride=stride,
        missing_classes={
            "train": _missing(labels, train, len(embeddings_train)) if train else {},
            "val": _missing(labels, val, len(embeddings_val)),
        },
        unseen_classes={f: sorted(labels - classes(train[:count])) for f, count in counts.items()} if train else {},
    )


def _check_options(stride: int, fractions: Sequence[float], ks: Sequence[int], classifier: str) -> None:
    if not isinstance(stride, int) or stride < 1:
        raise DataError(f"stride must be a whole number, at least 1, got {stride!r}")
    if not fractions or not all(0 < fraction <= 1 for fraction in fractions):
        raise DataError(f"fractions must lie within (0, 1], got {tuple(fractions)}")
    if not ks or not all(isinstance(k, int) and k >= 1 for k in ks):
        raise DataError(f"ks must be whole numbers, at least 1, got {tuple(ks)}")
    if classifier not in CLASSIFIERS:
        raise DataError(f"unknown classifier {classifier!r}: choose one of {', '.join(CLASSIFIERS)}")


def evaluate_dataset(dataset: Dataset, embed: Embed, **options: Any) -> EvalResult:
    """Embed the clips of a data set by `embed(clips) -> [(T, E), ...]` and judge them; see
    `evaluate`; what is wrong with an embedding names its clip."""
    return evaluate(
        checked_embeddings(embed, dataset.train),
        [clip.labels for clip in dataset.train],
        checked_embeddings(embed, dataset.val),
        [clip.labels for clip in dataset.val],
        persons_val=[clip.person for clip in dataset.val],
        **options,
    )


def checked_embeddings(embed: Embed, clips: Sequence[Clip]) -> list[np.ndarray]:
    """The embeddings of the clips, (T, E) each.

    Raises:
        ValueError, TypeError: not one finite array of numbers for each clip; the message names the clip.
    """
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


def _labelled(embeddings: Sequence[np.ndarray], labels: Sequence[np.ndarray | None], split: str) -> Labelled:
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
    return kept


def _check_phases(train: Labelled, val: Labelled, labels_val: Sequence[np.ndarray | None]) -> None:
    """Whether there is anything to judge."""
    if not val:
        lack = "labels" if all(label is None for label in labels_val) else "frame with a label >= 0"
        raise DataError(
            f"the val split has no {lack}; retrieval and Kendall's tau need two validation clips with phases, accuracy "
            "and progression training clips with phases too"
        )
    if len(val) < 2:
        raise DataError(
            "retrieval and Kendall's tau compare validation clips with each other: at least 2 with phases are needed, "
            "got 1"
        )
    if len(classes(train + val)) < 2:
        raise DataError(f"all labelled frames have the label {val[0][1][0]}: there is nothing to tell apart")


def _people(persons: Sequence[str] | None, labels: Sequence[np.ndarray | None]) -> list[str]:
    """Whose the clips that have phases are; empty unless each is known to be somebody's, and of two people at least."""
    if persons is None:
        return []
    if len(persons) != len(labels):
        raise DataError(f"persons_val must name the person of each of {len(labels)} clips, got {len(persons)} names")
    judged = [person for person, label in zip(persons, labels, strict=True) if label is not None and (label >= 0).any()]
    return judged if all(judged) and len(set(judged)) > 1 else []


def _check_arrays(where: str, embedding: Any, label: Any) -> None:
    for what, array, kinds in (("embeddings", embedding, "biuf"), ("labels", label, "iu")):
        if what == "labels" and array is None:
            continue
        kind = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
        if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
            numbers = "real numbers" if what == "embeddings" else "whole numbers"
            raise DataTypeError(f"{where}: {what} must be a NumPy array of {numbers}, got {kind}")


def _missing(classes: set[int], clips: Labelled, count: int) -> dict[int, int]:
    """For each class that some of `count` clips lack the number of those clips; beyond `clips` they lack all."""
    without = {c: count - sum(bool((labels == c).any()) for _, labels in clips) for c in sorted(classes)}
    return {c: number for c, number in without.items() if number}
