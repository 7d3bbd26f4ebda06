"""Actions of Penn Action and the key events between their phases.

Dwibedi, Aytar, Tompson, Sermanet, Zisserman, "Temporal Cycle-Consistency Learning", CVPR 2019, table 2: the phases of
an action are the intervals between its start, its key events and its end.
"""

from __future__ import annotations

from itertools import pairwise

ACTIONS = (  # CARL's labels of actions are indices of this
    "baseball_pitch",
    "baseball_swing",
    "bench_press",
    "bowl",
    "clean_and_jerk",
    "golf_swing",
    "jumping_jacks",
    "pushup",
    "pullup",
    "situp",
    "squat",
    "tennis_forehand",
    "tennis_serve",
)
_EVENTS = {
    "baseball_pitch": ("knee fully up", "arm fully stretched out", "ball release"),
    "baseball_swing": ("bat swung back fully", "bat hits ball"),
    "bench_press": ("bar fully down",),
    "bowl": ("ball swung fully back", "ball release"),
    "clean_and_jerk": ("bar at hip", "fully squatting", "standing", "begin thrusting", "beginning balance"),
    "golf_swing": ("stick swung fully back", "stick hits ball"),
    "jumping_jacks": ("hands at shoulder (up)", "hands above head", "hands at shoulder (down)"),
    "pullup": ("chin above bar",),
    "pushup": ("head at floor",),
    "situp": ("abs fully crunched",),
    "squat": ("hips at knees (down)", "hips at floor", "hips at knees (up)"),
    "tennis_forehand": ("racket swung fully back", "racket touches ball"),
    "tennis_serve": ("ball released from hand", "racket swung fully back", "ball touches racket"),
    "pouring": ("hand touches bottle", "liquid starts exiting", "pouring complete", "bottle back on table"),
}


def phases(action: str) -> list[str]:
    """Names of the phases of an action, such as "start to bar fully down"; none for an unknown action."""
    if action not in _EVENTS:
        return []
    return [f"{a} to {b}" for a, b in pairwise(("start", *_EVENTS[action], "end"))]
