"""The C++ function of a kernel as it grows: names in scope, and operands as C++ expressions."""

import re

from ptxemu.program import TYPES, Memory, Program, Type, Unsupported, number

# What is read without a register, as C++ of the runtime, with its bits.
SPECIAL_REGISTERS = {
    "%tid.x": ("t->number", 32),
    "%tid.y": ("0u", 32),
    "%tid.z": ("0u", 32),
    "%ntid.x": ("launch->threads", 32),
    "%ntid.y": ("1u", 32),
    "%ntid.z": ("1u", 32),
    **{f"%ctaid.{axis}": (f"t->cta[{k}]", 32) for k, axis in enumerate("xyz")},
    **{f"%nctaid.{axis}": (f"launch->grid[{k}]", 32) for k, axis in enumerate("xyz")},
    "%laneid": ("t->lane", 32),
    "%warpid": ("t->warp", 32),
}
_DECODE = {"f16": "from_f16(u16({}))", "bf16": "from_bf16(u16({}))", "f32": "as_f32(u32({}))", "f64": "as_f64(u64({}))"}
_ENCODE = {"f16": "to_f16({})", "bf16": "to_bf16({})", "f32": "bits(float({}))", "f64": "bits(double({}))"}
PARAMETERS = "parameters"  # the C++ name of the kernel's parameters


def cpp_type(type: Type) -> str:
    """Of the values of a type: bool, u32, s32, float, double; bits are unsigned."""
    if type.kind == "pred":
        return "bool"
    if type.kind == "float":
        return "double" if type.bits == 64 else "float"
    return f"{'s' if type.kind == 'signed' else 'u'}{type.bits}"


def storage(bits: int) -> str:
    """The C++ type of a register."""
    return "bool" if bits == 1 else f"u{bits}"


def vector(operand: str) -> list[str]:
    """The elements of `{a, b}`; of one register, that."""
    return [x.strip() for x in operand.strip("{} ").split(",")]


class Body:
    """What a translated instruction needs to know, and what it adds.

    Attributes:
        variables: C++ type of each variable to declare.
        narrowest: bytes of the narrowest access to "shared" and to "global" memory, at most 4: the grain of shadows.
        shared_bytes: of shared memory that the kernel declares itself; what the launch adds begins at `shared_end`.
        local_bytes: of each thread's own memory.
    """

    def __init__(self, program: Program, addresses: dict[str, int]) -> None:
        self.variables: dict[str, str] = {}
        self.narrowest = {"shared": 4, "global": 4}
        self.shared_bytes = self.local_bytes = 0
        self._scopes: list[dict[str, tuple[str, int]]] = [{}]
        self._symbols = {name: f"{address}ull" for name, address in addresses.items()}
        self._parameters = {p.name: p.offset for p in program.parameters}
        shared = [m for m in program.memory if m.space == "shared"]
        for memory in shared:
            if memory.bytes:
                self.place(memory)
        for memory in shared:
            if not memory.bytes:
                self._symbols[memory.name] = f"{self.shared_end}ull"

    @property
    def shared_end(self) -> int:
        """Where shared memory that the launch sizes begins."""
        return -(-self.shared_bytes // 128) * 128

    def place(self, memory: Memory) -> None:
        """Gives a shared or local variable its address."""
        used = self.shared_bytes if memory.space == "shared" else self.local_bytes
        address = -(-used // memory.align) * memory.align
        self._symbols[memory.name] = f"{address}ull"
        if memory.space == "shared":
            self.shared_bytes = address + memory.bytes
        elif memory.space == "local":
            self.local_bytes = address + memory.bytes
        else:
            raise Unsupported(f"{memory.space} memory inside of a kernel")

    def open_scope(self) -> None:
        """`{`: registers declared from here on may hide others."""
        self._scopes.append({})

    def close_scope(self) -> None:
        """`}`."""
        self._scopes.pop()

    def declare(self, type: Type, names: tuple[str, ...]) -> None:
        """Registers."""
        for name in names:
            cpp = f"r{len(self.variables)}_{re.sub(r'[^A-Za-z0-9_]', '', name)}"
            self.variables[cpp] = storage(type.bits)
            self._scopes[-1][name] = (cpp, type.bits)

    def register(self, name: str) -> tuple[str, int] | None:
        """C++ name and bits of a register that is in scope."""
        return next((scope[name] for scope in reversed(self._scopes) if name in scope), None)

    def _raw(self, operand: str) -> tuple[str, int]:
        """An operand as an unsigned C++ expression, with its bits (0: a literal)."""
        if found := self.register(operand) or SPECIAL_REGISTERS.get(operand):
            return found
        if operand in self._symbols:
            return self._symbols[operand], 64
        if re.fullmatch(r"-?\d\w*", operand):
            return f"{number(operand) % 2**64}ull", 0
        raise Unsupported(f"operand {operand}")

    def read(self, operand: str, type: Type) -> str:
        """The value of an operand, of `cpp_type(type)`."""
        if operand.startswith("!"):
            return f"(!{self.read(operand[1:], type)})"
        raw = self._raw(operand)[0]
        if type.kind == "float":
            return _DECODE[type.name].format(raw)
        return f"{cpp_type(type)}({raw})"

    def write(self, register: str, type: Type, value: str) -> str:
        """A statement that puts a value of a type into a register, extended by sign if it is wider; `_` takes any."""
        if register == "_":
            return f"(void)({value});"
        found = self.register(register)
        if not found:
            raise Unsupported(f"destination {register}")
        name, bits = found
        if type.kind == "float":
            return f"{name} = {_ENCODE[type.name].format(value)};"
        return f"{name} = {storage(bits)}({cpp_type(type)}({value}));"

    def address(self, operand: str) -> str:
        """`[register]`, `[register+4]` or `[symbol]`, as an unsigned C++ expression."""
        match = re.fullmatch(r"\[\s*([%\w$]+)\s*(?:\+\s*(-?\w+))?\s*\]", operand)
        if not match:
            raise Unsupported(f"address {operand}")
        base, bits = self._raw(match[1])
        width = storage(bits or 64)
        return f"u64({width}({base} + {width}({int(match[2] or '0', 0)})))"

    def parameter(self, operand: str) -> str:
        """`[parameter+4]`: a pointer to it."""
        match = re.fullmatch(r"\[\s*([\w$]+)\s*(?:\+\s*(\d+))?\s*\]", operand)
        if not match or match[1] not in self._parameters:
            raise Unsupported(f"parameter {operand}")
        return f"{PARAMETERS} + {self._parameters[match[1]] + int(match[2] or 0)}"

    def note_access(self, space: str | None, bits: int) -> None:
        """That memory of a space (None: any) is accessed in pieces of so many bits."""
        for name in ("shared", "global"):
            if space in (name, None):
                self.narrowest[name] = min(self.narrowest[name], bits // 8)


def label(name: str) -> str:
    """The C++ label of a PTX one."""
    return "L_" + re.sub(r"\W", "_", name)


def bits_of(n: int) -> Type:
    """The type b8, b16, b32 or b64."""
    return TYPES[f"b{n}"]
