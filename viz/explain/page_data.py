"""A graph as the JSON of a page: nodes with symbols, edges, and every array once. Clusters and steps have modules of their own.

The format is described in README.md beside this file. The same graph gives the same data, byte for byte.
"""

from __future__ import annotations

import linecache
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from tinygrad_cv.graph import Graph, GraphNode

from .arrays import ArrayTable
from .calculus import family
from .clusters import find_clusters
from .steps import Play

FORMAT = 1
MOST_NODES = 5_000

_LETTERS = "abcghkmnpqrstuvwxyz"  # not d (derivatives), e (Euler's number), f, i, j, l, o, L: they would be misread
_NUMBERED = re.compile(r"([^\W\d_]+)(\d+)")  # x1
_SUBSCRIPTED = re.compile(r"([^\W\d_]+)_([^\W_]{1,3})")  # b_1, weight_hh


def page_data(graph: Graph, title: str, note: str = "") -> dict[str, Any]:
    """The JSON of the page. ValueError for a graph of more nodes than a page can play."""
    if len(graph) > MOST_NODES:
        raise ValueError(
            f"explain: {len(graph):,} nodes are more than a page can play step by step (at most {MOST_NODES:,}); explain a part, "
            f"such as one module on its input, or use draw(), which folds"
        )
    arrays = ArrayTable()
    symbols = _symbols(graph)
    clusters, places = find_clusters(graph)
    sources = _LineTexts()
    nodes = [_node(n, symbols[n.id], places[n.id], arrays, sources) for n in graph]
    edges = [
        {
            "id": f"e{i}",
            "source": e.source,
            "target": e.target,
            "position": e.position,
            "argument": e.argument,
            "output": e.output,
            "grad": arrays.add(e.grad),
            "local": arrays.add(e.local, optional=True),
        }
        for i, e in enumerate(graph.edges)
    ]
    loss = _loss_symbol(graph, symbols)
    steps = Play(graph, symbols, loss).steps()
    return {
        "format": FORMAT,
        "title": title,
        "note": note,
        "loss": loss,
        "outputs": list(graph.outputs),
        "nodes": nodes,
        "edges": edges,
        "clusters": clusters,
        "tensors": arrays.encoded(),
        "steps": steps,
    }


def _node(
    node: GraphNode, symbol: tuple[str, str], cluster: str | None, arrays: ArrayTable, sources: _LineTexts
) -> dict[str, Any]:
    several = len(node.shapes) > 1
    return {
        "id": node.id,
        "kind": node.kind,
        "op": node.op,
        "label": display_name(node),
        "name": node.name,
        "symbol": symbol[0],
        "subscript": symbol[1],
        "cluster": cluster,
        "scope": node.scope,
        "shape": list(node.shape),
        "dtype": node.dtype,
        "requires_grad": node.requires_grad,
        "attributes": {k: _plain(v) for k, v in node.attributes.items()},
        "family": family(node.op),
        "value": arrays.add(node.value),
        "grad": arrays.add(node.grad),
        "values": [arrays.add(v) for v in node.values] if several else [],
        "grads": [arrays.add(g) for g in node.grads] if several else [],
        "source": sources.of(node),
    }


def display_name(node: GraphNode) -> str:
    """What a box calls its operator: `max_pool2d` for the one operator of max_pool2d, whatever it is called inside."""
    composite = node.scope.split("/")[-1] if "/" in node.scope else ""
    return composite if composite and composite in node.op else node.op


def _plain(value: Any) -> Any:
    """An attribute as JSON can hold it."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    return re.sub(r" at 0x[0-9a-fA-F]+", "", str(value))


class _LineTexts:
    """The lines of the user's program that made the nodes: file name without folders, number, text."""

    def of(self, node: GraphNode) -> list[Any] | None:
        if node.source is None:
            return None
        path, line, _ = node.source
        return [PurePath(path).name, line, linecache.getline(path, line).strip()[:160]]


def _symbols(graph: Graph) -> dict[str, tuple[str, str]]:
    """(symbol, subscript) of every node: the user's name, or a letter that nothing else is called."""
    given = {n.name for n in graph if n.name}
    letters = _letters({*given, "L"}, sum(n.kind != "number" and not n.name for n in graph))
    endings = Counter((n.name or "").rpartition(".")[2] for n in graph)
    return {n.id: _split_name(n, endings[n.name.rpartition(".")[2]] == 1) if n.name else next(letters) for n in graph}


def _split_name(node: GraphNode, alone: bool) -> tuple[str, str]:
    """A name as symbol and subscript: x1, b_hh, features.0.weight. `alone`: no other dotted name ends the same."""
    name = node.name or ""
    if node.kind == "number":
        return name, ""
    before, dot, last = name.rpartition(".")
    if dot and last and before:
        return _with_subscript(last) if alone else (last, before)
    return _with_subscript(name)


def _with_subscript(name: str) -> tuple[str, str]:
    match = _SUBSCRIPTED.fullmatch(name) or _NUMBERED.fullmatch(name)
    return (match[1], match[2]) if match else (name, "")


def _letters(taken: set[str], wanted: int) -> Iterator[tuple[str, str]]:
    free = [c for c in _LETTERS if c not in taken]
    if wanted <= len(free):
        yield from ((c, "") for c in free)
    number = 0
    while True:
        number += 1
        if f"h{number}" not in taken and f"h_{number}" not in taken:
            yield "h", str(number)


def _loss_symbol(graph: Graph, symbols: dict[str, tuple[str, str]]) -> str:
    """What is differentiated: L, unless the user calls something else so."""
    others = {symbol for key, (symbol, _) in symbols.items() if key not in graph.outputs}
    return next((letter for letter in ("L", "J", "E") if letter not in others), "Loss")
