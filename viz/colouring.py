"""Colours for boxes by what a reader asks: which family of operators, or how much time, work or memory. Each in words in the box too."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tinygrad_cv import costs
from tinygrad_cv.graph import Graph, GraphNode
from tinygrad_cv.profiler import Profile
from tinygrad_cv.registry import find

from .dot import Box, Drawing
from .theme import Theme

CHOICES = ("family", "time", "flops", "memory", "saved", "grad_norm")

# Light enough for black text (contrast above 9 to 1) and told apart by most eyes, after M. Okabe and K. Ito, "Color Universal Design".
_FAMILIES = {
    "arithmetic": ("#d9d9d9", "arithmetic comparison division pointwise selection trigonometry"),
    "products": ("#a6d3f2", "contraction distance linalg linear matrix products"),
    "convolution": ("#7fc8b0", "convolution patches transposed_convolution"),
    "activation": ("#f7dc9a", "activation smooth"),
    "pooling": ("#c9b8e8", "average_pooling grid interpolation pooling unpooling"),
    "normalisation": ("#f0b8d2", "normalization regularization standardization"),
    "reduction": ("#f5b183", "bounded_sums extrema norms reduction scan softmax statistics"),
    "loss": ("#f4a3a0", "likelihood_loss loss loss_reduction margin_loss value_loss vector_loss"),
    "shape and order": (
        "#e3e0cf",
        "arrange axes diagonals embedding gathering indexing padding pieces scattering shape sorting tiling vision",
    ),
    "other": ("#ffffff", ""),
    "several": ("#fdf0d5", ""),
}
_FAMILY_OF = {file: family for family, (_, files) in _FAMILIES.items() for file in files.split()}
_TITLES = {
    "time": "time:\nshare of the slowest box",
    "flops": "operations (FLOP):\nshare of the largest",
    "memory": "bytes of results:\nshare of the largest",
    "saved": "kept for backward,\nwithout parameters:\nshare of the largest",
    "grad_norm": "length of the gradient:\nshare of the largest",
}


def colour(drawing: Drawing, graph: Graph, by: str, theme: Theme, profile: Profile | None) -> None:
    """Fills the boxes, writes what their colour says into them and adds the legend.

    ValueError for "time" without a profile, and for "grad_norm" where the graph has no gradients.
    """
    if by == "family":
        _by_family(drawing, graph)
        return
    amount, text = _amounts(graph, by, profile)
    found = {box.id: _total(box, drawing, graph, by, amount) for box in drawing.boxes if box.kind != "number"}
    largest = max(found.values(), default=0.0)
    overall = sum(found.values())
    for box in drawing.boxes:
        share = found.get(box.id, 0.0) / largest if largest else 0.0
        if not math.isfinite(share):
            share = 1.0
        if box.id not in found or (found[box.id] == 0 and box.kind in ("input", "parameter", "gradient")):
            continue
        box.fill = theme.steps[_step(share, len(theme.steps), by)]
        part = f", {100 * found[box.id] / overall:.0f} %" if overall and by != "grad_norm" else ""
        box.lines.append(f"{text(found[box.id])}{part}")
    steps = len(theme.steps)
    drawing.legend_title = _TITLES[by]
    if by == "grad_norm":
        texts = ["less", *(f"1/{10 ** (steps - i):,} to 1/{10 ** (steps - 1 - i):,}" for i in range(1, steps - 1)), "1/10 to 1"]
    else:
        texts = [f"{100 * i // steps} to {100 * (i + 1) // steps} %" for i in range(steps)]
    drawing.legend = list(zip(texts, theme.steps, strict=True))


def _step(share: float, steps: int, by: str) -> int:
    """Which colour: a fifth of the largest each, and of gradients, which vanish and explode by powers, a power of ten each."""
    if by == "grad_norm":
        return max(steps + math.floor(math.log10(share)), 0) if 0 < share < 1 else steps - 1 if share else 0
    return min(int(share * steps), steps - 1)


def _amounts(
    graph: Graph, by: str, profile: Profile | None
) -> tuple[Callable[[GraphNode, bool], float], Callable[[float], str]]:
    """(the amount of a node, forward or backward; how it is written)."""
    if by == "time":
        if profile is None:
            raise ValueError(
                "draw: color_by='time' needs something to run: draw a module or function with its inputs, or "
                "draw(tg.profiler.measure(model, x), color_by='time')"
            )
        measured = profile
        return lambda node, back: measured.seconds_of(node.id)[back], seconds_text
    if by == "grad_norm":
        if all(n.grad is None for n in graph):
            raise ValueError("draw: color_by='grad_norm' needs gradients: nothing in this graph has one")
        return lambda node, back: 0.0 if node.grad is None else float(np.linalg.norm(node.grad)), "|grad| {:.3g}".format
    known = costs.of_graph(graph)
    if by == "flops":
        return lambda node, back: 0.0 if back else known[node.id].flops, lambda n: number_text(n, "FLOP")
    if by == "saved":
        return lambda node, back: 0.0 if back else float(known[node.id].saved), lambda n: f"keeps {number_text(n, 'B')}"
    return lambda node, back: float(known[node.id].result), lambda n: number_text(n, "B")


def _total(box: Box, drawing: Drawing, graph: Graph, by: str, amount: Callable[[GraphNode, bool], float]) -> float:
    """Of all the nodes that the box stands for; of gradients the length of those of its parameters, or of its result."""
    back = box.kind in ("backward", "backward module", "gradient")
    nodes = [graph[m] for m in (*box.members, *box.others)]
    if by == "grad_norm":
        parameters = [n for n in nodes if n.kind == "parameter"] if box.kind.endswith("module") else []
        own = nodes if box.count > 1 or box.others else nodes[-1:]
        return math.hypot(*(amount(n, back) for n in parameters or own))
    if box.kind.endswith("module"):
        nodes = [n for n in nodes if n.kind == "operator"]
    return sum(amount(n, back) for n in nodes)


def _by_family(drawing: Drawing, graph: Graph) -> None:
    seen: dict[str, str] = {}
    for box in drawing.boxes:
        families = {family_of(graph[m].op) for m in box.members if graph[m].kind == "operator"}
        if not families or box.kind == "gradient":
            continue
        family = families.pop() if len(families) == 1 else "several"
        box.fill = _FAMILIES[family][0]
        seen[family] = box.fill
        box.lines.append(f"[{family}]")
    drawing.legend_title = "family of operators"
    drawing.legend = [(family, fill) for family, (fill, _) in _FAMILIES.items() if family in seen]


def family_of(op: str) -> str:
    """The family of an operator; "other" for those of plugins."""
    operator = find(op)
    file = (
        operator.declaration.__module__.rpartition(".")[2]
        if operator is not None and operator.provider == "tinygrad_cv"
        else ""
    )
    return _FAMILY_OF.get(file, "other")


def number_text(amount: float, unit: str) -> str:
    """As in "3.63 GFLOP"; powers of 1000."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if amount >= size:
            return f"{amount / size:.3g} {prefix}{unit}"
    return f"{amount:.3g} {unit}"


def seconds_text(seconds: float) -> str:
    """As in "1.23 ms"."""
    for size, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{1e6 * seconds:.3g} us"


__all__ = ["CHOICES", "colour", "family_of", "number_text", "seconds_text"]
