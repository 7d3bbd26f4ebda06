"""The table of alignment quality, from bench/results/alignments.csv."""

import math
import statistics

from bench.alignments import ROWS
from bench.plans import CONTRAST
from bench.rows import Row, read
from bench.tables_of_representations import conditions, mean_spread, not_measured, shown

# Whose embeddings, aligned by what. What has learned nothing is the same whoever trained.
RAW = ("linear stretching", "DTW, raw", "subsequence DTW, raw", "soft-DTW, raw", "Consensus, self-similarity")
LEARNED = ("DTW, learned", "subsequence DTW, learned", "soft-DTW, learned", "row softmax", "LACLoss")
LINES = (
    *(("LACLoss", "nothing", aligner) for aligner in RAW),
    ("SCL", "SCL", "row softmax"),
    (CONTRAST, CONTRAST, "row softmax"),
    (CONTRAST, CONTRAST, "LACLoss"),
    (CONTRAST, CONTRAST, "Consensus, both"),
    *(("LACLoss", "LACLoss", aligner) for aligner in (*LEARNED, "Consensus, embeddings", "Consensus, both")),
)
FIGURES = ("hit", "precision", "error", "covered")


def matching(data: str) -> str:
    """Each aligner alone, and with the consensus of all clips chosen."""
    rows = [row for row in read(ROWS) if row["data"].replace(" ", "_") == data]
    if not rows:
        return not_measured(ROWS, data)
    heads = [head for figure in FIGURES for head in (figure, "+ consensus")]
    lines = [f"| learned by | aligned by | {' | '.join(heads)} |", "|---|---|" + "---|" * len(heads)]
    for loss, who, aligner in LINES:
        of = {name: [row for row in rows if (row["loss"], row["aligner"]) == (loss, name)] for name in _two(aligner)}
        if not any(of.values()):
            continue
        cells = [_cell(of[name], figure) for figure in FIGURES for name in _two(aligner)]
        lines.append(f"| {who} | {aligner} | {' | '.join(cells)} |")
    some = rows[0]
    whose = (
        f" Means over {some['pairs']} ordered pairs of {some['clips']} clips of {some['people']} people not trained on."
    )
    return "\n".join([*lines, "", conditions(rows, ROWS) + whose])


def _two(aligner: str) -> tuple[str, str]:
    """The names of the rows alone and with the consensus; what is made of the consensus has the second only."""
    return ("", aligner) if aligner.startswith("Consensus") else (aligner, f"{aligner} + consensus")


def _cell(rows: list[Row], figure: str) -> str:
    values = [float(row[figure]) for row in rows if not math.isnan(float(row[figure]))]
    if not values:
        return ""
    return mean_spread(values) if figure == "hit" else shown(statistics.mean(values))
