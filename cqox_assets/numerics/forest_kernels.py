"""Compiled kernels that draw half-samples and grow the trees of a causal forest. Imported inside functions only.

Rows are given in an order of their own content, covariates as bin codes 0..63. A node is one integer: the child on the
left (the other is beside it), the covariate and the highest code that goes left, packed by `_pack`; a leaf points to
itself, so that a walk may go on.
"""

from typing import Any, NamedTuple

import numpy as np

from cqox_assets.numerics.compiled import compiled

BINS = 64
MOMENTS = 4
_GOLDEN, _MIX1, _MIX2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_27, _30, _31 = np.uint64(27), np.uint64(30), np.uint64(31)
_FEW, _MANY = 100, 400


class Sample(NamedTuple):
    """What trees draw from: bin codes (n, p); centred treatment, outcome and weight (n, 3); blocks of rows.

    `starts` and `stops` (blocks,) are empty where every row is a block; `largest` is the number of rows of a block.
    """

    codes: np.ndarray
    facts: np.ndarray
    line: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    largest: int


class Rows(NamedTuple):
    """What a tree learns from: bin codes (n, p), centred treatment, outcome and weight (n,)."""

    codes: np.ndarray
    t: np.ndarray
    y: np.ndarray
    w: np.ndarray


class Rule(NamedTuple):
    """Rows that a tree is grown on, covariates tried, rows a leaf keeps, least share on either side of a cut."""

    rows: int
    tries: int
    least: int
    share: float


class Trees(NamedTuple):
    """Nodes (..., capacity), their weighted means of t, y, ty and tt (..., capacity, 4), depth of each tree (...)."""

    nodes: np.ndarray
    leaves: np.ndarray
    levels: np.ndarray


@compiled
def _draw(state: np.ndarray) -> Any:
    """Return the next number of the splitmix64 generator, whose state is one unsigned integer."""
    state[0] += _GOLDEN
    z = state[0]
    z = (z ^ (z >> _30)) * _MIX1
    z = (z ^ (z >> _27)) * _MIX2
    return z ^ (z >> _31)


@compiled
def _below(state: np.ndarray, k: int) -> Any:
    return np.int64(_draw(state) % np.uint64(k))


@compiled
def start_of(seed: int, part: int) -> Any:
    """Return a generator of its own for each part of the work, so that threads do not change the answer."""
    state = np.empty(1, np.uint64)
    state[0] = np.uint64(seed)
    state[0] = _draw(state) ^ (np.uint64(part + 1) * _MIX1)
    return state


@compiled
def hash_rows(x: np.ndarray) -> Any:
    """Return one number per row of the bits of x, shape (n, p) of uint64; equal rows have equal numbers."""
    out = np.empty(len(x), np.uint64)
    state = np.empty(1, np.uint64)
    for i in range(len(x)):
        state[0] = _GOLDEN
        for j in range(x.shape[1]):
            state[0] ^= x[i, j]
            state[0] = _draw(state)
        out[i] = state[0]
    return out


@compiled
def halve(blocks: int, state: np.ndarray) -> Any:
    """Shuffle block numbers; the first half of the result is one half-sample, the rest is the other."""
    order = np.arange(blocks).astype(np.int32)
    for i in range(blocks // 2):
        j = i + _below(state, blocks - i)
        kept = order[i]
        order[i] = order[j]
        order[j] = kept
    return order


@compiled
def _pack(left: int, covariate: int, code: int) -> Any:
    return (np.int64(left) << 32) | (np.int64(covariate) << 8) | np.int64(code)


@compiled
def _part(rows: np.ndarray, first: int, last: int, codes: np.ndarray, covariate: int, code: int) -> Any:
    """Bring rows[first:last] with codes up to `code` to the front; return where the others start."""
    i, j = first, last - 1
    while i <= j:
        if codes[rows[i], covariate] <= code:
            i += 1
        else:
            kept = rows[i]
            rows[i] = rows[j]
            rows[j] = kept
            j -= 1
    return i


@compiled
def _sums(data: Any, rows: np.ndarray, out: np.ndarray) -> Any:
    """Sum w, wt, wy, wty and wtt over rows into `out`."""
    out[:] = 0.0
    for r in rows:
        t, y, w = data.t[r], data.y[r], data.w[r]
        out[0] += w
        out[1] += w * t
        out[2] += w * y
        out[3] += w * t * y
        out[4] += w * t * t


@compiled
def _score(data: Any, rows: np.ndarray, held: np.ndarray, slope: np.ndarray, size: np.ndarray) -> Any:
    """Fill each row's part of the derivative and curvature of the node's loss; return the node's curvature.

    The loss is sum w (y - c - theta t)^2 at its minimum, so the slopes of a node sum to zero.
    """
    _sums(data, rows, held)
    if held[0] <= 0:
        return 0.0
    centre, level = held[1] / held[0], held[2] / held[0]
    total = held[4] - held[0] * centre * centre
    if total <= 1e-12 * held[4]:
        return 0.0
    theta = (held[3] - held[0] * centre * level) / total
    for i in range(len(rows)):
        r = rows[i]
        u = data.t[r] - centre
        slope[i] = data.w[r] * u * (data.y[r] - level - theta * u)
        size[i] = data.w[r] * u * u
    return total


@compiled
def _tabulate(codes: np.ndarray, rows: np.ndarray, tried: np.ndarray, shift: int, slope: np.ndarray,
              size: np.ndarray, table: np.ndarray) -> Any:  # fmt: skip
    """Sum slopes, curvatures and rows by code of every tried covariate into `table`, shape (tried, codes, 3)."""
    for k in range(len(tried)):
        for c in range(BINS >> shift):
            table[k, c, 0] = 0.0
            table[k, c, 1] = 0.0
            table[k, c, 2] = 0.0
    for i in range(len(rows)):
        r = rows[i]
        for k in range(len(tried)):
            c = codes[r, tried[k]] >> shift
            table[k, c, 0] += slope[i]
            table[k, c, 1] += size[i]
            table[k, c, 2] += 1.0


@compiled
def _best_cut(table: np.ndarray, bins: int, rows: int, total: float, least: int, share: float) -> Any:
    """Return how much the best cut of one covariate lowers the loss, and its code; -1 if none is admissible."""
    best, cut = 0.0, -1
    a, b, count = 0.0, 0.0, 0.0
    for c in range(bins - 1):
        if table[c, 2] == 0.0:
            continue
        a += table[c, 0]
        b += table[c, 1]
        count += table[c, 2]
        if count < least or b <= share * total:
            continue
        if rows - count < least or total - b <= share * total:
            break
        gain = a * a / b + a * a / (total - b)
        if gain > best * (1 + 1e-10):
            best, cut = gain, c
    return best, cut


@compiled
def _push(stack: np.ndarray, at: int, node: int, e0: int, e1: int, s0: int, s1: int, depth: int) -> Any:
    stack[at, 0], stack[at, 1], stack[at, 2] = node, e0, e1
    stack[at, 3], stack[at, 4], stack[at, 5] = s0, s1, depth


@compiled
def _shuffle_first(order: np.ndarray, count: int, state: np.ndarray) -> Any:
    for k in range(count):
        j = k + _below(state, len(order) - k)
        kept = order[j]
        order[j] = order[k]
        order[k] = kept


@compiled
def _choose(data: Any, rows: np.ndarray, rule: Any, total: float, order: np.ndarray, slope: np.ndarray,
            size: np.ndarray, table: np.ndarray) -> Any:  # fmt: skip
    """Return covariate and code of the cut that lowers the loss the most; -1 if there is none.

    Small nodes are cut at every second or fourth code: it costs little and saves most of the scan.
    """
    n = len(rows)
    shift = 2 if n < _FEW else (1 if n < _MANY else 0)
    _tabulate(data.codes, rows, order[: rule.tries], shift, slope, size, table)
    best, chosen, code = 0.0, -1, 0
    for k in range(rule.tries):
        gain, cut = _best_cut(table[k], BINS >> shift, n, total, max(rule.least, int(rule.share * n)), rule.share)
        if gain > best * (1 + 1e-10):
            best, chosen, code = gain, order[k], ((cut + 1) << shift) - 1
    return chosen, code


@compiled
def _grow(data: Any, estimating: int, rule: Any, state: np.ndarray, nodes: np.ndarray, leaves: np.ndarray,
          used: np.ndarray) -> Any:  # fmt: skip
    """Grow one tree: the first `estimating` rows fill the leaves, the others choose the cuts. Return its depth.

    `leaves` receives the weighted means of t, y, ty and tt of every node; `used` counts the cuts by depth and
    covariate.
    """
    n, p = data.codes.shape
    rows, order = np.arange(n).astype(np.int32), np.arange(p)
    slope, size, held, table = np.empty(n), np.empty(n), np.empty(5), np.empty((rule.tries, BINS, 3))
    stack = np.empty((64 + len(nodes), 6), np.int64)
    _push(stack, 0, 0, 0, estimating, estimating, n, 0)
    waiting, made, deepest = 1, 1, 0
    while waiting > 0:
        waiting -= 1
        node, e0, e1, s0, s1, depth = stack[waiting]
        _sums(data, rows[e0:e1], held)
        nodes[node] = _pack(node, 0, 255)
        for m in range(MOMENTS):
            leaves[node, m] = held[m + 1] / held[0] if held[0] > 0 else 0.0
        if s1 - s0 < 2 * rule.least or e1 - e0 < 2 * rule.least or made + 2 > len(nodes):
            continue
        total = _score(data, rows[s0:s1], held, slope, size)
        if total <= 0:
            continue
        _shuffle_first(order, rule.tries, state)
        chosen, code = _choose(data, rows[s0:s1], rule, total, order, slope, size, table)
        if chosen < 0:
            continue
        middle = _part(rows, e0, e1, data.codes, chosen, code)
        if middle - e0 < rule.least or e1 - middle < rule.least:
            continue
        between = _part(rows, s0, s1, data.codes, chosen, code)
        nodes[node] = _pack(made, chosen, code)
        if depth < len(used):
            used[depth, chosen] += 1
        _push(stack, waiting, made, e0, middle, s0, between, depth + 1)
        _push(stack, waiting + 1, made + 1, middle, e1, between, s1, depth + 1)
        waiting += 2
        made += 2
        deepest = max(deepest, depth + 1)
    return deepest


@compiled
def _draw_blocks(sample: Any, half: np.ndarray, wanted: int, state: np.ndarray, rows: np.ndarray) -> Any:
    """Draw whole blocks until there are `wanted` rows; return how many rows fill leaves, and how many there are."""
    n, drawn, estimating = 0, 0, -1
    while n < wanted and drawn < len(half):
        j = drawn + _below(state, len(half) - drawn)
        b = half[j]
        half[j] = half[drawn]
        half[drawn] = b
        drawn += 1
        if len(sample.starts) == 0:
            rows[n] = b
            n += 1
        else:
            for i in range(sample.starts[b], sample.stops[b]):
                rows[n] = i
                n += 1
        if estimating < 0 and 2 * n >= wanted:
            estimating = n
    return (n if estimating < 0 else estimating), n


@compiled
def _rows_in(sample: Any, half: np.ndarray) -> Any:
    if len(sample.starts) == 0:
        return len(half)
    total = 0
    for b in half:
        total += sample.stops[b] - sample.starts[b]
    return total


@compiled
def grow_trees(sample: Any, coef: np.ndarray, half: np.ndarray, rule: Any, state: np.ndarray, trees: Any,
               used: np.ndarray) -> Any:  # fmt: skip
    """Grow the trees of one half-sample.

    Parameters
    ----------
    sample : Sample
    coef : ndarray of shape (q + 1,)
        Effect along the line, constant first, that is taken off the outcome beforehand; empty is none.
    half : ndarray of int
        Blocks of the half-sample; they are shuffled.
    rule : Rule
    state : ndarray of shape (1,)
    trees : Trees
        Filled, one after the other.
    used : ndarray of int, shape (depths, p)
    """
    p, wanted = sample.codes.shape[1], min(_rows_in(sample, half), rule.rows)
    room = wanted + sample.largest
    rows = np.empty(room, np.int64)
    codes, t, y, w = np.empty((room, p), np.uint8), np.empty(room), np.empty(room), np.empty(room)
    for tree in range(len(trees.nodes)):
        estimating, n = _draw_blocks(sample, half, wanted, state, rows)
        for k in range(n):
            i = rows[k]
            codes[k] = sample.codes[i]
            t[k], y[k], w[k] = sample.facts[i, 0], sample.facts[i, 1], sample.facts[i, 2]
            if len(coef):
                effect = coef[0]
                for j in range(sample.line.shape[1]):
                    effect += coef[j + 1] * sample.line[i, j]
                y[k] -= t[k] * effect
        part = Rows(codes[:n], t[:n], y[:n], w[:n])
        trees.levels[tree] = _grow(part, estimating, rule, state, trees.nodes[tree], trees.leaves[tree], used)
