"""Triton kernels compiled ahead of time, for a GPU that is not there, and what their machine code needs.

python -m ptxemu.ahead_of_time MODULE:KERNEL 'x=*fp32,n=i32,BLOCK=1024' --target cuda:90 --target hip:gfx942
"""

import argparse
import ast
import importlib
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.compiler import ASTSource

from ptxemu import cycles
from ptxemu.driver import CompileOnly, driven_by, target_of

TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"


class Loop(NamedTuple):
    """An innermost loop of machine code.

    Attributes:
        instructions: in its body.
        operations: how many there are of each, by name without what follows a dot.
        cycles: estimates for one warp alone, per step, by the cycles of a load from global memory (cycles.py); for AMD
            by "llvm-mca", if that is installed.
        waits: the instructions that wait longest for others, with their cycles, for a load that the second-level cache
            answers.
    """

    instructions: int
    operations: Counter[str]
    cycles: dict[str, float]
    waits: list[tuple[str, int]]


class Usage(NamedTuple):
    """What the machine code of a kernel needs.

    Attributes:
        registers: of a thread.
        spills: bytes of stack, and accesses to it.
        shared: bytes of shared memory.
        barriers: of the CTA, in the code.
        loops: the innermost ones, in the order of the code.
    """

    registers: int
    spills: int
    shared: int
    barriers: int
    loops: list[Loop]


def compiling_for(target: str) -> AbstractContextManager[None]:
    """Within, launches by `kernel.warmup` compile for a target ("cuda:90", "hip:gfx942") that need not be there."""
    return driven_by(CompileOnly(target_of(target)))


def usage(kernel: Any) -> Usage:
    """Of a kernel that Triton has compiled."""
    return _of_nvidia(kernel) if "cubin" in kernel.asm else _of_amd(kernel)


def _of_nvidia(kernel: Any) -> Usage:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        text = _output(TOOLS / "cuobjdump", "-res-usage", file.name)
        code = _output(TOOLS / "nvdisasm", "-hex", "-c", file.name)
    registers, stack, shared = (int(_found(rf"{key}:(\d+)", text)) for key in ("REG", "STACK", "SHARED"))
    instructions = cycles.instructions(code)
    operations = [i.operation for i in instructions]
    loops = [_loop(body) for body in cycles.innermost_loops(instructions)]
    spills = stack + operations.count("LDL") + operations.count("STL")
    return Usage(registers, spills, shared + kernel.metadata.shared, operations.count("BAR"), loops)


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if not match:
        raise ValueError(f"the compiler's tools do not print {pattern}: is their version a new one?")
    return match[1]


def _loop(body: list[cycles.MachineInstruction]) -> Loop:
    estimates = {latency: cycles.estimate(body, latency) for latency in cycles.LOADS}
    longest = estimates[cycles.LOADS[1]].waits.most_common(5)
    return Loop(
        len(body),
        Counter(i.operation for i in body),
        {f"loads of {latency}": round(e.cycles, 1) for latency, e in estimates.items()},
        [(f"{i.address:#x} {i.text}", wait) for i, wait in longest],
    )


_AMD_INSTRUCTION = re.compile(r"\s+(?:[sv]_|global_|ds_|buffer_|flat_)")


def _of_amd(kernel: Any) -> Usage:
    code = kernel.asm["amdgcn"]
    registers, spills, scratch = (
        int(_found(rf"\.{key}:\s+(\d+)", code))
        for key in ("vgpr_count", "vgpr_spill_count", "private_segment_fixed_size")
    )
    position: dict[str, int] = {}
    loops: list[tuple[int, int]] = []
    lines: list[str] = []
    for line in code.splitlines():
        if found := re.match(r"(\.LBB\S+):", line):
            position[found[1]] = len(lines)
        elif _AMD_INSTRUCTION.match(line):
            lines.append(line.partition(";")[0])
            if (found := re.search(r"s_c?branch\S*\s+(\.LBB\S+)", line)) and found[1] in position:
                loops.append((position[found[1]], len(lines)))
    processor = kernel.metadata.target.arch
    made = []
    for body in (lines[begin:end] for begin, end in cycles.innermost(loops)):
        made.append(Loop(len(body), Counter(line.split()[0] for line in body), _llvm_mca(body, processor), []))
    return Usage(registers, spills + scratch, kernel.metadata.shared, len(re.findall(r"s_barrier", code)), made)


_LLVM_MCA = ("llvm-mca-20", "llvm-mca-19", "llvm-mca-18", "llvm-mca")


def _llvm_mca(body: list[str], processor: str, steps: int = 20) -> dict[str, float]:
    """What LLVM's model of the processor says of a loop; nothing where that is not installed."""
    tool = next(filter(None, map(shutil.which, _LLVM_MCA)), None)
    if not tool:
        return {}
    command = [tool, "-mtriple=amdgcn-amd-amdhsa", f"-mcpu={processor}", f"-iterations={steps}", "-disable-cb", "-"]
    text = "\n".join(line for line in body if "branch" not in line)
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    total = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    return {"llvm-mca": int(total[1]) / steps} if total else {}


def _output(*command: Any) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def compile_kernel(kernel: Any, arguments: dict[str, str], target: str, warps: int = 4) -> Any:
    """A kernel for a target. An argument is a type of Triton ("*fp32", "i32"), or else the value of a constexpr.

    Pointers are taken to be divisible by 16 bytes, as Triton would find them to be for most tensors.
    """
    names = kernel.arg_names
    types = {n: v for n, v in arguments.items() if re.fullmatch(r"\*\w+|[iu]\d+|fp\d+|bf16", v)}
    source = ASTSource(
        fn=kernel,
        signature={n: types.get(n, "constexpr") for n in names},
        constexprs={(names.index(n),): ast.literal_eval(v) for n, v in arguments.items() if n not in types},
        attrs={(names.index(n),): [["tt.divisibility", 16]] for n, v in types.items() if v[0] == "*"},
    )
    with compiling_for(target):
        return triton.compile(source, target=target_of(target), options={"num_warps": warps})


def main(argv: list[str] | None = None) -> None:
    """Prints what a kernel needs on each target, and where its loops wait."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kernel", help="MODULE:KERNEL, found on PYTHONPATH")
    parser.add_argument("arguments", help="NAME=TYPE or NAME=VALUE, with commas between them")
    parser.add_argument("--target", action="append", help="may be given several times (default: cuda:90)")
    parser.add_argument("--warps", type=int, default=4, help="of a program (default: %(default)s)")
    options = parser.parse_args(argv)
    module, _, name = options.kernel.partition(":")
    kernel = getattr(importlib.import_module(module), name)
    arguments = dict(pair.split("=", 1) for pair in options.arguments.split(","))
    for target in options.target or ["cuda:90"]:
        found = usage(compile_kernel(kernel, arguments, target, options.warps))
        print(f"{target}: {found.registers} registers, {found.spills} spills, ", end="")
        print(f"{found.shared} bytes of shared memory, {found.barriers} barriers")
        for loop in found.loops:
            estimates = ", ".join(f"{value:g} ({how})" for how, value in loop.cycles.items())
            print(
                f"  a loop of {loop.instructions} instructions; estimated cycles per step: {estimates or 'none made'}"
            )
            for instruction, wait in loop.waits:
                print(f"    {wait} cycles wait at {instruction}")


if __name__ == "__main__":
    main()
