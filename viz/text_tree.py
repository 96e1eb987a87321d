"""A drawing as text: from the outputs down to the leaves."""

from __future__ import annotations

from .dot import Arrow, Box, Drawing

_DEEPEST = 40  # levels of indentation


def text_tree(drawing: Drawing, note: str = "") -> str:
    """The boxes from the outputs down to the leaves; one that is met again is named, not repeated. A trailing * marks highlights."""
    boxes = {box.id: box for box in drawing.boxes}
    into: dict[str, list[Arrow]] = {box.id: [] for box in drawing.boxes}
    for arrow in drawing.arrows:
        if arrow.kind != "saved":
            into[arrow.target].append(arrow)
    lines = note.split("\n") if note else []
    if drawing.legend:
        title = drawing.legend_title.replace("\n", " ")
        lines.append(f"{title}: {'; '.join(text for text, _ in drawing.legend)}")
    seen: set[str] = set()
    ends = drawing.outputs or [box.id for box in drawing.boxes if not any(a.source == box.id for a in drawing.arrows)]
    stack = [(output, 0, "") for output in reversed(ends)]
    while stack:
        box_id, level, argument = stack.pop()
        again = box_id in seen and bool(into[box_id])
        lines.append(_line(boxes[box_id], drawing, level, argument) + (" (above)" if again else ""))
        if not again:
            seen.add(box_id)
            stack.extend((arrow.source, level + 1, arrow.argument) for arrow in reversed(into[box_id]))
    return "\n".join(lines) + "\n"


def _line(box: Box, drawing: Drawing, level: int, argument: str) -> str:
    prefix = f"{argument}: " if argument else ""
    frames = [drawing.clusters[c].label for c in box.place if drawing.clusters[c].count > 1]
    name, *rest = box.text or [box.id]
    if box.kind in ("input", "parameter") and rest:  # a leaf and its type in one breath
        name, rest = f"{name} {rest[0]}", rest[1:]
    details = ", ".join([name, *rest, *frames])
    return f"{'  ' * min(level, _DEEPEST)}{prefix}{details} [{box.id}]{' *' if box.highlighted else ''}"


__all__ = ["text_tree"]
