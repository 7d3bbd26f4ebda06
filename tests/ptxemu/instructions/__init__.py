"""Every instruction that the emulator knows, in files named as the chapters of the PTX ISA; what is not here raises."""

from ptxemu.body import Body
from ptxemu.instructions import (  # noqa: F401  they enter themselves into the table
    control_flow,
    floating_point,
    integer,
    logic,
    movement,
    selection,
    synchronization,
    warp,
)
from ptxemu.instructions.table import TABLE
from ptxemu.program import Instruction, Unsupported


def lower(i: Instruction, body: Body, pc: int) -> str:
    """The instruction in C++.

    Raises:
        Unsupported: it, a modifier or an operand is not known.
    """
    try:
        if i.opcode not in TABLE:
            raise Unsupported(i.name)
        return TABLE[i.opcode](i, body, pc)
    except Unsupported as error:
        raise Unsupported(f"PTX line {i.line}: {i.text!r}: {error} is not known to the emulator") from None
