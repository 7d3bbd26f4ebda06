"""The comparisons of representations: which losses, on which data, with which settings and seeds."""

from typing import Any, NamedTuple

CONTROLS = "controls"
Settings = dict[str, Any]

CONTRAST, NO_CONSENSUS = "frame contrast", "LACLoss without consensus"
NO_GUIDE, SUPERVISED = "no self-similarity", "trained on the labels"
OWN_GAPS = "gaps and margin learned from views"
# What differs from the defaults of lac-train.
VARIANTS: dict[str, Settings] = {
    "LACLoss": {},
    NO_CONSENSUS: {"loss.consensus_weight": 0.0},
    CONTRAST: {"loss.sequence_weight": 0.0, "loss.consensus_weight": 0.0},
    NO_GUIDE: {"train.reach": 0.0},
    OWN_GAPS: {"loss.learn_similarity": True},
}
TRIED: dict[str, Settings] = {
    "alignment of the two views: weight 0": {"loss.sequence_weight": 0.0},
    **{f"consensus: weight {w:g}": {"loss.consensus_weight": w} for w in (1.0, 4.0)},
    "alignment of the two views: margin and scale learned": {"loss.learn_similarity": True},
    "no teacher": {"train.teacher": 0.0},
    "views of at most 60 neighbouring frames": {"augment.region": 1.5},
}
# What differs from the defaults of lac.Consensus.
CONSENSUS: dict[str, Settings] = {
    "guide: weight 0.3": {"guide_weight": 0.3},
    **{f"margin: {m:g}": {"margin": m} for m in (1.2, 1.8)},
    **{f"temperature: {t:g}": {"temperature": t} for t in (0.4, 0.9)},
    **{f"gaps: {o:g}, {e:g}": {"gap_open": o, "gap_extend": e} for o, e in ((0.75, 0.15), (3.0, 0.6))},
    **{f"spread: {w:g}": {"spread": w} for w in (0.0, 3.0)},
    "16 thirds": {"n_thirds": 16},
}
PUBLISHED = ("SCL", "TCC", "LAV", "GTA", "TCN", "SaL", "LAC as released")  # bench/losses
COMPARED = ("LACLoss", *PUBLISHED)
CURVES = ("LACLoss", "SCL", "LAV")
HEADROOM = ("oracle", SUPERVISED)
CLAIM = ("LACLoss", CONTRAST, "SCL", *HEADROOM)
# What of LACLoss is changed to see where its gain comes from.
ORIGINS = (
    NO_CONSENSUS, "row softmax for p", "no consistency", NO_GUIDE, "row softmax for p, aligned again", "soft-DTW for p",
    "not aligned again", "every target trusted", "third views of the clip",
)  # fmt: skip
CHOICES = (
    "LACLoss", *TRIED, *CONSENSUS, "not aligned again", "every target trusted", OWN_GAPS,
)  # fmt: skip
SHORTER = "300 steps"  # the condition of the choices
LONGER_TOO = ("spread: 0", "no teacher")  # of them, those that were best
KEPT = ("LACLoss", CONTRAST, "SCL")
OWN_PARTS = (CONTRAST, NO_CONSENSUS)  # of LACLoss
WRONG_GROUPS = ("groups shuffled", "partners of other actions")

SQUAT: Settings = {"data.name": "uiprmd", "data.options.movement": "deep_squat"}
SIT: Settings = {"data.name": "uiprmd", "data.options.movement": "sit_to_stand"}
CAMERA: Settings = {"data.options.camera": "clip"}
LONGER: Settings = {"train.steps": 600}
EVERYTHING: Settings = {"data.name": "uiprmd", "data.options.movement": "all", **CAMERA}
SQUAT_3D, SIT_3D = "uiprmd deep_squat untrimmed", "uiprmd sit_to_stand untrimmed"
SQUAT_CAMERA, SIT_CAMERA = f"{SQUAT_3D}, a camera per clip", f"{SIT_3D}, a camera per clip"


class Plan(NamedTuple):
    """The same losses and seeds on one data set."""

    data: str  # the name that the data set gives itself
    condition: str  # what is changed in the data beyond what its name says; empty for nothing
    settings: Settings
    losses: tuple[str, ...]
    seeds: int


def _tempo(ratio: float) -> list[float]:
    """Slowest and fastest speed, so that one clip is played at most `ratio` times as fast as another."""
    return [ratio**-0.5, ratio**0.5]


PLANS: dict[str, list[Plan]] = {
    "cameras": [
        Plan(SQUAT_CAMERA, "", {**SQUAT, **CAMERA, **LONGER}, CLAIM, 5),
        Plan(SIT_CAMERA, "", {**SIT, **CAMERA, **LONGER}, (*KEPT, "no consistency", "oracle", *LONGER_TOO), 3),
        Plan(SQUAT_CAMERA, "", {**SQUAT, **CAMERA, **LONGER}, ORIGINS, 3),
        Plan(SQUAT_CAMERA, "", {**SQUAT, **CAMERA, **LONGER}, PUBLISHED[1:], 2),
    ],
    "choices": [Plan(SIT_CAMERA, SHORTER, {**SIT, **CAMERA}, CHOICES, 2)],
    "comparison": [
        Plan(SQUAT_3D, "", SQUAT, (*COMPARED, CONTRAST), 3),
        Plan(SIT_3D, "", SIT, (*COMPARED, CONTRAST), 3),
        Plan("watch ROW untrimmed", "", {"data.name": "watch"}, (*COMPARED, CONTRAST), 3),
    ],
    "harmless": [
        Plan("watch all untrimmed", "", {"data.name": "watch", "data.options.action": "all"}, (*KEPT, NO_CONSENSUS), 3),
        Plan("digits untrimmed", "", {"data.name": "digits", "train.reach": 0.2}, KEPT, 3),
        Plan(f"{SQUAT_CAMERA}, 20% of the joints hidden", "", {**SQUAT, **CAMERA, "data.options.hidden": 0.2}, KEPT, 3),
        Plan(SQUAT_3D, "tempo 3x", {**SQUAT, "data.options.speed": _tempo(3.0)}, ("LACLoss", *OWN_PARTS), 3),
        Plan("uiprmd all untrimmed, a camera per clip", "", EVERYTHING, (*KEPT, NO_CONSENSUS, *WRONG_GROUPS), 3),
    ],
    "distractors": [
        Plan(SQUAT_3D, f"distractors {share:.0%}", {**SQUAT, "data.options.share": share}, CURVES, 2)
        for share in (0.0, 0.2, 0.4, 0.6)
    ],
    "tempo": [
        Plan(SQUAT_3D, f"tempo {ratio:g}x", {**SQUAT, "data.options.speed": _tempo(ratio)}, CURVES, 2)
        for ratio in (1.0, 1.5, 2.0, 3.0)
    ],
}
