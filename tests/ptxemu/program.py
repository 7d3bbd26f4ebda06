"""PTX as Triton emits it, read into a typed program: the ISA's section 4, "Syntax", as far as kernels need it."""

import builtins
import re
from typing import NamedTuple


class Unsupported(Exception):
    """The emulator does not know this; the message names it."""


class Type(NamedTuple):
    """A type of PTX. `kind` is one of "pred", "bits", "unsigned", "signed", "float", "packed"."""

    name: str
    bits: int
    kind: str
    element: str = ""  # of a packed type


TYPES = {
    t.name: t
    for t in (
        Type("pred", 1, "pred"),
        *(Type(f"b{n}", n, "bits") for n in (8, 16, 32, 64)),
        *(Type(f"u{n}", n, "unsigned") for n in (8, 16, 32, 64)),
        *(Type(f"s{n}", n, "signed") for n in (8, 16, 32, 64)),
        *(Type(name, n, "float") for name, n in (("f16", 16), ("bf16", 16), ("f32", 32), ("f64", 64))),
        *(Type(name, 2 * n, "packed", name[:-2]) for name, n in (("f16x2", 16), ("bf16x2", 16), ("f32x2", 32))),
    )
}


class Source(NamedTuple):
    """A line of the Triton kernel."""

    file: str
    line: int


class Instruction(NamedTuple):
    """`@guard opcode.modifiers operands;`. The operands of a vector `{a, b}` are one operand."""

    line: int  # of the PTX
    text: str
    source: Source | None
    guard: str  # "", "%p1" or "!%p1"
    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple[str, ...]

    @property
    def type(self) -> Type:
        """The type that ends the opcode."""
        if not self.modifiers or self.modifiers[-1] not in TYPES:
            raise Unsupported(f"{self.name} without a type")
        return TYPES[self.modifiers[-1]]

    @property
    def name(self) -> str:
        """The opcode with its modifiers."""
        return ".".join((self.opcode, *self.modifiers))

    def one_of(self, *names: str) -> str | None:
        """The first modifier that is one of these."""
        return next((m for m in self.modifiers if m in names), None)


class Label(NamedTuple):
    """`name:`."""

    name: str


class Scope(NamedTuple):
    """`{` or `}`."""

    opens: bool


class Registers(NamedTuple):
    """`.reg .type names;`."""

    type: Type
    names: tuple[str, ...]


class Memory(NamedTuple):
    """A variable in a space: global, const, shared or local. `bytes` is 0 for shared memory that the launch sizes."""

    space: str
    name: str
    align: int
    bytes: int
    value: "builtins.bytes" = b""


class Parameter(NamedTuple):
    """A parameter of the kernel, `bytes` long at `offset`."""

    name: str
    offset: int
    bytes: int


Statement = Instruction | Label | Scope | Registers | Memory


class Program(NamedTuple):
    """One kernel with the data of its module."""

    name: str
    parameters: list[Parameter]
    memory: list[Memory]  # of the module
    body: list[Statement]

    @property
    def instructions(self) -> list[Instruction]:
        """In order; the index of one is its `pc` in findings."""
        return [s for s in self.body if isinstance(s, Instruction)]


def parse(text: str) -> Program:
    """The first kernel of a PTX module.

    Raises:
        Unsupported: there is no kernel, or a statement is not known.
    """
    text = re.split(r"^\s*\.section\b", text, maxsplit=1, flags=re.MULTILINE)[0]  # what follows is for debuggers
    text = re.sub(r"//[^\n]*", "", text)
    files = {int(n): name for n, name in re.findall(r'\.file\s+(\d+)\s+"([^"]*)"', text)}
    entry = re.search(r"\.entry\s+([\w$]+)\s*\(", text)
    if not entry:
        raise Unsupported("PTX without an .entry")
    end_of_parameters = text.index(")", entry.end())
    begin = text.index("{", end_of_parameters) + 1
    return Program(
        name=entry[1],
        parameters=_parameters(text[entry.end() : end_of_parameters]),
        memory=[m for s in text[: entry.start()].split(";") if (m := _memory(" ".join(s.split())))],
        body=_body(text[begin : _closing_brace(text, begin)], text[:begin].count("\n") + 1, files),
    )


def _closing_brace(text: str, begin: int) -> int:
    depth = 1
    for brace in re.compile("[{}]").finditer(text, begin):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return brace.start()
    raise Unsupported("PTX with a kernel that does not end")


_PARAMETER = re.compile(
    r"\.param(?:\s+\.align\s+(?P<align>\d+))?\s+\.(?P<type>\w+)"
    r"(?:\s+\.ptr(?:\s+\.\w+)?(?:\s+\.align\s+\d+)?)?\s+(?P<name>[\w$]+)(?:\s*\[(?P<count>\d+)\])?"
)


def _parameters(text: str) -> list[Parameter]:
    found: list[Parameter] = []
    end = 0
    for part in filter(None, (" ".join(p.split()) for p in text.split(","))):
        match = _PARAMETER.fullmatch(part)
        if not match or match["type"] not in TYPES:
            raise Unsupported(f"parameter {part!r}")
        element = TYPES[match["type"]].bits // 8
        align, size = int(match["align"] or element), element * int(match["count"] or 1)
        offset = -(-end // align) * align
        found.append(Parameter(match["name"], offset, size))
        end = offset + size
    return found


_MEMORY = re.compile(
    r"\.(?P<space>global|const|shared|local)\s+\.align\s+(?P<align>\d+)\s+\.(?P<type>\w+)\s+(?P<name>[\w$]+)"
    r"\s*(?:\[(?P<count>\d*)\])?\s*(?:=\s*(?P<value>.+))?$"
)


def _memory(statement: str) -> Memory | None:
    match = _MEMORY.search(statement)
    if not match:
        return None
    if match["type"] not in TYPES:
        raise Unsupported(f"memory of type {match['type']}")
    element = TYPES[match["type"]].bits // 8
    count = 1 if match["count"] is None else int(match["count"] or 0)
    numbers = [number(x.strip()) for x in (match["value"] or "").strip("{} ").split(",") if x.strip()]
    value = b"".join((x % 2 ** (8 * element)).to_bytes(element, "little") for x in numbers)
    return Memory(
        match["space"], match["name"], int(match["align"]), count * element, value.ljust(count * element, b"\0")
    )


def number(text: str) -> int:
    """A literal: a decimal or hexadecimal integer, or the bits of a float (0f3F800000, 0d...)."""
    if re.fullmatch(r"0[fF][0-9a-fA-F]{8}|0[dD][0-9a-fA-F]{16}", text):
        return int(text[2:], 16)
    return int(text.rstrip("U"), 0)


# The pieces of a body: what a statement is made of, and what ends one.
_PIECE = re.compile(r"(?P<line>\n)|(?P<end>;)|(?P<brace>[{}])|(?P<label>:(?!:))|(?P<rest>[^\n;{}:]+|::)")


def _body(text: str, line: int, files: dict[int, str]) -> list[Statement]:
    """Statements, with the line and the last `.loc` before each."""
    found: list[Statement] = []
    source: Source | None = None
    statement, begin = "", line
    for piece in _PIECE.finditer(text):
        kind, value = piece.lastgroup, piece[0]
        if not statement.strip():
            statement, begin = "", line
        if kind == "line":
            line += 1
            if loc := re.match(r"\s*\.loc\s+(\d+)\s+(\d+)", statement):
                source = Source(files.get(int(loc[1]), "?"), int(loc[2]))
                statement = ""
            statement += " "
        elif kind == "end":
            if made := _statement(" ".join(statement.split()), begin, source):
                found.append(made)
            statement = ""
        elif kind == "brace" and not statement:
            found.append(Scope(opens=value == "{"))
        elif kind == "label" and re.fullmatch(r"\s*[\w$]+\s*", statement):
            found.append(Label(statement.strip()))
            statement = ""
        else:  # also the braces of a vector
            statement += value
    return found


_INSTRUCTION = re.compile(
    r"(?:@(?P<guard>!?%?[\w$]+)\s+)?(?P<opcode>[a-z]\w*)(?P<modifiers>[\w.:]*)\s*(?P<operands>.*)"
)


def _statement(text: str, line: int, source: Source | None) -> Statement | None:
    if not text or re.match(r"\.(pragma|loc|branchtargets)\b", text):
        return None
    if registers := re.fullmatch(r"\.reg\s+\.(\w+)\s+(.*)", text):
        if registers[1] not in TYPES:
            raise Unsupported(f"PTX line {line}: registers of type {registers[1]}")
        return Registers(TYPES[registers[1]], tuple(_register_names(registers[2])))
    if memory := _memory(text):
        return memory
    match = _INSTRUCTION.fullmatch(text)
    if not match:
        raise Unsupported(f"PTX line {line}: {text!r}")
    modifiers = tuple(match["modifiers"].replace("::", "_").split(".")[1:])
    operands = tuple(_split(match["operands"]))
    return Instruction(line, text, source, match["guard"] or "", match["opcode"], modifiers, operands)


def _register_names(text: str) -> list[str]:
    names: list[str] = []
    for name in (n.strip() for n in text.split(",")):
        many = re.fullmatch(r"(%?[\w$]+)<(\d+)>", name)
        names += [f"{many[1]}{i}" for i in range(int(many[2]))] if many else [name]
    return names


def _split(operands: str) -> list[str]:
    """At commas outside of brackets."""
    return [o.strip() for o in re.split(r",(?![^{\[(]*[}\])])", operands) if o.strip()]
