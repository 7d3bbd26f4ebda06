"""The recursion of `reference` as Triton kernels: a lane owns rows, a warp a strip of them, a program a few strips.

Lane l of a warp owns R consecutive rows and is one column behind lane l - 1, so that a neighbour's bottom row comes
over by one lane shift per step; warps and programs hand theirs on through memory. kernels/README.md has the picture,
the derivation and the numbers of the equations.

    values     the numbers: scaled, with an exponent each, or of the hard alignment
    layout     what a kernel is compiled for, and where things lie
    memory     how they are read and written
    columns    one step: the recursion over a lane's rows of one column
    gate       how warps and programs wait for each other
    results    what a forward sweep gathers
    sweep      the sweep downwards, of all kernels
    forward    the forward kernel
    backward   the backward kernel
    hard       the hard alignment and its trace
    plan       rows, warps, programs, memory
    launch     the engine's functions, which launch the kernels
    estimate   what a pass should take on an H100
"""

from lac_kernels.triton.launch import forward, gradient, hard, saved_like, second, unavailable

__all__ = ["forward", "gradient", "hard", "saved_like", "second", "unavailable"]
