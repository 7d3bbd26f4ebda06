"""The CPU engine: C++ with SIMD lanes, compiled on first use for the machine it runs on.

`library.py` compiles and loads it, `launch.py` calls it. Of the C++, `cpu.cpp` describes the algorithm and is what
Python calls; each header beside it holds one idea. Without a C++ compiler the engine is `unavailable`.
"""

from lac_kernels.cpu.launch import forward, gradient, hard, saved_like, second
from lac_kernels.cpu.library import built, poison, unavailable

__all__ = ["built", "forward", "gradient", "hard", "poison", "saved_like", "second", "unavailable"]
