"""Which boxes a picture has: nodes, modules folded at a depth, runs of equal blocks drawn once. Forward only; see backward.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from tinygrad_cv.graph import Graph, GraphEdge, GraphNode

from .dot import Arrow, Box, Cluster, Drawing
from .labels import array_text, edge_label, edge_tooltip, node_lines, node_tooltip, type_text
from .runs import Operators, Path, Run, find_runs


@dataclass(frozen=True)
class View:
    """What is shown. depth: levels of modules that are open (None: all). modules, operators: whether runs of them are drawn once."""

    depth: int | None = None
    modules: bool = False
    operators: bool = False
    values: bool = False
    grads: bool = False
    pieces: int = 0  # operators outside of modules, that many a box


def node_path(node: GraphNode) -> Path:
    """Where a node lives: the modules it is in, outermost first, then the composite operators (with a slash) that it is part of."""
    modules, *composites = node.scope.split("/")
    names = [*(modules.split(".") if modules else ()), *(f"/{c}" for c in composites)]
    return tuple(zip(names, node.calls or (0,) * len(names), strict=True))


def lay_out(operators: Operators, view: View, most: int | None = None) -> Drawing | None:
    """The boxes, arrows and frames of the forward graph; None where that would be more than `most` boxes."""
    if view.pieces:
        operators = Operators.of(operators.graph, _in_pieces(operators.graph, view.pieces))
    layout = _Layout(operators, view)
    if most is not None and layout.least() > most:
        return None
    drawing = layout.drawing()
    return None if most is not None and len(drawing.boxes) > most else drawing


class _Layout:
    def __init__(self, operators: Operators, view: View) -> None:
        self.operators, self.graph, self.view = operators, operators.graph, view
        self.runs: list[Run] = []
        if view.modules or view.operators:
            self.runs = find_runs(self.operators, of_operators=view.operators, is_open=self._is_open)
        self.runs_of: dict[int, list[tuple[int, Run]]] = {}  # by operator, outermost first
        for number, run in enumerate(self.runs):
            for i in range(run.first, run.stop):
                self.runs_of.setdefault(i, []).append((number, run))
        self.named_runs = {r.blocks[0][0]: r for r in self.runs if len(r.blocks[0]) == 1 and r.of_groups}
        self.position = self.operators.index
        self.first_of = self._representatives()
        self.sizes = Counter(p[:k] for p in self.operators.paths for k in range(1, len(p) + 1))
        self.calls = Counter((p[:-1], p[-1][0]) for p in self.sizes)
        self.framed = self._with_parameters()
        self.boxes: dict[str, Box] = {}
        self.clusters: dict[str, Cluster] = {}
        self.cluster_ids: dict[object, str] = {}
        self.group_ids: dict[Path, str] = {}
        self.where: dict[str, str] = {}  # the box of every node

    def least(self) -> int:
        """A lower bound of the number of boxes, found quickly."""
        drawn = np.flatnonzero(self.first_of == np.arange(len(self.first_of)))
        return len({self._group(self.operators.paths[i]) or i for i in drawn.tolist()})

    # What is open, what is drawn ------------------------------------------------------------------------------------------

    def _group(self, path: Path) -> Path | None:
        """The path that is drawn as one box in place of what is inside, None if all of it is open."""
        depth = self.view.depth
        if depth is None or not path:
            return None
        levels = max(depth - 1, 0) if path[0][0].startswith("/") else depth
        return path[: levels + 1] if len(path) > levels else None

    def _is_open(self, path: Path) -> bool:
        return self._group(path) is None

    def _representatives(self) -> np.ndarray:
        """For every operator, the one that is drawn in its place: itself, or its like in the first block of its run."""
        first_of = np.arange(len(self.operators.nodes))
        for run in self.runs:  # outermost first
            inside = np.arange(run.first, run.stop)
            first_of[run.first : run.stop] = first_of[run.first + (inside - run.first) % run.size]
        while not np.array_equal(first_of, first_of[first_of]):  # inner runs lie in the first block of an outer one
            first_of = first_of[first_of]
        return first_of

    def _with_parameters(self) -> set[Path]:
        """Modules that have leaves of their own: their frame is drawn even around a single operator."""
        found = set()
        for leaf in self.graph:
            if leaf.kind in ("parameter", "input"):
                users = [self.operators.paths[self.position[e.target]] for e in self.graph.consumers_of(leaf.id)]
                if users and leaf.scope:
                    found.update(_shared(users)[:k] for k in range(1, len(_shared(users)) + 1))
        return found

    def _frames(self, path: Path, position: int) -> tuple[tuple[str, ...], str]:
        """The clusters around operator `position` at `path`, and the name of a composite operator that is it and nothing else."""
        place: list[str] = []
        shown_as = ""
        for level in range(len(path) + 1):
            for number, run in self.runs_of.get(position, ()):
                if run.parent == path[:level] and len(run.blocks[0]) > 1:
                    place.append(self._cluster(("run", number), _times(run.count), run.count))
            if level == len(path):
                break
            prefix = path[: level + 1]
            composite = prefix[-1][0].startswith("/")
            if self.sizes[prefix] == 1 and (composite or prefix not in self.framed):
                if composite:
                    shown_as = shown_as or prefix[-1][0][1:]
                continue
            run = self._run_of(prefix)
            name = self._name(prefix, run)
            place.append(self._cluster(prefix, f"{name}: {_times(run.count)}" if run else name, run.count if run else 1))
        return tuple(place), shown_as

    def _cluster(self, key: object, label: str, count: int = 1) -> str:
        if key not in self.cluster_ids:
            self.cluster_ids[key] = f"{len(self.cluster_ids)}"
            self.clusters[self.cluster_ids[key]] = Cluster(label, count)
        return self.cluster_ids[key]

    def _run_of(self, path: Path) -> Run | None:
        """The run whose every block is one module, of which `path` is the first."""
        return self.named_runs.get(path)

    def _name(self, path: Path, run: Run | None, whole: bool = False) -> str:
        """The name of a module or composite operator, with which call it is where there are several, or of a run of them."""
        names = [step[0].removeprefix("/") for step in path]
        text = ".".join(names[1:]) if whole and len(names) > 1 and path[-1][0][0] != "/" else names[-1]
        calls = self.calls[path[:-1], path[-1][0]]
        if run is not None:
            last = run.blocks[-1][0][-1]
            if last[0] != path[-1][0]:
                return f"{text} … {last[0].removeprefix('/')}"
            return f"{text}, calls {path[-1][1] + 1} to {last[1] + 1}"
        return f"{text} (call {path[-1][1] + 1} of {calls})" if calls > 1 else text

    # Boxes ----------------------------------------------------------------------------------------------------------------

    def drawing(self) -> Drawing:
        for i, node in enumerate(self.operators.nodes):
            if self.first_of[i] == i:
                self._leaves(node, i)
                self._operator(node, i)
        for i in np.flatnonzero(self.first_of != np.arange(len(self.first_of))).tolist():
            self._alike(i, int(self.first_of[i]))
        for leaf in (self.graph[o] for o in self.graph.outputs):
            if leaf.kind != "operator" and leaf.id not in self.where:  # an output that nothing computed
                self._box(leaf, (), "")
        self._finish_groups()
        arrows = self._arrows()
        outputs = list(dict.fromkeys(self.where[output] for output in self.graph.outputs))
        for output in outputs:
            self.boxes[output].is_output = True
        return Drawing(list(self.boxes.values()), arrows, self.clusters, outputs)

    def _alike(self, i: int, shown: int) -> None:
        """Operator `i` and the leaves that it alone uses stand in the boxes of the like of them, of operator `shown`."""
        nodes = self.operators.nodes
        pairs = [(nodes[i].id, nodes[shown].id)]
        there = {e.position: e.source for e in self.operators.inputs_of(shown)}
        pairs += [(e.source, there[e.position]) for e in self.operators.inputs_of(i) if self.graph[e.source].kind != "operator"]
        for node, like in pairs:
            if node not in self.where:
                self.where[node] = self.where[like]
                self.boxes[self.where[like]].others.append(node)

    def _box(self, node: GraphNode, place: tuple[str, ...], shown_as: str, count: int = 1) -> None:
        box = Box(node.id, node.kind, node_lines(node, shown_as), place, [node.id], tooltip=node_tooltip(node), count=count)
        if count > 1:
            box.lines.append(_times(count))
        else:
            box.value, box.grad = self._numbers(node)
        self.boxes[node.id] = box
        self.where[node.id] = node.id

    def _numbers(self, node: GraphNode) -> tuple[str | None, str | None]:
        value = self.view.values and node.value is not None and node.kind != "number"
        grad = self.view.grads and node.grad is not None
        return array_text(node.value) if value else None, array_text(node.grad) if grad else None  # type: ignore[arg-type]

    def _operator(self, node: GraphNode, i: int) -> None:
        path = self.operators.paths[i]
        group = self._group(path)
        if group is None:
            place, shown_as = self._frames(path, i)
            run = next((r for _, r in self.runs_of.get(i, ()) if not r.of_groups and len(r.blocks[0]) == 1), None)
            self._box(node, place, shown_as, run.count if run else 1)
            return
        self._join(node, group, i)

    def _join(self, node: GraphNode, group: Path, i: int) -> None:
        """Puts a node into the box of its folded module, which operator `i` is part of."""
        if group not in self.group_ids:
            key = self.group_ids[group] = f"g{len(self.group_ids)}"
            run = self._run_of(group)
            name = self._name(group, run, whole=True)
            self.boxes[key] = Box(key, "module", [name], self._frames(group[:-1], i)[0], count=run.count if run else 1)
        key = self.where[node.id] = self.group_ids[group]
        self.boxes[key].members.append(node.id)

    def _leaves(self, node: GraphNode, i: int) -> None:
        """Boxes for the leaves that an operator is the first to use, each in the frame that holds all its users."""
        for edge in self.graph.inputs_of(node.id):
            leaf = self.graph[edge.source]
            if leaf.kind == "operator" or leaf.id in self.where:
                continue
            users = [int(self.first_of[self.position[e.target]]) for e in self.graph.consumers_of(leaf.id)]
            path = _shared([self.operators.paths[u] for u in users])
            if leaf.kind != "number" and not leaf.scope:
                path = ()
            group = self._group(path)
            if group is not None and len(users) and all(self._group(self.operators.paths[u]) == group for u in users):
                self._join(leaf, group, i)
            else:
                self._box(leaf, self._frames(path, i)[0] if path else (), "")

    def _finish_groups(self) -> None:
        """What is known of a folded module once all its operators are: how many, which, and the shape of its result."""
        for group, key in self.group_ids.items():
            box = self.boxes[key]
            nodes = [self.graph[m] for m in box.members if self.graph[m].kind == "operator"]
            count = self.sizes[group]
            results = [n for n in nodes if n.id in self.graph.outputs or self._leaves_box(n, key)] or nodes
            composite = next(
                (s[0][1:] for s in self.operators.paths[self.position[nodes[0].id]] if s[0][0] == "/"), nodes[0].op
            )
            what = composite if count == 1 else f"{count} operators"
            box.lines.append("" if box.lines[0].partition(" (call")[0] == what else what)
            if results[-1].name and box.count == 1:
                box.lines[0] = f"{results[-1].name} = {box.lines[0]}"
            box.lines.append(type_text(results[-1].shape, results[-1].dtype))
            if box.count > 1:
                box.lines.append(_times(box.count))
            else:
                box.value, box.grad = self._numbers(results[-1])
            box.tooltip = f"{group[0][0]}: " + ", ".join(f"{c} {op}" for op, c in Counter(n.op for n in nodes).items())

    def _leaves_box(self, node: GraphNode, key: str) -> bool:
        return any(self.where.get(e.target) != key for e in self.graph.consumers_of(node.id))

    # Arrows ---------------------------------------------------------------------------------------------------------------

    def _arrows(self) -> list[Arrow]:
        found: dict[tuple[str, str, int, int], Arrow] = {}
        inputs = Counter(e.target for e in self.graph.edges)
        outputs = Counter(source for source, _ in {(e.source, e.output) for e in self.graph.edges})
        for edge in self.graph.edges:
            if self._between_blocks(edge):
                continue
            source, target = self.where[edge.source], self.where[edge.target]
            if source == target:
                continue
            folded = self.boxes[source].kind == "module" or self.boxes[target].kind == "module"
            key = (source, target, -1 if folded else edge.position, edge.output)  # between the same two boxes once
            origin = self.graph[edge.source]
            if key not in found:
                label = edge_label(edge, origin, 1 if folded else inputs[edge.target], outputs[edge.source])
                argument = "" if folded else edge.argument
                found[key] = Arrow(source, target, label, argument, edge_tooltip(edge))
            found[key].edges.append(edge)
        return list(found.values())

    def _between_blocks(self, edge: GraphEdge) -> bool:
        """Whether it leads from one block of a run to another."""
        source, target = self.position.get(edge.source), self.position[edge.target]
        if source is None:
            return False
        return any(r.block_of(source) not in (-1, r.block_of(target)) for _, r in self.runs_of.get(target, ()))


def _times(count: int) -> str:
    return f"× {count}, one after the other"


def _shared(paths: Iterable[Path]) -> Path:
    """The longest path that all of them begin with."""
    first, *rest = paths
    for path in rest:
        length = next((k for k, (a, b) in enumerate(zip(first, path, strict=False)) if a != b), min(len(first), len(path)))
        first = first[:length]
    return first


def _in_pieces(graph: Graph, size: int) -> Callable[[GraphNode], Path]:
    """Paths in which operators outside of modules live in pieces of `size`, in order of execution."""
    outside = [n.id for n in graph if n.kind == "operator" and not node_path(n)]
    number = {node_id: i // size for i, node_id in enumerate(outside)}

    def path(node: GraphNode) -> Path:
        if node.id not in number:
            return node_path(node)
        start = number[node.id] * size
        return ((f"operators {start + 1} to {min(start + size, len(outside))}", 0),)

    return path


__all__ = ["View", "lay_out", "node_path"]
