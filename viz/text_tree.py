"""A drawing as text: from the outputs down to the leaves."""

from __future__ import annotations

from collections import Counter

from .dot import Arrow, Box, Drawing

_DEEPEST = 40  # levels of indentation


def text_tree(drawing: Drawing, note: str = "") -> str:
    """The boxes from the outputs down to the leaves; one that is met again is named, not repeated. A trailing * marks highlights.

    A frame that stands for several equal blocks of operators has a line of its own, with its boxes below it.
    """
    boxes = {box.id: box for box in drawing.boxes}
    into: dict[str, list[Arrow]] = {box.id: [] for box in drawing.boxes}
    for arrow in drawing.arrows:
        if arrow.kind != "saved":
            into[arrow.target].append(arrow)
    lines = note.split("\n") if note else []
    if drawing.legend:
        title = drawing.legend_title.replace("\n", " ")
        lines.append(f"{title}: {'; '.join(text for text, _ in drawing.legend)}")
    sizes = Counter(f for box in drawing.boxes if box.kind in ("operator", "module") for f in box.place)
    seen: set[str] = set()
    ends = drawing.outputs or [box.id for box in drawing.boxes if not any(a.source == box.id for a in drawing.arrows)]
    stack: list[tuple[str, int, str, tuple[str, ...]]] = [(output, 0, "", ()) for output in reversed(ends)]
    while stack:
        box_id, level, argument, around = stack.pop()
        box = boxes[box_id]
        blocks = tuple(frame for frame in box.place if _is_block(drawing, frame))
        for depth, frame in enumerate(blocks):
            if blocks[: depth + 1] != around[: depth + 1]:
                lines.append(f"{_indent(level)}block of {sizes[frame]}, {drawing.clusters[frame].label}")
                level += 1
        again = box_id in seen and bool(into[box_id])
        lines.append(_line(box, drawing, level, argument) + (" (above)" if again else ""))
        if not again:
            seen.add(box_id)
            stack.extend((arrow.source, level + 1, arrow.argument, blocks) for arrow in reversed(into[box_id]))
    return "\n".join(lines) + "\n"


def _is_block(drawing: Drawing, frame: str) -> bool:
    """Whether a frame stands for several blocks that have no name of their own."""
    cluster = drawing.clusters[frame]
    return cluster.count > 1 and cluster.label.startswith("×")


def _indent(level: int) -> str:
    return "  " * min(level, _DEEPEST)


def _line(box: Box, drawing: Drawing, level: int, argument: str) -> str:
    prefix = f"{argument}: " if argument else ""
    frames = [drawing.clusters[c].label for c in box.place if drawing.clusters[c].count > 1 and not _is_block(drawing, c)]
    name, *rest = box.text or [box.id]
    if box.kind in ("input", "parameter") and rest:  # a leaf and its type in one breath
        name, rest = f"{name} {rest[0]}", rest[1:]
    details = ", ".join([name, *rest, *frames])
    return f"{_indent(level)}{prefix}{details} [{box.id}]{' *' if box.highlighted else ''}"


__all__ = ["text_tree"]
