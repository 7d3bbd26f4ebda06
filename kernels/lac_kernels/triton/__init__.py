"""The recursion of `reference` as Triton kernels: one warp per pair, all state in registers.

Lane l of the warp owns R consecutive rows and is one column behind lane l - 1, so that a neighbour's bottom row comes
over by one lane shift per step. kernels/README.md has the picture, the derivation and the numbers of the equations.

    values     the numbers: scaled, with an exponent each, or of the hard alignment
    memory     where things lie, and how they are read and written
    columns    one step: the recursion over a lane's rows of one column
    soft       the forward and the backward kernel
    hard       the hard alignment and its trace
    plan       rows per lane, steps per segment, programs
    launch     the engine's functions, which launch the kernels
"""

from lac_kernels.triton.launch import forward, gradient, hard, saved_like, second, unavailable

__all__ = ["forward", "gradient", "hard", "saved_like", "second", "unavailable"]
