"""The way gradients flow: from the result back to the leaves, alone or beside the forward graph."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from tinygrad_cv.graph import Graph

from .dot import Arrow, Box, Cluster, Drawing
from .labels import array_text, type_text

_MOST_NUMBERS = 2  # of a gradient that is written on an arrow


def only_backward(forward: Drawing, graph: Graph) -> Drawing:
    """One box for the backward rule of every operator that gradients pass, one for the gradient of every leaf that gets one.

    Arrows are gradients; where several meet, they add. ValueError where nothing requires a gradient.
    """
    return _backward(forward, graph, "")


def add_backward(forward: Drawing, graph: Graph) -> Drawing:
    """Forward and backward side by side, one downwards and one upwards; dotted between them what forward keeps for backward."""
    backward = _backward(forward, graph, "backward_")
    clusters = {"forward": Cluster("forward"), "backward": Cluster("backward"), **forward.clusters, **backward.clusters}
    boxes = [replace(b, place=("forward", *b.place)) for b in forward.boxes]
    boxes += [replace(b, place=("backward", *b.place)) for b in backward.boxes]
    there = {b.id for b in backward.boxes}
    arrows = [*forward.arrows, *(replace(a, reversed=True) for a in reversed(backward.arrows))]
    arrows += [
        Arrow(b.id, f"b_{b.id}", _kept(b, graph), kind="saved")
        for b in forward.boxes
        if f"b_{b.id}" in there and _kept(b, graph)
    ]
    return Drawing(boxes, arrows, clusters, [*forward.outputs, *backward.outputs])


def _kept(box: Box, graph: Graph) -> str:
    names = dict.fromkeys(name for m in box.members for name in graph[m].saved)
    if box.kind == "module" and names:
        return "keeps values"
    return f"keeps {', '.join(names)}" if names else ""


def _backward(forward: Drawing, graph: Graph, prefix: str) -> Drawing:
    flows = [a for a in forward.arrows if any(e.flows for e in a.edges)]
    passed = {a.source for a in flows} | {a.target for a in flows}
    seeds = [o for o in forward.outputs if any(graph[m].requires_grad for m in _box(forward, o).members)]
    if not seeds:
        raise ValueError(
            "draw: there is no backward graph: nothing that was computed requires grad. Make a leaf with requires_grad=True, "
            "and run outside of no_grad and inference_mode"
        )
    arriving = Counter(a.source for a in flows)
    boxes = [
        _gradient_box(b, graph, arriving[b.id] + (b.id in seeds), prefix)
        for b in forward.boxes
        if b.id in passed or b.id in seeds
    ]
    arrows = []
    for i, output in enumerate(seeds):
        shape = graph[_box(forward, output).members[-1]].shape
        place = tuple(prefix + c for c in _box(forward, output).place)
        boxes.append(Box(f"seed{i}", "number", [f"ones {shape}" if shape else "1"], place, tooltip="where backward starts"))
        arrows.append(Arrow(f"seed{i}", f"b_{output}", kind="gradient"))
    for arrow in reversed(flows):
        arrows.append(_gradient_arrow(arrow, graph))
    clusters = {prefix + name: cluster for name, cluster in forward.clusters.items()}
    leading = {a.source for a in arrows}
    return Drawing(boxes, arrows, clusters, [b.id for b in boxes if b.id not in leading])


def _box(drawing: Drawing, box_id: str) -> Box:
    return next(b for b in drawing.boxes if b.id == box_id)


def _gradient_box(box: Box, graph: Graph, arriving: int, prefix: str) -> Box:
    node = graph[box.members[-1]]
    if box.kind == "operator":
        operator = box.lines[0].rpartition(" = ")[2]
        lines = [f"{operator} backward", f"grad of {node.name}" if node.name else ""]
        kind = "backward"
    elif box.kind == "module":
        lines, kind = [f"{box.lines[0]} backward", *box.lines[1:]], "backward module"
    else:
        lines, kind = [f"grad of {node.name or node.kind}"], "gradient"
    if box.kind != "module":
        lines.append(type_text(node.shape, node.dtype))
    if box.count > 1 and box.kind == "operator":
        lines.append(box.lines[-1])
    if arriving > 1:
        lines.append(f"adds {arriving} gradients")
    place = tuple(prefix + c for c in box.place)
    return replace(
        box, id=f"b_{box.id}", kind=kind, lines=lines, place=place, value=None, fill="", is_output=kind == "gradient"
    )


def _gradient_arrow(arrow: Arrow, graph: Graph) -> Arrow:
    edge = next(e for e in arrow.edges if e.flows)
    parts = [arrow.label] if arrow.label else []
    if len(arrow.edges) == 1 and edge.grad is not None and edge.grad.size <= _MOST_NUMBERS:
        parts.append(array_text(edge.grad))
    tooltip = f"gradient for {edge.argument} of {graph[edge.target].op}: {type_text(edge.shape, edge.dtype)}"
    return Arrow(
        f"b_{arrow.target}",
        f"b_{arrow.source}",
        ": ".join(parts),
        "",
        tooltip,
        "gradient",
        False,
        arrow.highlighted,
        arrow.edges,
    )


__all__ = ["add_backward", "only_backward"]
