"""What XLA made of a program: its kernels, its loops, and the bytes that they move, read from the compiled text.

A kernel is whatever a GPU starts by itself: a fusion, a product, a copy. A loop has kernels of its body and of its
condition, which start anew with each turn. A kernel moves at least what it reads and writes: each operand once, of an
operand that it only looks up the parts that it looks up, of an array that it changes in place the part that changes.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

# start nothing: they name, combine or contain values
_NAMES = {"parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "opt-barrier"}
_CALLS = {"while", "conditional", "call"}
_ENDS = ("-done", "-update")  # of what began elsewhere
_LOOKS_UP = {"dynamic-slice", "slice", "gather"}
_MOVES = {*_NAMES, *_LOOKS_UP, "fusion", "broadcast", "copy", "transpose", "reshape", "concatenate", "pad", "iota"}
_MOVES |= {"dynamic-update-slice", "reverse"}
_WIDTHS = {"pred": 1, "s4": 1, "u4": 1, "bf16": 2, "token": 0}  # bytes; other names end with their bits
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%([\w.\-]+) = (.*)$")
_HEAD = re.compile(r"^(ENTRY )?%([\w.\-]+) \(.*\{$")


class Instruction(NamedTuple):
    """One line of a computation.

    Attributes:
        name: within its computation.
        kind: what it does.
        shape: of its result, as XLA writes it.
        operands: their names.
        rest: everything after the operands.
    """

    name: str
    kind: str
    shape: str
    operands: tuple[str, ...]
    rest: str

    def of(self, attribute: str) -> str:
        """The computation that an attribute names."""
        found = re.search(rf"\b{attribute}=%([\w.\-]+)", self.rest)
        assert found is not None, f"{self.name} has no {attribute}"
        return found[1]


class Computation(NamedTuple):
    """Instructions by name, in order; the last one of ``root`` is the result."""

    instructions: dict[str, Instruction]
    root: str


class Kernel(NamedTuple):
    """What is started once.

    Attributes:
        is_copy: whether it only copies.
        bytes: read and written.
        operations: on numbers.
    """

    is_copy: bool
    bytes: int
    operations: int


class Loop(NamedTuple):
    """A loop.

    Attributes:
        path: where in the program's source it is, as JAX names it.
        turns: of each time that it is begun, where XLA knows them.
        body: what each turn starts.
        condition: what each turn starts, and one time more.
    """

    path: str
    turns: int | None
    body: Starts
    condition: Starts


class Starts(NamedTuple):
    """What a computation starts, but for the turns of its loops: of a choice everything that it may start."""

    kernels: tuple[Kernel, ...]
    loops: tuple[Loop, ...]


def bytes_of(shape: str) -> int:
    """Bytes of an array, or of all arrays of a tuple.

    Example:
        >>> bytes_of("(f32[20,512]{1,0}, pred[512]{0}, s32[])")
        41476
    """
    return sum(_elements(sizes) * _width(dtype) for dtype, sizes in _SHAPE.findall(shape))


def starts(text: str) -> Starts:
    """What a program starts, from the text of its compiled module."""
    computations, entry = _parsed(text)
    return _Reader(computations).starts(entry)


def all_loops(found: Starts) -> Iterator[Loop]:
    """Yield every loop, those inside others after them."""
    for loop in found.loops:
        yield loop
        yield from all_loops(loop.body)


def _elements(sizes: str) -> int:
    return math.prod(int(size) for size in sizes.split(",") if size)


def _width(dtype: str) -> int:
    return _WIDTHS[dtype] if dtype in _WIDTHS else int(re.sub(r"\D", "", dtype)) // 8


def _parsed(text: str) -> tuple[dict[str, Computation], str]:
    """All computations by name, and the name of the one that is the program."""
    found: dict[str, Computation] = {}
    entry, name, root, lines = "", "", "", {}
    for line in text.splitlines():
        if (head := _HEAD.match(line)) is not None:
            name, root, lines = head[2], "", {}
            entry = name if head[1] else entry
        elif line == "}":
            found[name] = Computation(instructions=lines, root=root)
        elif (parts := _INSTRUCTION.match(line)) is not None:
            lines[parts[2]] = _instruction(parts[2], parts[3])
            root = parts[2] if parts[1] else root
    return found, entry


def _instruction(name: str, text: str) -> Instruction:
    text = re.sub(r"/\*.*?\*/", "", text)
    end = _closing(text, 0) + 1 if text[0] == "(" else text.index(" ")
    opening = text.index("(", end)
    closing = _closing(text, opening)
    return Instruction(
        name=name,
        kind=text[end:opening].strip(),
        shape=text[:end],
        operands=tuple(re.findall(r"%([\w.\-]+)", text[opening:closing])),
        rest=text[closing + 1 :],
    )


def _closing(text: str, opening: int) -> int:
    """The place of the bracket that closes the one at ``opening``."""
    depth = 0
    for place in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
    raise ValueError(f"a bracket is open: {text}")


class _Reader:
    """Reads the computations of a module."""

    def __init__(self, computations: dict[str, Computation]) -> None:
        self._computations = computations
        self.starts = functools.cache(self._starts)

    def _starts(self, name: str) -> Starts:
        kernels: list[Kernel] = []
        loops: list[Loop] = []
        computation = self._computations[name]
        for instruction in computation.instructions.values():
            if instruction.kind == "while":
                loops.append(self._loop(instruction))
            elif instruction.kind in _CALLS:
                for called in re.findall(r"%([\w.\-]+)", instruction.rest.split("metadata=")[0]):
                    if called in self._computations:
                        some = self.starts(called)
                        kernels += some.kernels
                        loops += some.loops
            elif instruction.kind not in _NAMES and not instruction.kind.endswith(_ENDS):
                kernels.append(self._kernel(computation, instruction))
        return Starts(kernels=tuple(kernels), loops=tuple(loops))

    def _loop(self, instruction: Instruction) -> Loop:
        turns = re.search(r'"known_trip_count":\{"n":"(\d+)"', instruction.rest)
        path = re.search(r'op_name="([^"]*)"', instruction.rest)
        return Loop(
            path="" if path is None else path[1],
            turns=None if turns is None else int(turns[1]),
            body=self.starts(instruction.of("body")),
            condition=self.starts(instruction.of("condition")),
        )

    def _kernel(self, computation: Computation, instruction: Instruction) -> Kernel:
        if instruction.kind == "fusion":
            return self._fusion(self._computations[instruction.of("calls")])
        # by itself: a computation of this instruction alone
        values = {
            name: computation.instructions[name]._replace(kind="parameter", operands=())
            for name in instruction.operands
            if name in computation.instructions
        }
        return self._fusion(Computation(instructions=values | {instruction.name: instruction}, root=instruction.name))

    def _fusion(self, fused: Computation) -> Kernel:
        lines, wanted = fused.instructions, _wanted(fused)
        read = sum(wanted[name] * _width_of(line) for name, line in lines.items() if line.kind == "parameter")
        kinds = {line.kind for line in lines.values()} - _NAMES
        return Kernel(
            is_copy=kinds <= {"copy", "copy-start", "transpose"},
            bytes=round(read) + _written(fused, fused.root),
            operations=round(sum(self._operations(fused, line, wanted[line.name]) for line in lines.values())),
        )

    def _operations(self, fused: Computation, line: Instruction, wanted: float) -> float:
        if line.kind == "fusion":
            inner = self._computations[line.of("calls")]
            of = _wanted(inner)
            return sum(self._operations(inner, each, of[each.name]) for each in inner.instructions.values())
        if line.kind in _MOVES:
            return 0
        if line.kind not in ("dot", "reduce"):
            return wanted
        first = fused.instructions[line.operands[0]]
        if line.kind == "reduce":
            return wanted * _size(first) / max(1, _size(line))
        summed = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", line.rest)
        along = [int(axis) for axis in summed[1].split(",") if axis] if summed else []
        sizes = _SHAPE.findall(first.shape)[0][1].split(",")
        return 2 * wanted * math.prod(int(sizes[axis]) for axis in along)


def _size(line: Instruction) -> int:
    """Elements of a result, of a tuple those of the first array."""
    return next((_elements(sizes) for _, sizes in _SHAPE.findall(line.shape)), 0)


def _width_of(line: Instruction) -> int:
    return next((_width(dtype) for dtype, _ in _SHAPE.findall(line.shape)), 0)


def _wanted(fused: Computation) -> dict[str, float]:
    """How many elements of each value are wanted: of what is looked up, or kept in place, not all are."""
    lines = fused.instructions
    found: dict[str, float] = dict.fromkeys(lines, 0)
    results = [fused.root]
    while results:  # a tuple's, too, and in place only what changes
        line = lines[results.pop()]
        if line.kind in ("tuple", "bitcast"):
            results += line.operands
        found[line.name] = _size(lines[line.operands[1]] if line.kind == "dynamic-update-slice" else line)
    for user in reversed(lines.values()):  # users come after what they use
        for place, name in enumerate(user.operands):
            if name in lines:
                some = _of_operand(user, found[user.name], place, lines)
                found[name] = min(found[name] + some, _size(lines[name]))
    return found


def _of_operand(user: Instruction, wanted: float, place: int, lines: dict[str, Instruction]) -> float:
    """How many elements of an operand are wanted for so many of its user's."""
    whole = _size(lines[user.operands[place]])
    if user.kind == "dynamic-update-slice":
        changed = _size(lines[user.operands[1]])
        return max(0, wanted - changed) if place == 0 else min(whole, wanted)
    if user.kind in ("reduce", "reduce-window") and wanted:
        return whole * min(1, wanted / max(1, _size(user)))
    if user.kind in ("dot", "scatter", "sort", "fusion", "custom-call"):
        return whole
    return min(whole, wanted)


def _written(fused: Computation, name: str) -> int:
    """Bytes that are written of a result: all of it, or what changes in it."""
    line = fused.instructions[name]
    if line.kind in ("tuple", "bitcast"):
        return sum(_written(fused, operand) for operand in line.operands)
    changed = fused.instructions[line.operands[1]] if line.kind == "dynamic-update-slice" else line
    return bytes_of(changed.shape)
