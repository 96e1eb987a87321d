"""What a user wants to see at once: variables, operators, modules, by name or as Tensors, framed boldly."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tinygrad_cv import Tensor
from tinygrad_cv.graph import Graph

from .dot import Drawing

Wanted = str | Tensor | Iterable[str | Tensor]


@dataclass(frozen=True)
class Highlights:
    """Names to look for, and names given to Tensors that had none."""

    names_wanted: tuple[str, ...]
    added: Mapping[str, Tensor]

    def names(self, given: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """`given`, and the Tensors that got a name here."""
        return {**(given or {}), **self.added}


def find_highlights(highlight: Wanted, known: dict[str, Tensor], target: Any) -> Highlights:
    """The names of everything in `highlight`; a Tensor without one is entered into `known` as "highlighted".

    TypeError for something that is neither text nor a Tensor.
    """
    items: list[Any] = [highlight] if isinstance(highlight, (str, Tensor)) else list(highlight)
    named = dict(target.named_parameters()) if hasattr(target, "named_parameters") else {}
    added: dict[str, Tensor] = {}
    wanted = []
    for item in items:
        if isinstance(item, str):
            wanted.append(item)
            continue
        if not isinstance(item, Tensor):
            raise TypeError(f"draw: highlight takes names and Tensors, got {type(item).__name__}")
        name = next((n for n, t in (*named.items(), *known.items()) if t is item), None)
        if name is None:
            name = f"highlighted{len(added) or ''}"
            added[name] = known[name] = item
        elif name not in named:
            added[name] = item
        wanted.append(name)
    return Highlights(tuple(wanted), added)


def highlight_boxes(drawing: Drawing, graph: Graph, wanted: Highlights) -> None:
    """Marks boxes, frames and the arrows between marked boxes. ValueError for a name that nothing has, with near ones."""
    marked: set[str] = set()
    for name in wanted.names_wanted:
        found = {n.id for n in graph if name in (n.id, n.name, n.op) or _inside(n.scope, name)}
        if not found:
            every = {t for n in graph for t in (n.name, n.op, n.scope.partition(".")[2]) if t}
            near = difflib.get_close_matches(name, sorted(every), 3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise ValueError(f"draw: nothing to highlight is called {name!r}{hint}")
        marked |= found
    for box in drawing.boxes:
        box.highlighted = not marked.isdisjoint((*box.members, *box.others))
    ids = {box.id for box in drawing.boxes if box.highlighted}
    for arrow in drawing.arrows:
        arrow.highlighted = arrow.source in ids and arrow.target in ids


def _inside(scope: str, name: str) -> bool:
    """Whether `scope` is the module or composite operator called `name`, with or without the outermost module's name, or inside it."""
    if not scope:
        return False
    parts = scope.replace("/", ".").split(".")
    wanted = name.replace("/", ".").split(".")
    return any(parts[k : k + len(wanted)] == wanted for k in range(min(2, len(parts))))


__all__ = ["Highlights", "Wanted", "find_highlights", "highlight_boxes"]
