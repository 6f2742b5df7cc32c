"""Compiled kernels of the honest causal forest: drawing, growing, walking. Imported inside functions only.

Rows are given in an order of their own content, covariates as bin codes 0..63. A node is one integer: the child on the
left (the other is beside it), the covariate and the highest code that goes left, packed by `_pack`; a leaf points to
itself, so that a walk may go on.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

BINS = 64
MOMENTS = 4
_GOLDEN, _MIX1, _MIX2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_27, _30, _31 = np.uint64(27), np.uint64(30), np.uint64(31)
_BLOCK = 64
_DEPTHS = 4
_FEW, _MANY = 100, 400


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a kernel and keep it on disk; where no folder can be written, it is compiled anew in each process."""
    try:
        return njit(cache=True, nogil=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:
        return njit(nogil=True)(function)  # type: ignore[no-any-return]


@_compiled
def _draw(state: np.ndarray) -> Any:
    """Return the next number of the splitmix64 generator, whose state is one unsigned integer."""
    state[0] += _GOLDEN
    z = state[0]
    z = (z ^ (z >> _30)) * _MIX1
    z = (z ^ (z >> _27)) * _MIX2
    return z ^ (z >> _31)


@_compiled
def _below(state: np.ndarray, k: int) -> Any:
    return np.int64(_draw(state) % np.uint64(k))


@_compiled
def start_of(seed: int, part: int) -> Any:
    """Return a generator of its own for each part of the work, so that threads do not change the answer."""
    state = np.empty(1, np.uint64)
    state[0] = np.uint64(seed)
    state[0] = _draw(state) ^ (np.uint64(part + 1) * _MIX1)
    return state


@_compiled
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


@_compiled
def halve(blocks: int, state: np.ndarray) -> Any:
    """Shuffle block numbers; the first half of the result is one half-sample, the rest is the other."""
    order = np.arange(blocks).astype(np.int32)
    for i in range(blocks // 2):
        j = i + _below(state, blocks - i)
        kept = order[i]
        order[i] = order[j]
        order[j] = kept
    return order


@_compiled
def _pack(left: int, covariate: int, code: int) -> Any:
    return (np.int64(left) << 32) | (np.int64(covariate) << 8) | np.int64(code)


@_compiled
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


@_compiled
def _sums(rows: np.ndarray, first: int, last: int, t: np.ndarray, y: np.ndarray, w: np.ndarray, out: np.ndarray) -> Any:
    """Sum w, wt, wy, wty and wtt over rows[first:last] into `out`."""
    out[:] = 0.0
    for i in range(first, last):
        r = rows[i]
        wt = w[r] * t[r]
        out[0] += w[r]
        out[1] += wt
        out[2] += w[r] * y[r]
        out[3] += wt * y[r]
        out[4] += wt * t[r]


@_compiled
def _score(rows: np.ndarray, first: int, last: int, t: np.ndarray, y: np.ndarray, w: np.ndarray, held: np.ndarray,
           slope: np.ndarray, size: np.ndarray) -> Any:  # fmt: skip
    """Fill each row's part of the derivative and curvature of the node's loss; return the node's curvature.

    The loss is sum w (y - c - theta t)^2 at its minimum, so the slopes of a node sum to zero.
    """
    _sums(rows, first, last, t, y, w, held)
    if held[0] <= 0:
        return 0.0
    centre, level = held[1] / held[0], held[2] / held[0]
    total = held[4] - held[0] * centre * centre
    if total <= 1e-12 * held[4]:
        return 0.0
    theta = (held[3] - held[0] * centre * level) / total
    for i in range(first, last):
        r = rows[i]
        u = t[r] - centre
        slope[i] = w[r] * u * (y[r] - level - theta * u)
        size[i] = w[r] * u * u
    return total


@_compiled
def _tabulate(rows: np.ndarray, first: int, last: int, codes: np.ndarray, tried: np.ndarray, shift: int,
              slope: np.ndarray, size: np.ndarray, table: np.ndarray) -> Any:  # fmt: skip
    """Sum slopes, curvatures and rows by code of every tried covariate into `table`, shape (tried, codes, 3)."""
    bins = BINS >> shift
    for k in range(len(tried)):
        for c in range(bins):
            table[k, c, 0] = 0.0
            table[k, c, 1] = 0.0
            table[k, c, 2] = 0.0
    for i in range(first, last):
        r = rows[i]
        for k in range(len(tried)):
            c = codes[r, tried[k]] >> shift
            table[k, c, 0] += slope[i]
            table[k, c, 1] += size[i]
            table[k, c, 2] += 1.0


@_compiled
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


@_compiled
def _push(stack: np.ndarray, at: int, node: int, e0: int, e1: int, s0: int, s1: int, depth: int) -> Any:
    stack[at, 0], stack[at, 1], stack[at, 2] = node, e0, e1
    stack[at, 3], stack[at, 4], stack[at, 5] = s0, s1, depth


@_compiled
def _grow(codes: np.ndarray, t: np.ndarray, y: np.ndarray, w: np.ndarray, estimating: int, tries: int, least: int,
          share: float, state: np.ndarray, nodes: np.ndarray, leaves: np.ndarray, used: np.ndarray) -> Any:  # fmt: skip
    """Grow one tree: the first `estimating` rows fill the leaves, the others choose the cuts.

    `leaves` receives the weighted means of t, y, ty and tt of every node; `used` counts the cuts by depth and
    covariate. Returns the depth.
    """
    n, p = codes.shape
    rows = np.arange(n).astype(np.int32)
    slope, size, held, table = np.empty(n), np.empty(n), np.empty(5), np.empty((tries, BINS, 3))
    order = np.arange(p)
    stack = np.empty((64 + len(nodes), 6), np.int64)
    _push(stack, 0, 0, 0, estimating, estimating, n, 0)
    waiting, made, deepest = 1, 1, 0
    while waiting > 0:
        waiting -= 1
        node, e0, e1, s0, s1, depth = stack[waiting]
        _sums(rows, e0, e1, t, y, w, held)
        nodes[node] = _pack(node, 0, 255)
        for m in range(MOMENTS):
            leaves[node, m] = held[m + 1] / held[0] if held[0] > 0 else 0.0
        if s1 - s0 < 2 * least or e1 - e0 < 2 * least or made + 2 > len(nodes):
            continue
        total = _score(rows, s0, s1, t, y, w, held, slope, size)
        if total <= 0:
            continue
        for k in range(tries):
            j = k + _below(state, p - k)
            kept = order[j]
            order[j] = order[k]
            order[k] = kept
        # Small nodes are cut at every second or fourth code: it costs little and saves most of the scan.
        shift = 2 if s1 - s0 < _FEW else (1 if s1 - s0 < _MANY else 0)
        _tabulate(rows, s0, s1, codes, order[:tries], shift, slope, size, table)
        best, chosen, code = 0.0, -1, 0
        for k in range(tries):
            gain, cut = _best_cut(table[k], BINS >> shift, s1 - s0, total, max(least, int(share * (s1 - s0))), share)
            if gain > best * (1 + 1e-10):
                best, chosen, code = gain, order[k], ((cut + 1) << shift) - 1
        if chosen < 0:
            continue
        middle = _part(rows, e0, e1, codes, chosen, code)
        if middle - e0 < least or e1 - middle < least:
            continue
        between = _part(rows, s0, s1, codes, chosen, code)
        nodes[node] = _pack(made, chosen, code)
        if depth < _DEPTHS:
            used[depth, chosen] += 1
        _push(stack, waiting, made, e0, middle, s0, between, depth + 1)
        _push(stack, waiting + 1, made + 1, middle, e1, between, s1, depth + 1)
        waiting += 2
        made += 2
        deepest = max(deepest, depth + 1)
    return deepest


@_compiled
def grow_trees(codes: np.ndarray, t: np.ndarray, y: np.ndarray, w: np.ndarray, line: np.ndarray, coef: np.ndarray,
               half: np.ndarray, starts: np.ndarray, stops: np.ndarray, wanted: int, tries: int, least: int,
               share: float, state: np.ndarray, nodes: np.ndarray, leaves: np.ndarray, levels: np.ndarray, used: np.ndarray) -> Any:  # fmt: skip
    """Grow the trees of one half-sample, each on `wanted` rows drawn by whole blocks.

    `coef` (constant first) is the effect along `line` that is taken off the outcome beforehand; empty is none.
    """
    p, room = codes.shape[1], wanted
    for b in half:
        room = max(room, wanted + stops[b] - starts[b])
    rows = np.empty(room, np.int64)
    part, tt, yy, ww = np.empty((room, p), np.uint8), np.empty(room), np.empty(room), np.empty(room)
    for tree in range(len(nodes)):
        n, drawn, estimating = 0, 0, -1
        while n < wanted and drawn < len(half):
            j = drawn + _below(state, len(half) - drawn)
            b = half[j]
            half[j] = half[drawn]
            half[drawn] = b
            drawn += 1
            for i in range(starts[b], stops[b]):
                rows[n] = i
                n += 1
            if estimating < 0 and 2 * n >= wanted:
                estimating = n
        for k in range(n):
            i = rows[k]
            part[k] = codes[i]
            tt[k], yy[k], ww[k] = t[i], y[i], w[i]
            if len(coef):
                effect = coef[0]
                for j in range(line.shape[1]):
                    effect += coef[j + 1] * line[i, j]
                yy[k] -= tt[k] * effect
        estimating = n if estimating < 0 else estimating
        levels[tree] = _grow(part[:n], tt, yy, ww, estimating, tries, least, share, state, nodes[tree],
                             leaves[tree], used)  # fmt: skip


@_compiled
def _leaves(codes: np.ndarray, nodes: np.ndarray, unseen: np.ndarray, tree: int, levels: int, place: np.ndarray) -> Any:
    """Walk one tree per row, level by level so that rows do not wait for one another; `place` receives the leaves."""
    place[: len(codes)] = 0
    for _ in range(levels):
        for r in range(len(codes)):
            packed = nodes[unseen[r], tree, place[r]]
            place[r] = (packed >> 32) + (codes[r, (packed >> 8) & 0xFFFFFF] > (packed & 0xFF))


@_compiled
def average(codes: np.ndarray, unseen: np.ndarray, nodes: np.ndarray, leaves: np.ndarray, levels: np.ndarray,
            theta: np.ndarray, noise: np.ndarray, parts: np.ndarray) -> Any:  # fmt: skip
    """Average the trees of the half-samples that did not see a row.

    Parameters
    ----------
    codes : ndarray of uint8, shape (n, p)
    unseen : ndarray of uint8, shape (n, pairs)
        Which half-sample of each pair (0 or 1) a row is not in.
    nodes : ndarray of int64, shape (pairs, 2, trees, capacity)
    leaves : ndarray of shape (pairs, 2, trees, capacity, 4)
    levels : ndarray of int, shape (pairs, 2, trees)
        Depth of each tree.
    theta, noise : ndarray of shape (n,)
        Filled: the effect; the variance of a half-sample's mean that comes from its number of trees.
    parts : ndarray of shape (n, pairs)
        Filled: by how much each half-sample's mean moves the effect, to first order.
    """
    pairs, trees = nodes.shape[0], nodes.shape[2]
    found = np.empty((pairs, trees, MOMENTS, _BLOCK))
    mean, side, place = np.empty((MOMENTS, _BLOCK)), np.empty(_BLOCK, np.uint8), np.empty(_BLOCK, np.int64)
    curved, level, slope = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
    for begin in range(0, len(codes), _BLOCK):
        n = min(_BLOCK, len(codes) - begin)
        here = codes[begin : begin + n]
        mean[:] = 0.0
        for k in range(pairs):
            for r in range(n):
                side[r] = unseen[begin + r, k]
            for tree in range(trees):
                _leaves(here, nodes[k], side, tree, max(levels[k, 0, tree], levels[k, 1, tree]), place)
                for r in range(n):
                    leaf = leaves[k, side[r], tree, place[r]]
                    for m in range(MOMENTS):
                        found[k, tree, m, r] = leaf[m]
                for m in range(MOMENTS):
                    for r in range(n):
                        mean[m, r] += found[k, tree, m, r]
        mean /= pairs * trees
        _solve(mean, n, curved, slope, level)
        for r in range(n):
            theta[begin + r], noise[begin + r] = slope[r], 0.0
        for k in range(pairs):
            _spread(found[k], mean, n, curved, slope, level, noise[begin:], parts[begin:, k])
        for r in range(n):
            noise[begin + r] /= pairs * trees * max(trees - 1, 1)


@_compiled
def _solve(mean: np.ndarray, n: int, curved: np.ndarray, slope: np.ndarray, level: np.ndarray) -> Any:
    """Regress y on t by the means of t, y, ty and tt; `curved` is 1 over the variance of t, 0 where there is none."""
    for r in range(n):
        variance = mean[3, r] - mean[0, r] * mean[0, r]
        if variance > 1e-12 * mean[3, r]:
            curved[r] = 1 / variance
            slope[r] = (mean[2, r] - mean[0, r] * mean[1, r]) / variance
            level[r] = mean[1, r] - slope[r] * mean[0, r]
        else:
            curved[r], slope[r], level[r] = 0.0, 0.0, 0.0


@_compiled
def _spread(found: np.ndarray, mean: np.ndarray, n: int, curved: np.ndarray, slope: np.ndarray, level: np.ndarray,
            noise: np.ndarray, part: np.ndarray) -> Any:  # fmt: skip
    """Fill by how much the trees of one half-sample move the slope, and add their sum of squares within it."""
    trees = len(found)
    total, squares = np.zeros(_BLOCK), np.zeros(_BLOCK)
    for tree in range(trees):
        for r in range(n):
            apart = found[tree, 1, r] - slope[r] * found[tree, 0, r] - level[r]
            s = found[tree, 2, r] - slope[r] * found[tree, 3, r] - level[r] * found[tree, 0, r] - mean[0, r] * apart
            total[r] += s
            squares[r] += s * s
    for r in range(n):
        part[r] = total[r] / trees * curved[r]
        noise[r] += (squares[r] - total[r] * total[r] / trees) * curved[r] * curved[r]
