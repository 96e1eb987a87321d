"""PNG and PDF without `dot`: paints the few kinds of elements that Graphviz puts into an SVG with matplotlib."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

_SVG = "{http://www.w3.org/2000/svg}"
_DPI = 144  # of a PNG: twice the points that Graphviz lays out in, sharp on a projector
_FONT_SCALE = 0.92  # matplotlib's own sans-serif is wider than Helvetica, for which the boxes were measured
_LONGEST_SIDE = 30_000  # pixels


def paint(svg: str, format: str) -> bytes:
    """The SVG of Graphviz as "png" or "pdf". ImportError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    root = ElementTree.fromstring(svg)
    left, top, width, height = (float(v) for v in root.attrib["viewBox"].split())
    figure = Figure(figsize=(width / 72, height / 72))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    graph = next(g for g in root.iter(f"{_SVG}g") if g.get("class") == "graph")
    shift = re.search(r"translate\(([-\d.]+)[ ,]+([-\d.]+)\)", graph.get("transform", ""))
    x, y = (float(v) for v in shift.groups()) if shift else (0.0, 0.0)
    axes.set_xlim(left - x, left - x + width)
    axes.set_ylim(top - y + height, top - y)
    axes.axis("off")
    for order, element in enumerate(_drawn(graph)):
        _add(axes, element, order)
    buffer = io.BytesIO()
    resolution = min(_DPI, _LONGEST_SIDE * 72 / max(width, height, 1))
    metadata: dict[str, Any] = {"Software": None} if format == "png" else {"CreationDate": None, "Producer": None}
    figure.savefig(buffer, format=format, dpi=resolution, metadata=metadata)
    return buffer.getvalue()


def _drawn(graph: Any) -> Iterator[Any]:
    for element in graph.iter():
        if element.tag.removeprefix(_SVG) in ("polygon", "polyline", "path", "ellipse", "text"):
            yield element


def _add(axes: Any, element: Any, order: int) -> None:
    from matplotlib.patches import Ellipse, PathPatch, Polygon

    kind = element.tag.removeprefix(_SVG)
    fill, stroke = _colour(element.get("fill", "black")), _colour(element.get("stroke", "none"))
    style: dict[str, Any] = {
        "facecolor": fill, "edgecolor": stroke, "linewidth": float(element.get("stroke-width", 1)), "zorder": order, "clip_on": False,
    }  # fmt: skip
    dashes = element.get("stroke-dasharray")
    if dashes:
        style["linestyle"] = (0, [float(d) for d in dashes.split(",")])
    if kind == "text":
        axes.text(
            float(element.get("x")),
            float(element.get("y")),
            (element.text or "").replace("$", r"\$"),
            fontsize=_FONT_SCALE * float(element.get("font-size", 14)),
            fontstyle=element.get("font-style", "normal"),
            color=_colour(element.get("fill", "black")),
            ha={"middle": "center", "start": "left", "end": "right"}[element.get("text-anchor", "start")],
            va="baseline",
            zorder=order,
        )
    elif kind == "ellipse":
        centre = float(element.get("cx")), float(element.get("cy"))
        axes.add_patch(Ellipse(centre, 2 * float(element.get("rx")), 2 * float(element.get("ry")), **style))
    elif kind == "path":
        axes.add_patch(PathPatch(_bezier(element.get("d")), **style))
    else:
        points = [tuple(map(float, p.split(","))) for p in element.get("points").split()]
        axes.add_patch(Polygon(points, closed=kind == "polygon", **style))


def _colour(text: str) -> str:
    return "none" if text in ("none", "transparent") else text


def _bezier(text: str) -> Any:
    """The path of an SVG `d` as Graphviz writes it: one M, then cubic curves in absolute coordinates."""
    from matplotlib.path import Path

    points = [tuple(map(float, p)) for p in re.findall(r"([-\d.]+),([-\d.]+)", text)]
    return Path(points, [Path.MOVETO] + [Path.CURVE4] * (len(points) - 1))


__all__ = ["paint"]
