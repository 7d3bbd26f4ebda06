"""The four metrics of the protocol, on labelled frames; `lac.runs.evaluate` says what they mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# For each clip its embedding (T, E) float64 and its labels (T,), of the frames that have a phase.
Labelled = list[tuple[np.ndarray, np.ndarray]]


def classes(clips: Labelled) -> set[int]:
    """The labels that any clip has."""
    return {int(label) for _, labels in clips for label in np.unique(labels)}


def accuracy(train: Labelled, val: Labelled, classifier: str) -> float:
    """Share of the validation frames whose phase a classifier of the training frames predicts."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    if len(classes(train)) < 2:
        return float("nan")
    features, labels = (np.concatenate(part) for part in zip(*train, strict=True))
    model = LogisticRegression(solver="lbfgs", max_iter=100_000) if classifier == "logistic" else SVC()
    model.fit(features, labels)
    features, labels = (np.concatenate(part) for part in zip(*val, strict=True))
    return float((model.predict(features) == labels).mean())


def progression(train: Labelled, val: Labelled) -> float:
    """Mean R^2, over the phases but the last, of a linear fit of the time since the phase ended."""
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


def _progress(clips: Labelled, phase: int) -> tuple[np.ndarray, np.ndarray] | None:
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


def taus(embeddings: Sequence[np.ndarray]) -> np.ndarray:
    """Kendall's tau-b of every ordered pair of clips; NaN where it is not defined."""
    clips = _centred(embeddings)
    taus = []
    for place, queries in enumerate(clips):
        others = [clip for other, clip in enumerate(clips) if other != place]
        nearest = []
        for keys in others:
            distances, error = _distances(queries, keys)
            nearest.append(np.argmax(distances <= distances.min(axis=1, keepdims=True) + error, axis=1))
        taus.append(tau_b(np.stack(nearest)))
    return np.concatenate(taus)


def tau_b(ranks: np.ndarray) -> np.ndarray:
    """tau-b of each row of (R, n) against 0, 1, ..., n - 1, which has no ties: (C - D) / sqrt(P (P -
    ties))."""
    rows, n = ranks.shape
    upper = np.triu_indices(n, 1)
    order = np.sign(ranks[:, upper[1]] - ranks[:, upper[0]])
    pairs, untied = len(upper[0]), np.abs(order).sum(axis=1)
    taus = np.full(rows, np.nan)
    np.divide(order.sum(axis=1), np.sqrt(pairs * untied), out=taus, where=untied > 0)
    return taus


def average_precision(val: Labelled, ks: Sequence[int], owners: Sequence[object]) -> dict[int, float]:
    """By K the share of a frame's K nearest frames of others that have its phase.

    Args:
        val: the clips, two at least.
        ks: each >= 1.
        owners: for each clip whose it is, of two owners at least. A frame looks for its like in the clips of other
            owners alone; where each clip has one of its own, in all other clips.
    """
    features = _centred([embedding for embedding, _ in val])
    everything = np.concatenate(features)
    labels = np.concatenate([label for _, label in val])
    names = list(dict.fromkeys(owners))
    owner = np.array([names.index(name) for name in owners])
    frame_owner = np.repeat(owner, [len(label) for _, label in val])
    means: dict[int, list[float]] = {k: [] for k in ks}
    for place, queries in enumerate(features):
        others = frame_owner != owner[place]
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
