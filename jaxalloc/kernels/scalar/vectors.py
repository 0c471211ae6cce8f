"""Loops over whole vectors, of which numba makes no good ones: written in the terms of LLVM, whatever the processor.

numba's loops over a few entries end in remainders, and keep sums in memory. Here a panel's columns lie in groups of as
many as a vector has entries, so that there are no remainders, and the sums of a block of products stay in registers for
all rows (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008). LLVM takes a vector apart
where the processor's are shorter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

BYTES = 64  # of a vector
# of a block of products: rows, and vectors of columns. As many sums as fit the registers: 32 of whole vectors, or fewer
LEFT, RIGHT = (8, 2) if llvmlite.binding.get_host_cpu_features().get("avx512f") else (4, 1)

_MAY_FUSE = ("contract",)  # a product and a sum in one operation


def _written(function: Callable[..., Any]) -> Any:
    return intrinsic(function)


def lanes(dtype: Any) -> int:
    """How many numbers a vector holds."""
    return BYTES // np.dtype(dtype).itemsize


@_written
def trailing_zeros(typingctx: Any, word: Any) -> Any:
    """How many of the lowest bits of a uint64 are 0; it must not be 0 itself."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(word), write


class _Vectors:
    """What one builder writes: vectors of the entries of arrays that numba hands over, each in one piece by rows."""

    def __init__(self, context: Any, builder: Any, kind: Any) -> None:
        """Take the kind of array whose entries a vector holds."""
        self._context, self.builder = context, builder
        self.size = lanes(kind.dtype.name)
        self.scalar, self._width = context.get_value_type(kind.dtype), kind.dtype.bitwidth
        self.vector, self.wide = ir.VectorType(self.scalar, self.size), ir.VectorType(ir.DoubleType(), self.size)

    def data(self, kind: Any, array: Any) -> Any:
        """The first entry's place."""
        return self._context.make_array(kind)(self._context, self.builder, array).data

    def lengths(self, kind: Any, array: Any) -> list[Any]:
        """The lengths of the axes."""
        shape = self._context.make_array(kind)(self._context, self.builder, array).shape
        return cgutils.unpack_tuple(self.builder, shape, kind.ndim)

    def at(self, place: Any, index: Any) -> Any:
        """The place so many entries further."""
        return self.builder.gep(place, [index])

    def number(self, value: int) -> Any:
        """A constant index."""
        return self._context.get_constant(types.intp, value)

    def load(self, place: Any, of_doubles: bool = False) -> Any:
        """The vector at a place."""
        loaded = self.builder.load(self._cast(place, of_doubles))
        loaded.align = 8 if of_doubles else self._width // 8
        return loaded

    def store(self, vector: Any, place: Any, of_doubles: bool = False) -> None:
        """Put a vector at a place."""
        self.builder.store(vector, self._cast(place, of_doubles)).align = 8 if of_doubles else self._width // 8

    def _cast(self, place: Any, of_doubles: bool) -> Any:
        return self.builder.bitcast(place, (self.wide if of_doubles else self.vector).as_pointer())

    def all(self, value: Any) -> Any:
        """A vector of one number, which is a double or of the entries' kind."""
        kind = ir.VectorType(value.type, self.size)
        undefined, places = ir.Constant(kind, ir.Undefined), ir.VectorType(ir.IntType(32), self.size)
        first = self.builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(places, [0] * self.size))

    def add_product(self, total: Any, a: Any, b: Any) -> Any:
        """A product added to a total."""
        return self.builder.fadd(total, self.builder.fmul(a, b, flags=_MAY_FUSE), flags=_MAY_FUSE)

    def to_doubles(self, value: Any) -> Any:
        """A vector of doubles."""
        return value if self._width == 64 else self.builder.fpext(value, self.wide)

    def narrowed(self, value: Any) -> Any:
        """A double, or a vector of them, in the precision of the entries."""
        if self._width == 64:
            return value
        return self.builder.fptrunc(value, self.vector if isinstance(value.type, ir.VectorType) else self.scalar)

    def sums(self, count: int, of_doubles: bool = False) -> list[Any]:
        """Places of so many vectors of sums, all 0; LLVM keeps them in registers."""
        kind = self.wide if of_doubles else self.vector
        zero = ir.Constant(kind, [0.0] * self.size)
        return [cgutils.alloca_once_value(self.builder, zero) for _ in range(count)]


@_written
def take_rows(
    typingctx: Any, panel: Any, g: Any, rows: Any, weights: Any, begin: Any, count: Any, scale: Any, sums: Any, z: Any
) -> Any:
    """Copy some rows of a group of columns, each times the root of its weight, and add up their powers.

    Args:
        typingctx: numba's.
        panel: (G, T, L) columns in groups.
        g: number of the group.
        rows: int64 numbers of rows.
        weights: (2, R) float64, those of the rows c and their roots.
        begin: the first of ``rows`` to take.
        count: how many.
        scale: (G L,) float64, of the columns.
        sums: (3, G L) float64; c x, c (scale x)^2 and c (scale x)^3 are added.
        z: (G or more, R, L) written, from its first row on.
    """

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v = _Vectors(context, builder, panel)
        _, group, _, _, first_row, n_rows, *_ = arguments
        place = {name: v.data(signature.args[i], arguments[i]) for name, i in _TAKEN.items()}
        panel_rows, z_rows = v.lengths(panel, arguments[0])[1], v.lengths(z, arguments[8])[1]
        width, columns = v.number(v.size), v.lengths(sums, arguments[7])[1]
        n_weights = v.lengths(weights, arguments[3])[1]
        source = v.at(place["panel"], builder.mul(group, builder.mul(panel_rows, width)))
        target = v.at(place["z"], builder.mul(group, builder.mul(z_rows, width)))
        column = builder.mul(group, width)
        scales, totals = v.load(v.at(place["scale"], column), of_doubles=True), v.sums(3, of_doubles=True)
        with cgutils.for_range(builder, n_rows) as loop:
            r = builder.add(first_row, loop.index)
            row, weight = builder.load(v.at(place["rows"], r)), builder.load(v.at(place["weights"], r))
            root = builder.load(v.at(place["weights"], builder.add(n_weights, r)))
            x = v.load(v.at(source, builder.mul(row, width)))
            v.store(builder.fmul(x, v.all(v.narrowed(root))), v.at(target, builder.mul(loop.index, width)))
            x, c = v.to_doubles(x), v.all(weight)
            scaled = builder.fmul(x, scales)
            square = builder.fmul(builder.fmul(c, scaled), scaled)
            for total, a, b in zip(totals, (c, square, square), (x, None, scaled), strict=True):
                so_far = builder.load(total)
                builder.store(builder.fadd(so_far, a) if b is None else v.add_product(so_far, a, b), total)
        for power, total in enumerate(totals):
            at = v.at(place["sums"], builder.add(builder.mul(v.number(power), columns), column))
            v.store(builder.fadd(v.load(at, of_doubles=True), builder.load(total)), at, of_doubles=True)
        return context.get_dummy_value()

    index = types.intp
    return types.void(panel, index, rows, weights, index, index, scale, sums, z), write


_TAKEN = {"panel": 0, "rows": 2, "weights": 3, "scale": 6, "sums": 7, "z": 8}  # arrays among the arguments


@_written
def add_products(
    typingctx: Any,
    z: Any,
    left: Any,
    right: Any,
    n_rows: Any,
    stage: Any,
    scaling: Any,
    means: Any,
    keep: Any,
    n_assets: Any,
    covariance: Any,
    rest: Any,
) -> Any:
    """Products of a few columns with one or two groups of columns, summed over rows; at the end, covariances.

    Those to the left of the diagonal's groups go to the covariance, whole vectors of entries; the others to ``rest``.

    Args:
        typingctx: numba's.
        z: (G + `RIGHT` - 1 or more, R, L) from `take_rows`; what is past the last group may hold anything.
        left: number of the block of `LEFT` columns.
        right: number of the first group.
        n_rows: rows of ``z`` to sum over.
        stage: (2,) bool, whether earlier rows' sums are added, and whether these rows are the last.
        scaling: (2,) float64, sum of the weights n, and factor f.
        means: (L (G + `RIGHT` - 1),) float64; sums s become f (s - n m m').
        keep: likewise 1, or 0 where a column's covariances are 0.
        n_assets: N, columns that are no padding.
        covariance: (A, A), A at least N.
        rest: (B, `LEFT`, `RIGHT` L) of each block.
    """
    arrays = {"z": 0, "stage": 4, "scaling": 5, "means": 6, "keep": 7, "covariance": 9, "rest": 10}

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v = _Vectors(context, builder, z)
        _, block, group, rows = arguments[:4]
        place = {name: v.data(signature.args[i], arguments[i]) for name, i in arrays.items()}
        width, z_rows = v.number(v.size), v.lengths(z, arguments[0])[1]
        first = builder.mul(block, v.number(LEFT))  # number of the first column to the left
        own_group, of_group = builder.sdiv(first, width), builder.mul(z_rows, width)
        groups = [builder.add(group, v.number(r)) for r in range(RIGHT)]
        source = v.at(place["z"], builder.add(builder.mul(own_group, of_group), builder.srem(first, width)))
        others = [v.at(place["z"], builder.mul(each, of_group)) for each in groups]
        sums = [v.sums(RIGHT) for _ in range(LEFT)]
        with cgutils.for_range(builder, rows) as loop:
            at = builder.mul(loop.index, width)
            vectors, entries = [v.load(v.at(other, at)) for other in others], v.at(source, at)
            for m in range(LEFT):
                entry = v.all(builder.load(v.at(entries, v.number(m))))
                for r in range(RIGHT):
                    builder.store(v.add_product(builder.load(sums[m][r]), entry, vectors[r]), sums[m][r])
        columns = v.lengths(covariance, arguments[9])[1]

        def target(m: int, r: int) -> Any:
            """Where sums go: entries of the covariance, or those of the rest."""
            row = builder.add(first, v.number(m))
            is_left = builder.and_(
                builder.icmp_signed("<", groups[r], own_group), builder.icmp_signed("<", row, arguments[8])
            )
            entries = builder.add(builder.mul(row, columns), builder.mul(groups[r], width))
            others = builder.add(builder.mul(block, v.number(LEFT * RIGHT)), v.number(m * RIGHT + r))
            return builder.select(
                is_left,
                v.at(place["covariance"], entries),
                v.at(place["rest"], builder.mul(others, width)),
            )

        into = [[target(m, r) for r in range(RIGHT)] for m in range(LEFT)]
        flags = [builder.load(v.at(place["stage"], v.number(i))) for i in range(2)]
        adds, is_last = (builder.icmp_unsigned("!=", flag, flag.type(0)) for flag in flags)
        with builder.if_then(adds):
            for m in range(LEFT):
                for r in range(RIGHT):
                    builder.store(builder.fadd(builder.load(sums[m][r]), v.load(into[m][r])), sums[m][r])
        with builder.if_then(is_last):
            _scale(v, place, first, groups, sums)
        for m in range(LEFT):
            for r in range(RIGHT):
                v.store(builder.load(sums[m][r]), into[m][r])
        return context.get_dummy_value()

    index = types.intp
    taken = (z, index, index, index, stage, scaling, means, keep, index, covariance, rest)
    return types.void(*taken), write


def _scale(v: _Vectors, place: dict[str, Any], first: Any, groups: list[Any], sums: list[list[Any]]) -> None:
    """Make covariances of sums of products."""
    builder = v.builder
    n, factor = (builder.load(v.at(place["scaling"], v.number(i))) for i in range(2))
    zero = ir.Constant(v.wide, [0.0] * v.size)
    at = [builder.mul(group, v.number(v.size)) for group in groups]
    means = [v.load(v.at(place["means"], each), of_doubles=True) for each in at]
    kept = [builder.fcmp_ordered("!=", v.load(v.at(place["keep"], each), of_doubles=True), zero) for each in at]
    for m, own in enumerate(sums):
        row = builder.add(first, v.number(m))
        shift = v.all(builder.fmul(n, builder.load(v.at(place["means"], row))))
        is_kept = v.all(builder.fcmp_ordered("!=", builder.load(v.at(place["keep"], row)), ir.DoubleType()(0)))
        for r, total in enumerate(own):
            centred = builder.fsub(v.to_doubles(builder.load(total)), builder.fmul(shift, means[r]))
            value = builder.select(builder.and_(kept[r], is_kept), builder.fmul(v.all(factor), centred), zero)
            builder.store(v.narrowed(value), total)
