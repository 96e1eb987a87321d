"""A drawing and its DOT text: plain labels with everything escaped, modules as nested clusters, ids that never vary.

HTML-like labels are avoided: Graphviz as WebAssembly is built without them. Values and gradients get their colours in the SVG.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from tinygrad_cv.graph import GraphEdge

from .theme import SHAPES, Theme


@dataclass
class Box:
    """One node of a picture. kind: see `theme.SHAPES`. lines: the text in it. place: the clusters it stands in, outermost first.

    members: the graph's nodes that it stands for; others: those like them in the blocks that are folded into this one.
    fill: a colour in place of its kind's.
    """

    id: str
    kind: str
    lines: list[str]
    place: tuple[str, ...] = ()
    members: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    value: str | None = None
    grad: str | None = None
    tooltip: str = ""
    fill: str = ""
    count: int = 1
    is_output: bool = False
    highlighted: bool = False

    @property
    def text(self) -> list[str]:
        """All lines, with value and gradient."""
        numbers = [f"{word} {n}" for word, n in (("value", self.value), ("grad", self.grad)) if n is not None]
        return [line for line in self.lines if line] + numbers


@dataclass
class Arrow:
    """A value that box `target` takes from box `source`, with the argument it becomes. kind: "value", "gradient" or "saved"."""

    source: str
    target: str
    label: str = ""
    argument: str = ""
    tooltip: str = ""
    kind: str = "value"
    reversed: bool = False  # placed as if it led from target to source: ranks stay those of the forward graph
    highlighted: bool = False
    edges: list[GraphEdge] = field(default_factory=list)  # of the graph, that it stands for


@dataclass
class Cluster:
    """A frame round boxes. count: how many equal blocks it stands for."""

    label: str
    count: int = 1
    highlighted: bool = False


@dataclass
class Drawing:
    """Boxes; arrows in the order of their targets' arguments; clusters by id; the ids of the boxes that give the results."""

    boxes: list[Box]
    arrows: list[Arrow]
    clusters: dict[str, Cluster]
    outputs: list[str]
    legend: list[tuple[str, str]] = field(default_factory=list)  # (text, fill)
    legend_title: str = ""


def escape(text: str) -> str:
    """`text` for a quoted DOT string: quotes, backslashes and entities escaped, characters that XML forbids replaced."""
    allowed = "".join(
        c if c >= " " and not 0xD800 <= ord(c) <= 0xDFFF and ord(c) not in (0xFFFE, 0xFFFF) else "\ufffd" for c in text
    )
    return allowed.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')


def _lines(lines: Sequence[str]) -> str:
    return '"' + "\\n".join(escape(line) for line in lines if line) + '"'


def colour_numbers(svg: str, theme: Theme, filled: Collection[str] = ()) -> str:
    """The SVG with value lines in one colour, gradient lines in another and slanted, as in the CS231n lectures.

    filled: ids of boxes whose colour says something else; numbers stay black on it.
    """

    def paint(found: re.Match[str]) -> str:
        part, black = found[0], found[1] in filled
        for word, colour, slant in (("value", theme.value, ""), ("grad", theme.grad, ' font-style="italic"')):
            text = rf'<text fill="{"#000000" if black else colour}"{slant} \1>'
            part = re.sub(rf'<text ([^>]*?)(?: fill="[^"]*")?>(?={word} )', text, part)
        return part

    return re.sub(r'<g id="node\d+" class="node">\s*<title>(\w+)</title>.*?(?=<!--|</svg>)', paint, svg, flags=re.DOTALL)


def to_dot(drawing: Drawing, direction: str, note: str, theme: Theme) -> str:
    """The DOT text."""
    font = f'fontname="{theme.font}"'
    lines = [
        "digraph graph_ {",
        f'  rankdir={direction}; {font}; fontcolor="{theme.muted}"; bgcolor="{theme.background}"; nodesep=0.25; ranksep=0.35; '
        'tooltip=" "; labelloc=t; fontsize=12;',
        f'  node [{font}, fontsize=11, fontcolor="{theme.text}", margin="0.2,0.08"];',
        f'  edge [{font}, fontsize=9, fontcolor="{theme.muted}", color="{theme.edge}"];',
    ]
    if note:
        lines.append(f"  label={_lines(note.split(chr(10)))};")
    lines += _legend(drawing, theme)
    lines += _clusters(drawing, theme)
    lines += [_arrow(arrow, theme) for arrow in drawing.arrows]
    lines.append("}")
    return "\n".join(lines) + "\n"


def _legend(drawing: Drawing, theme: Theme) -> list[str]:
    """A column of boxes, one for each colour, held in order by invisible arrows."""
    if not drawing.legend:
        return []
    style = f'style="rounded"; labeljust=l; color="{theme.frame}"; fontcolor="{theme.muted}"; fontsize=10;'
    boxes = [
        f'    legend{i} [label={_lines([text])}, shape=box, style="filled", fillcolor="{fill}", color="{theme.frame}", '
        'fontcolor="#000000", fontsize=10, margin="0.1,0.04", width=1.2, height=0.25];'
        for i, (text, fill) in enumerate(drawing.legend)
    ]
    order = " -> ".join(f"legend{i}" for i in range(len(drawing.legend)))
    title = _lines(drawing.legend_title.split("\n"))
    return [f"  subgraph cluster_legend {{ label={title}; {style}", *boxes, f"    {order} [style=invis];", "  }"]


def _arrow(arrow: Arrow, theme: Theme) -> str:
    parts = []
    if arrow.label:
        parts.append(f'label=" {escape(arrow.label)} "')  # blanks keep it off the line
    if arrow.tooltip:
        text = escape(arrow.tooltip)
        parts.append(f'tooltip="{text}"' + (f', labeltooltip="{text}"' if arrow.label else ""))
    if arrow.kind == "gradient":
        parts.append(f'style=dashed, color="{theme.gradient_edge}", fontcolor="{theme.grad}"')
    elif arrow.kind == "saved":
        parts.append("style=dotted, minlen=0, arrowhead=open")
    if arrow.reversed:
        parts.append("dir=back")
    if arrow.highlighted:
        parts.append(f'penwidth=2.5, color="{theme.highlight}"')
    ends = f"{arrow.target} -> {arrow.source}" if arrow.reversed else f"{arrow.source} -> {arrow.target}"
    return f"  {ends}" + (f" [{', '.join(parts)}]" if parts else "") + ";"


def _node(box: Box, theme: Theme) -> str:
    fill, line = box.fill or theme.fills[box.kind], theme.lines[box.kind]
    parts = [f"label={_lines(box.text)}", SHAPES[box.kind]]
    if box.highlighted and not box.fill:
        fill = theme.highlight_fill
        parts.append(f'fontcolor="{theme.highlight_text}"')
    elif box.fill:
        parts.append('fontcolor="#000000"')
    if fill:
        parts.append(f'fillcolor="{fill}"')
    if box.highlighted:
        parts.append(f'color="{theme.highlight}", penwidth=3.5')
    else:
        if line:
            parts.append(f'color="{line}"')
        if box.is_output:
            parts.append("penwidth=2.5")
    if box.tooltip:
        parts.append(f'tooltip="{escape(box.tooltip)}"')
    return f"{box.id} [{', '.join(parts)}];"


def _clusters(drawing: Drawing, theme: Theme) -> list[str]:
    """Boxes sorted into nested clusters, each cluster once, in the order of its first box."""
    order: dict[tuple[str, ...], int] = {}
    for i, box in enumerate(drawing.boxes):
        for level in range(len(box.place) + 1):
            order.setdefault(box.place[:level], i)
    keyed = sorted(
        enumerate(drawing.boxes),
        key=lambda item: (*(order[item[1].place[: level + 1]] for level in range(len(item[1].place))), item[0]),
    )
    lines: list[str] = []
    current: tuple[str, ...] = ()
    for _, box in keyed:
        shared = 0
        while shared < min(len(current), len(box.place)) and current[shared] == box.place[shared]:
            shared += 1
        lines += ["  " * level + "}" for level in range(len(current), shared, -1)]
        for level in range(shared, len(box.place)):
            lines.append("  " * (level + 1) + _frame(box.place[level], drawing.clusters[box.place[level]], theme))
        current = box.place
        lines.append("  " * (len(current) + 1) + _node(box, theme))
    return lines + ["  " * level + "}" for level in range(len(current), 0, -1)]


def _frame(name: str, cluster: Cluster, theme: Theme) -> str:
    colour, width = (theme.highlight, 3) if cluster.highlighted else (theme.frame, 2 if cluster.count > 1 else 1)
    text = escape(cluster.label)
    return (
        f'subgraph cluster_{name} {{ label="{text}"; tooltip="{text}"; style="rounded"; labeljust=l; color="{colour}"; penwidth={width}; '
        f'fontcolor="{theme.muted}"; fontsize=10;'
    )


__all__ = ["Arrow", "Box", "Cluster", "Drawing", "colour_numbers", "escape", "to_dot"]
