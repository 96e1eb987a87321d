"""Where a graph repeats itself: runs of equal blocks, one after the other, that a picture can show once with a count.

A block is a module with everything in it, or a few operators in a row. Blocks are equal when they hold the same operators with
the same attributes, shapes and dtypes, wired to each other in the same way; they make a run when each takes the result of the one
before (or the same outside values) where the next one does. The first may take anything: that is where the run begins.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tinygrad_cv.graph import Graph, GraphEdge, GraphNode

Step = tuple[str, int]  # a module or composite operator, and which call of it
Path = tuple[Step, ...]

_LONGEST_PERIOD = 64  # operators or modules in a block
_FEWEST_BLOCKS = 3


@dataclass
class Item:
    """Operators [first, stop) in order of execution: one operator, or what one call of a module ran."""

    first: int
    stop: int
    path: Path
    is_group: bool


@dataclass
class Run:
    """`count` equal blocks of `size` operators each, from operator `first` on. blocks: the paths of the items of each block."""

    first: int
    size: int
    count: int
    parent: Path
    blocks: list[list[Path]]
    of_groups: bool

    @property
    def stop(self) -> int:
        """One past the last operator."""
        return self.first + self.size * self.count

    def block_of(self, position: int) -> int:
        """Which block the operator at `position` is in; -1 outside of the run."""
        return (position - self.first) // self.size if self.first <= position < self.stop else -1


@dataclass
class Operators:
    """The operators of a graph in order of execution, with their paths, and where each argument comes from."""

    nodes: list[GraphNode]
    paths: list[Path]
    index: dict[str, int]
    graph: Graph

    @classmethod
    def of(cls, graph: Graph, path: Callable[[GraphNode], Path]) -> Operators:
        """The operators of `graph`."""
        nodes = [n for n in graph if n.kind == "operator"]
        return cls(nodes, [path(n) for n in nodes], {n.id: i for i, n in enumerate(nodes)}, graph)

    def inputs_of(self, i: int) -> tuple[GraphEdge, ...]:
        """The arguments of operator `i`."""
        return self.graph.inputs_of(self.nodes[i].id)

    @cached_property
    def signatures(self) -> _Signatures:
        """What operators and modules are, as numbers."""
        return _Signatures(self)

    @cached_property
    def results(self) -> frozenset[str]:
        """The ids of the graph's outputs."""
        return frozenset(self.graph.outputs)

    @cached_property
    def items(self) -> dict[Path, list[Item]]:
        """See `children`."""
        return children(self)


def children(operators: Operators) -> dict[Path, list[Item]]:
    """The items directly inside every path, in order. A path that execution leaves and comes back to has no entry: it is no block."""
    found: dict[Path, list[Item]] = {(): []}
    open_items: list[Item] = []
    closed: set[Path] = set()
    broken: set[Path] = set()
    for i, path in enumerate(operators.paths):
        while open_items and path[: len(open_items[-1].path)] != open_items[-1].path:
            done = open_items.pop()
            closed.add(done.path)
        for level in range(len(open_items) + 1, len(path) + 1):
            item = Item(i, i + 1, path[:level], True)
            if item.path in closed:
                broken.add(item.path)
            open_items.append(item)
            found.setdefault(path[: level - 1], []).append(item)
            found.setdefault(item.path, [])
        found[path].append(Item(i, i + 1, path, False))
        for item in open_items:
            item.stop = i + 1
    for path in broken:
        found.pop(path, None)
    return found


class _Signatures:
    """Small integers for what items are: equal integers, equal structure."""

    def __init__(self, operators: Operators) -> None:
        self.operators = operators
        self.numbers: dict[Hashable, int] = {}
        self.known: dict[tuple[int, int, int], tuple[int, int]] = {}
        self.texts: dict[int, str] = {}
        self.users: dict[str, tuple[int, int]] = {}

    def number(self, key: Hashable) -> int:
        return self.numbers.setdefault(key, len(self.numbers))

    def attributes(self, i: int) -> str:
        """The settings of operator `i` as text."""
        if i not in self.texts:
            given = self.operators.nodes[i].attributes
            self.texts[i] = repr(given) if given else ""
        return self.texts[i]

    def users_of(self, leaf: str) -> tuple[int, int]:
        """The first and the last operator that take a leaf. Found once: one leaf may enter every operator."""
        if leaf not in self.users:
            edges = self.operators.graph.consumers_of(leaf)
            self.users[leaf] = self.operators.index[edges[0].target], self.operators.index[edges[-1].target]
        return self.users[leaf]

    def of(self, item: Item) -> tuple[int, int]:
        """(what the item is in itself, the same with where it takes its outside values from)."""
        key = (item.first, item.stop, len(item.path))
        if key not in self.known:
            self.known[key] = self._of(item)
        return self.known[key]

    def _of(self, item: Item) -> tuple[int, int]:
        operators = self.operators
        inside: list[Any] = []
        outside: list[Any] = []
        depth = len(item.path)
        for i in range(item.first, item.stop):
            node = operators.nodes[i]
            inputs: list[Any] = []
            for edge in operators.inputs_of(i):
                source = operators.index.get(edge.source)
                if source is not None and source >= item.first:
                    inputs.append((edge.position, edge.output, i - source))
                elif source is not None:
                    inputs.append((edge.position, edge.shape, edge.dtype))
                    outside.append((i - item.first, edge.position, edge.output, i - source))
                else:
                    leaf = operators.graph[edge.source]
                    if leaf.kind == "number":
                        inputs.append((edge.position, leaf.name))
                        continue
                    inputs.append((edge.position, edge.shape, edge.dtype))
                    first_user, last_user = self.users_of(leaf.id)
                    own = item.first <= first_user and last_user < item.stop
                    outside.append((i - item.first, edge.position, leaf.kind if own else leaf.id))
            names = tuple(step[0] for step in operators.paths[i][depth:])
            inside.append((node.op, self.attributes(i), node.shapes, node.dtypes, names, tuple(inputs)))
        content = self.number(tuple(inside))
        return content, self.number((content, tuple(outside)))


def find_runs(operators: Operators, *, of_operators: bool, is_open: Callable[[Path], bool]) -> list[Run]:
    """The runs of at least three blocks, outermost first; inside of a run they are looked for in its first block only.

    Values that leave a run before its end leave every block alike. of_operators: whether operators in a row count as blocks, or
    modules alone. is_open: whether to look inside a path.
    """
    inside, signatures = operators.items, operators.signatures
    runs: list[Run] = []
    waiting: list[Path] = [()]
    while waiting:
        parent = waiting.pop()
        items = inside.get(parent)
        if items is None:
            waiting += [p for p in inside if len(p) == len(parent) + 1 and p[:-1] == parent and is_open(p)]
            continue
        found = _runs_among(items, signatures, parent, of_operators)
        runs += found
        dropped = [(r.first + r.size, r.stop) for r in found]
        waiting += [
            item.path
            for item in items
            if item.is_group and is_open(item.path) and not any(a <= item.first < b for a, b in dropped)
        ]
    return runs


def _runs_among(items: Sequence[Item], signatures: _Signatures, parent: Path, of_operators: bool) -> list[Run]:
    if len(items) < _FEWEST_BLOCKS or not (of_operators or sum(item.is_group for item in items) >= _FEWEST_BLOCKS):
        return []
    numbers = [signatures.of(item) for item in items]
    content, full = np.array([n[0] for n in numbers]), np.array([n[1] for n in numbers])
    reach = {}
    begins = np.zeros(len(items), bool)  # where some period has enough blocks
    for period in range(1, min(_LONGEST_PERIOD, len(items) // _FEWEST_BLOCKS) + 1):
        agreeing = _agreement(full, period)
        begins[:-period] |= agreeing[period:] >= (_FEWEST_BLOCKS - 2) * period
        reach[period] = agreeing
    groups_only = [item.is_group for item in items]
    runs = []
    i = 0
    while i <= len(items) - _FEWEST_BLOCKS:
        if not begins[i]:
            i += max(int(begins[i:].argmax()), 1)
            continue
        best = (0, 0, 0)
        for period, agreeing in reach.items():
            if i + _FEWEST_BLOCKS * period > len(items):
                break
            count = 2 + int(agreeing[i + period]) // period
            worth = (count - 1) * period
            if count < _FEWEST_BLOCKS or worth <= best[0]:
                continue
            if not (of_operators or all(groups_only[i : i + period])):
                continue
            if np.array_equal(content[i : i + period], content[i + period : i + 2 * period]) and _same_wiring(
                signatures, items, i, period
            ):
                best = (worth, period, count)
        _, period, count = best
        count = _untapped(signatures.operators, items, i, period, count) if period else 0
        if count < _FEWEST_BLOCKS:
            i += 1
            continue
        first, second = items[i], items[i + period]
        blocks = [[item.path for item in items[i + b * period : i + (b + 1) * period]] for b in range(min(count, 2))]
        blocks.append([item.path for item in items[i + (count - 1) * period : i + count * period]])
        runs.append(Run(first.first, second.first - first.first, count, parent, blocks, all(groups_only[i : i + period])))
        i += count * period
    return runs


def _untapped(operators: Operators, items: Sequence[Item], start: int, period: int, count: int) -> int:
    """How many of the blocks still make a run when all but the last give values to the next, and the same others, alone."""
    first, size = items[start].first, items[start + period].first - items[start].first
    expected: set[tuple[int, str]] | None = None
    for block in range(count - 1):
        begin = first + block * size
        taps = {
            (i - begin, edge.target)
            for i in range(begin, begin + size)
            for edge in operators.graph.consumers_of(operators.nodes[i].id)
            if operators.index[edge.target] >= begin + 2 * size
        }
        taps |= {(i - begin, "result") for i in range(begin, begin + size) if operators.nodes[i].id in operators.results}
        if expected is not None and taps != expected:
            return block + 1
        expected = taps
    return count


def _agreement(numbers: np.ndarray, period: int) -> np.ndarray:
    """For every position, how many from there on are equal to the one a period later."""
    unequal = np.flatnonzero(numbers[:-period] != numbers[period:])
    stops = np.append(unequal, len(numbers) - period)
    positions = np.arange(len(numbers))
    found = stops[np.minimum(np.searchsorted(stops, positions), len(stops) - 1)] - positions
    return np.maximum(found, 0)


def _same_wiring(signatures: _Signatures, items: Sequence[Item], start: int, period: int) -> bool:
    """Whether the items of the first block take from each other what those of the second do, and these nothing from further back."""
    operators = signatures.operators

    def links(first: int, stop: int) -> list[tuple[int, int, int, int]]:
        found = []
        for i in range(first, stop):
            for edge in operators.inputs_of(i):
                source = operators.index.get(edge.source)
                if source is not None and source >= first:
                    found.append((i - first, edge.position, edge.output, i - source))
        return found

    first, second, stop = items[start].first, items[start + period].first, items[start + 2 * period - 1].stop
    sources = [operators.index.get(e.source, first) for i in range(second, stop) for e in operators.inputs_of(i)]
    return min(sources, default=first) >= first and links(first, second) == links(second, stop)


__all__ = ["Item", "Operators", "Path", "Run", "Step", "children", "find_runs"]
