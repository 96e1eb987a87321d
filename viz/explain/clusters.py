"""Which boxes a page folds into one: module calls, composite operators, and long runs of operators that belong to no module.

A cluster is one run of operators in the order of execution, so folding it never makes a circle; a module that is called again later
is another cluster. Leaves stand inside the innermost cluster that holds all their users.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tinygrad_cv.graph import Graph, GraphNode

MOST_OPEN = 18  # nodes that a page shows all open
MOST_BOXES = 44  # boxes that a page starts with
RUN = 20  # boxes in one fold of a long run


@dataclass
class _Cluster:
    id: str
    path: tuple[str, ...]
    parent: str | None
    call: int = 0  # how often the same module ran before
    composite: bool = False  # an operator written in others, not a module
    members: list[str] = field(default_factory=list)  # its own nodes
    children: list[str] = field(default_factory=list)
    collapsed: bool = False


def find_clusters(graph: Graph) -> tuple[list[dict[str, Any]], dict[str, str | None]]:
    """The clusters as JSON, outer ones first, and the innermost cluster of every node."""
    found, places = _calls(graph)
    _place_leaves(graph, found, places)
    _drop_needless(graph, found, places)
    _fold_runs(graph, found, places)
    _choose_collapsed(graph, found, places)
    order = {node.id: i for i, node in enumerate(graph)}
    first = {key: min(order[n] for n in _all_members(key, found)) for key in found}
    listed = sorted(found.values(), key=lambda c: (_depth(c.id, found), first[c.id], c.id))
    ids = {cluster.id: f"c{i}" for i, cluster in enumerate(listed)}
    clusters = [
        {
            "id": ids[c.id],
            "label": _label(c),
            "parent": ids[c.parent] if c.parent else None,
            "operators": sum(graph[n].kind == "operator" for n in _all_members(c.id, found)),
            "summary": _operator_names(graph, _all_members(c.id, found)),
            "collapsed": c.collapsed,
        }
        for c in listed
    ]
    return clusters, {node: ids[place] if place else None for node, place in places.items()}


def _label(cluster: _Cluster) -> str:
    """The path without the outermost module, whose name says little; the second use of a module says so."""
    return (".".join(cluster.path[1:]) or cluster.path[0]) + (f" (use {cluster.call + 1})" if cluster.call else "")


def _path(node: GraphNode) -> tuple[str, ...]:
    modules, *composites = node.scope.split("/")
    return (*(modules.split(".") if modules else ()), *composites)


def _calls(graph: Graph) -> tuple[dict[str, _Cluster], dict[str, str | None]]:
    """One cluster for each run of operators in the same module or composite, nested as the scopes are."""
    found: dict[str, _Cluster] = {}
    places: dict[str, str | None] = {}
    stack: list[tuple[tuple[str, int], str]] = []  # ((name, which call of it), cluster id) from the outermost in
    for node in graph:
        if node.kind != "operator":
            continue
        path = _path(node)
        calls = node.calls if len(node.calls) == len(path) else (0,) * len(path)
        modules = len(path) - node.scope.count("/")
        shared = 0
        while shared < min(len(stack), len(path)) and stack[shared][0] == (path[shared], calls[shared]):
            shared += 1
        del stack[shared:]
        for level in range(shared, len(path)):
            parent = stack[-1][1] if stack else None
            cluster = _Cluster(f"k{len(found)}", path[: level + 1], parent, calls[level], level >= modules)
            found[cluster.id] = cluster
            if parent:
                found[parent].children.append(cluster.id)
            stack.append(((path[level], calls[level]), cluster.id))
        places[node.id] = stack[-1][1] if stack else None
        if stack:
            found[stack[-1][1]].members.append(node.id)
    return found, places


def _ancestors(key: str | None, found: dict[str, _Cluster]) -> list[str]:
    """The cluster and those around it, outermost first."""
    line = []
    while key:
        line.append(key)
        key = found[key].parent
    return line[::-1]


def _depth(key: str, found: dict[str, _Cluster]) -> int:
    return len(_ancestors(key, found))


def _place_leaves(graph: Graph, found: dict[str, _Cluster], places: dict[str, str | None]) -> None:
    for node in graph:
        if node.kind == "operator":
            continue
        lines = [_ancestors(places[e.target], found) for e in graph.consumers_of(node.id)]
        inside = None
        if lines and (node.kind == "number" or node.scope):
            for level in zip(*lines, strict=False):
                if len(set(level)) > 1:
                    break
                inside = level[0]
        places[node.id] = inside
        if inside:
            found[inside].members.append(node.id)


def _drop_needless(graph: Graph, found: dict[str, _Cluster], places: dict[str, str | None]) -> None:
    """Clusters that say nothing go: around everything, around a single node, around a single other cluster."""
    operators = sum(n.kind == "operator" for n in graph)
    for key in sorted(found, key=lambda k: -_depth(k, found)):
        cluster = found[key]
        whole = cluster.parent is None and sum(graph[n].kind == "operator" for n in _all_members(key, found)) == operators
        alone = cluster.composite and sum(graph[n].kind == "operator" for n in _all_members(key, found)) == 1
        if whole or alone or len(cluster.members) + len(cluster.children) == 1:
            _dissolve(key, found, places)


def _dissolve(key: str, found: dict[str, _Cluster], places: dict[str, str | None]) -> None:
    cluster = found.pop(key)
    outer = found[cluster.parent] if cluster.parent else None
    if outer:
        outer.children.remove(key)
        outer.children.extend(cluster.children)
        outer.members.extend(cluster.members)
    for child in cluster.children:
        found[child].parent = cluster.parent
    for node in cluster.members:
        places[node] = cluster.parent


def _all_members(key: str, found: dict[str, _Cluster]) -> list[str]:
    members, stack = [], [key]
    while stack:
        cluster = found[stack.pop()]
        members.extend(cluster.members)
        stack.extend(cluster.children)
    return members


def _fold_runs(graph: Graph, found: dict[str, _Cluster], places: dict[str, str | None]) -> None:
    """Where one level holds too many boxes, equal runs of them become clusters of their own, again until they are few."""
    for level in [None, *list(found)]:
        while True:
            items = _level_items(graph, level, found, places)
            if len(items) <= 2 * RUN:
                break
            length = -(-len(items) // -(-len(items) // RUN))  # runs of the same length, RUN at most
            for start in range(0, len(items), length):
                _fold(graph, items[start : start + length], level, found, places)


def _level_items(
    graph: Graph, level: str | None, found: dict[str, _Cluster], places: dict[str, str | None]
) -> list[tuple[str, str]]:
    """("node" or "cluster", id) of the operators and clusters directly in `level`, in the order of execution."""
    order = {node.id: i for i, node in enumerate(graph)}
    items = [(order[n.id], "node", n.id) for n in graph if n.kind == "operator" and places[n.id] == level]
    for key, cluster in found.items():
        if cluster.parent == level:
            items.append((min(order[n] for n in _all_members(key, found) if graph[n].kind == "operator"), "cluster", key))
    return [(kind, key) for _, kind, key in sorted(items)]


def _fold(
    graph: Graph,
    items: list[tuple[str, str]],
    level: str | None,
    found: dict[str, _Cluster],
    places: dict[str, str | None],
) -> None:
    key = f"r{len(found)}"
    while key in found:
        key += "r"
    run = found[key] = _Cluster(key, (f"part {sum(k.startswith('r') for k in found) + 1}",), level)
    if level:
        found[level].children.append(key)
    for kind, item in items:
        if kind == "cluster":
            found[item].parent = key
            run.children.append(item)
            if level:
                found[level].children.remove(item)
        else:
            _move(item, key, found, places)
    inside = set(_all_members(key, found))
    for node in graph:
        if node.kind == "operator" or places[node.id] != level or not graph.consumers_of(node.id):
            continue
        if all(e.target in inside for e in graph.consumers_of(node.id)) and node.kind != "input":
            _move(node.id, key, found, places)


def _move(node: str, key: str, found: dict[str, _Cluster], places: dict[str, str | None]) -> None:
    before = places[node]
    if before:
        found[before].members.remove(node)
    places[node] = key
    found[key].members.append(node)


def _operator_names(graph: Graph, members: list[str]) -> str:
    """What a folded box says of its content: its operators in order, the first few."""
    order = {node.id: i for i, node in enumerate(graph)}
    names = [
        graph[n].op.removesuffix("_with_indices").removesuffix("_with_statistics")
        for n in sorted(members, key=order.__getitem__)
    ]
    names = [n for n in names if n]
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} operators"


def _choose_collapsed(graph: Graph, found: dict[str, _Cluster], places: dict[str, str | None]) -> None:
    """Small graphs open up; others fold layer by layer, and from the innermost out until few boxes are left."""
    if len(graph) <= MOST_OPEN:
        return
    for key, cluster in found.items():
        cluster.collapsed = not any(c in found for c in cluster.children) or key.startswith("r")
    deepest = max((_depth(key, found) for key in found), default=0)
    for depth in range(deepest, 0, -1):
        if _visible(graph, found, places) <= MOST_BOXES:
            return
        for key, cluster in found.items():
            if _depth(key, found) == depth:
                cluster.collapsed = True


def _visible(graph: Graph, found: dict[str, _Cluster], places: dict[str, str | None]) -> int:
    shown = set()
    for node in graph:
        line = _ancestors(places[node.id], found)
        shown.add(next((key for key in line if found[key].collapsed), node.id))
    return len(shown)
