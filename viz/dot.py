"""DOT text of a drawing: plain labels with everything escaped, modules as nested clusters, ids that never vary.

HTML-like labels are avoided: Graphviz as WebAssembly is built without them. Values and gradients get their colours in the SVG.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Light enough for black text (contrast above 7:1), told apart by shape as well as by colour.
_STYLES = {
    "operator": 'shape=box, style="rounded,filled", fillcolor="#dbe9fb", color="#3b6fb6"',
    "parameter": 'shape=box, style="filled", fillcolor="#dff3e0", color="#3c8d40"',
    "input": 'shape=ellipse, style="filled", fillcolor="#f3f3f3", color="#777777"',
    "number": 'shape=plaintext, style=""',
    "module": 'shape=box3d, style="filled", fillcolor="#fdf0d5", color="#b07d1a"',
}


@dataclass
class Box:
    """One node of a picture. path: the modules it stands in. operators, shape: of a folded module."""

    id: str
    kind: str
    label: list[str]
    path: tuple[str, ...]
    value: str | None = None
    grad: str | None = None
    operators: int = 0
    shape: str = ""
    is_output: bool = False


@dataclass
class Arrow:
    """A value that box `target` takes from box `source`, by argument name where both are single nodes."""

    source: str
    target: str
    label: str = ""
    argument: str = ""


@dataclass
class Drawing:
    """Boxes, arrows in the order of their targets' arguments, and the ids of the boxes that give the results."""

    boxes: list[Box]
    arrows: list[Arrow]
    outputs: list[str]


def escape(text: str) -> str:
    """`text` as a quoted DOT string: quotes, backslashes and entities escaped, characters that XML forbids replaced."""
    allowed = "".join(
        c if c >= " " and not 0xD800 <= ord(c) <= 0xDFFF and ord(c) not in (0xFFFE, 0xFFFF) else "\ufffd" for c in text
    )
    return allowed.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')


def details(box: Box) -> list[str]:
    """What stands in a box below its label, line by line."""
    lines = []
    if box.kind == "module":
        lines += [f"{box.operators} operator{'s' if box.operators != 1 else ''}", box.shape]
    if box.value is not None:
        lines.append(f"value {box.value}")
    if box.grad is not None:
        lines.append(f"grad {box.grad}")
    return lines


def _label(box: Box) -> str:
    return '"' + "\\n".join(escape(line) for line in (*box.label, *details(box)) if line) + '"'


def colour_numbers(svg: str) -> str:
    """The SVG with value lines green and gradient lines red and slanted, as in the CS231n lectures."""
    svg = re.sub(r"<text ([^>]*)>value ", r'<text fill="#1a6b2a" \1>value ', svg)
    return re.sub(r"<text ([^>]*)>grad ", r'<text fill="#b3261e" font-style="italic" \1>grad ', svg)


def to_dot(drawing: Drawing, direction: str, note: str = "") -> str:
    """The DOT text."""
    lines = [
        "digraph graph_ {",
        f'  rankdir={direction}; fontname="Helvetica"; nodesep=0.25; ranksep=0.35;',
        '  node [fontname="Helvetica", fontsize=11, margin="0.2,0.08"]; edge [fontname="Helvetica", fontsize=9, color="#555555"];',
    ]
    if note:
        lines.append(f'  label="{escape(note)}";')
    lines += _clusters(drawing.boxes)
    for arrow in drawing.arrows:
        label = f' [label="{escape(arrow.label)}"]' if arrow.label else ""
        lines.append(f"  {arrow.source} -> {arrow.target}{label};")
    lines.append("}")
    return "\n".join(lines) + "\n"


def _clusters(boxes: list[Box]) -> list[str]:
    """Boxes sorted into nested clusters by path, each cluster once, in the order of its first box."""
    order: dict[tuple[str, ...], int] = {}
    for i, box in enumerate(boxes):
        for level in range(len(box.path) + 1):
            order.setdefault(box.path[:level], i)
    keyed = sorted(
        enumerate(boxes), key=lambda item: (*(order[item[1].path[: level + 1]] for level in range(len(item[1].path))), item[0])
    )
    lines: list[str] = []
    current: tuple[str, ...] = ()
    count = 0
    for _, box in keyed:
        shared = 0
        while shared < min(len(current), len(box.path)) and current[shared] == box.path[shared]:
            shared += 1
        for level in range(len(current), shared, -1):
            lines.append("  " * level + "}")
        for level in range(shared, len(box.path)):
            pad = "  " * (level + 1)
            style = 'style="rounded"; color="#999999"; fontcolor="#444444"; fontsize=10;'
            frame = f'label="{escape(box.path[level])}"; {style}' if box.path[level] else 'peripheries=0; label="";'
            lines.append(f"{pad}subgraph cluster_{count} {{ {frame}")
            count += 1
        current = box.path
        extra = ", penwidth=2.5" if box.is_output else ""
        lines.append("  " * (len(current) + 1) + f"{box.id} [label={_label(box)}, {_STYLES[box.kind]}{extra}];")
    lines += ["  " * level + "}" for level in range(len(current), 0, -1)]
    return lines
