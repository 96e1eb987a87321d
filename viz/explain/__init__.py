"""Step-through pages: one offline HTML file that plays a computation forward and backward, number by number.

page_data.py: the graph as JSON. steps.py: the order of play. formulas.py, mathml.py, calculus.py, rules.py: the mathematics.
clusters.py: what folds. arrays.py: how arrays are stored. page.py: the HTML. static/: the page's own program. README.md: the contract.
"""

from __future__ import annotations

import html
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tinygrad_cv import Tensor
from tinygrad_cv.files import write_atomically
from tinygrad_cv.graph import Graph, capture, trace, variable_names

from ..undisturbed import undisturbed
from .page import render_page
from .page_data import page_data


class Page:
    """A step-through page: `page.html` is its text, `page.save("page.html")` writes it; in a notebook it shows itself.

    graph: what it plays. path: where it was written last, None if nowhere.
    """

    def __init__(self, graph: Graph, page: str, title: str) -> None:
        self.graph = graph
        self.html = page
        self.title = title
        self.path: Path | None = None

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the page, making the folder if it is not there. ValueError for an ending other than .html and .htm.

        OSError if it cannot be written; no part of a file is left then.
        """
        path = _html_path(path)
        write_atomically(path, self.html.encode())
        self.path = path
        return path

    def __repr__(self) -> str:
        return f"<Page: {self.title}, {len(self.graph)} nodes, {len(self.html.encode()) / 1e3:,.0f} kB>"

    def _repr_html_(self) -> str:
        return (
            f'<iframe title="{html.escape(self.title, quote=True)}, step by step" width="100%" height="680" '
            f'sandbox="allow-scripts" srcdoc="{html.escape(self.html, quote=True)}"></iframe>'
        )


def explain(
    target: Tensor | Graph | Callable[..., Any],
    *inputs: Any,
    path: str | os.PathLike[str] | None = None,
    names: Mapping[str, Tensor] | None = None,
    title: str | None = None,
) -> Page:
    """One HTML page that plays `target` forward and backward: `explain(loss, "page.html")`, `explain(model, images, "page.html")`.

    target: a tensor, before its graph was freed; a module or function, which is called with `inputs`; or a Graph that was traced
    with values and gradients. A text or path among the positional arguments is the file to write, as `path` is. names: variables
    by name; those of the calling functions, and global ones, are found by themselves. title: shown at the top.

    What is differentiated is the result, or the sum of its elements where there are several. Where nothing requires grad, the
    page plays forward only, and says so.

    TypeError for a target that is none of these, and for a module or function without the inputs it takes. ValueError for a file
    name that does not end in .html, and for graphs of more than 5,000 nodes. RuntimeError where backward has freed the graph.
    """
    places = [i for i in inputs if isinstance(i, (str, os.PathLike))]
    arguments = tuple(i for i in inputs if not isinstance(i, (str, os.PathLike)))
    if len(places) + (path is not None) > 1:
        raise TypeError(f"explain: one file to write, got {', '.join(map(repr, [*places, *([path] if path else [])]))}")
    destination = _html_path(places[0] if places else path) if places or path is not None else None
    caller = inspect.currentframe()
    found = variable_names(caller.f_back) if caller is not None else {}
    known = {**(names or {}), **{k: v for k, v in found.items() if k not in (names or {})}}  # the first name of a tensor counts
    graph, note = _graph_of(target, arguments, known, names)
    shown = title if title is not None else _title(graph)
    page = Page(graph, render_page(page_data(graph, shown, note)), shown)
    if destination is not None:
        page.save(destination)
    return page


def _html_path(path: Any) -> Path:
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"explain: the page is HTML, so its file must end in .html, got {str(path)!r}")
    return path


def _graph_of(
    target: Any, inputs: tuple[Any, ...], known: dict[str, Tensor], names: Mapping[str, Tensor] | None
) -> tuple[Graph, str]:
    if isinstance(target, (Tensor, Graph)) and inputs:
        raise TypeError(f"explain: inputs go with a module or function; a {type(target).__name__} is explained alone")
    if isinstance(target, Graph):
        return target, _note(target)
    if isinstance(target, Tensor):
        wanted = {"grads": True, "local": True} if target.requires_grad else {}
        try:
            graph = trace(target, names=known, values=True, **wanted)
        except RuntimeError as error:
            if "freed" not in str(error):
                raise
            raise RuntimeError(
                "explain: backward has already passed through this graph and freed what its gradients need; call explain before "
                f"backward, or backward(retain_graph=True). ({str(error).splitlines()[0]})"
            ) from None
    elif callable(target):
        _require_inputs(target, inputs)
        module = hasattr(target, "named_parameters")
        with undisturbed(target):
            graph = _recorded(target, inputs, names if module else known)
    else:
        raise TypeError(f"explain: expected a Tensor, a Graph, a module or a function, got {type(target).__name__}")
    return graph, _note(graph)


def _recorded(target: Callable[..., Any], inputs: tuple[Any, ...], names: Mapping[str, Tensor] | None) -> Graph:
    """The graph of one call, with gradients where its result requires them. Unnamed inputs get the names of the parameters."""
    named = dict(names or {})
    try:
        bound = inspect.signature(getattr(target, "forward", target)).bind(*inputs).arguments
    except ValueError:  # a callable whose signature Python does not know
        bound = {f"input{i}": value for i, value in enumerate(inputs)}
    for name, value in bound.items():
        if isinstance(value, Tensor) and not any(value is t for t in named.values()):
            named.setdefault(name, value)
    with capture() as recording:
        outputs = target(*inputs)
    if not _holds_tensors(outputs):
        raise TypeError(f"explain: what is called must return a Tensor or several, got {type(outputs).__name__}")
    wanted = _requires_grad(outputs)
    module = target if hasattr(target, "named_parameters") else None
    return recording.graph(outputs, names=named, module=module, grads=wanted, local=wanted)


def _holds_tensors(outputs: Any) -> bool:
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    return isinstance(outputs, Tensor) or (
        isinstance(outputs, (tuple, list)) and bool(outputs) and all(map(_holds_tensors, outputs))
    )


def _requires_grad(outputs: Any) -> bool:
    if isinstance(outputs, Tensor):
        return outputs.requires_grad
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    return isinstance(outputs, (tuple, list)) and any(_requires_grad(o) for o in outputs)


def _require_inputs(target: Callable[..., Any], inputs: tuple[Any, ...]) -> None:
    try:
        inspect.signature(getattr(target, "forward", target)).bind(*inputs)
    except TypeError as error:
        name = getattr(target, "__name__", type(target).__name__).replace("<lambda>", "the function")
        raise TypeError(f"explain: {name} cannot be called with the {len(inputs)} inputs given: {error}") from None
    except ValueError:  # a callable whose signature Python does not know
        return


def _note(graph: Graph) -> str:
    notes = []
    if not any(n.grad is not None for n in graph):
        notes.append("Nothing here requires a gradient, so the page plays forward only; make a leaf with requires_grad=True.")
    unknown = [n for n in graph if n.kind == "operator" and n.value is None]
    if unknown:
        count = (
            f"{len(unknown)} operators were not kept (the first is" if len(unknown) > 1 else "one operator were not kept (it is"
        )
        notes.append(
            f"The values of {count} {unknown[0].op}); explain the module or function with its inputs instead of its result to see them."
        )
    return " ".join(notes)


def _title(graph: Graph) -> str:
    output = graph[graph.outputs[0]]
    return output.name or output.op or "graph"


__all__ = ["Page", "explain"]
