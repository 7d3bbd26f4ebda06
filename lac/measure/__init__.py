"""How fast, how much memory, how exact: what `lac-bench` and `python -m bench.measure` measure with.

A *side* is anything that aligns: an engine of this package, a naive form, a peer. Sides run in turn on the same fresh
random scores. A side that disagrees with float64 is not timed. The problem is always the same: standard normal scores,
open = 1, extend = 0.4, T = 1.
"""
