"""What stands in a box and on an arrow of a picture, and what appears when the mouse rests on it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_cv.graph import GraphEdge, GraphNode
from tinygrad_cv.registry import find

_MOST_NUMBERS = 6
_WINDOWS = ("kernel_size", "stride", "padding", "dilation", "output_padding", "output_size")
_SHAPES = ("shape", "size", "sizes", "repeats")
_PLAIN = (int, float, str, bool, type(None))


def type_text(shape: tuple[int, ...], dtype: str) -> str:
    """Shape and dtype, as in "(32, 10) float32"; of a scalar the dtype alone."""
    return f"{shape} {dtype}" if shape else dtype


def node_lines(node: GraphNode, shown_as: str = "") -> list[str]:
    """The text of a box: name and operator, its settings, shape and dtype. shown_as: what to call the operator."""
    if node.kind == "number":
        return [node.name or ""]
    if node.kind == "operator":
        op = shown_as or node.op
        lines = [f"{node.name} = {op}" if node.name else op, settings_text(node)]
    else:
        lines = [node.name or node.kind]
    lines.append(type_text(node.shape, node.dtype))
    if "memory" in node.attributes:  # of a compiled plan: when it is free again
        lines.append(str(node.attributes["memory"]))
    return lines


def settings_text(node: GraphNode) -> str:
    """The attributes that differ from the operator's defaults, as in "stride 2, padding 1"; (2, 2) is written 2."""
    operator = find(node.op)
    defaults = {}
    if operator is not None:
        defaults = {
            n: p.default for n, p in operator.own_signature.parameters.items() if p.default is not inspect.Parameter.empty
        }
    parts = []
    for name, value in node.attributes.items():
        value = _written(name, value)
        if name == "memory" or value is None or (name in defaults and value == _written(name, defaults[name])):
            continue
        if name == "dim" and node.shape == () and value in (0, tuple(range(len(value) if isinstance(value, tuple) else 0))):
            continue  # all axes
        if name == "stride" and value == _written("kernel_size", node.attributes.get("kernel_size")):
            continue  # pooling's default
        parts.append(f"{name} {value}")
    text = ", ".join(parts)
    return text if len(text) <= 48 else text[:45] + "..."


def _written(name: str, value: Any) -> Any:
    """The value of attribute `name` as it is written: sizes of windows alike in all directions as one number, shapes in full."""
    plain = _plain(value)
    if isinstance(plain, tuple) and plain and (name in _WINDOWS or (len(plain) == 1 and name not in _SHAPES)):
        return plain[0] if all(p == plain[0] for p in plain) else plain
    return plain


def _plain(value: Any) -> Any:
    """`value` as it is written in a box, None where it has no short form (arrays, functions)."""
    if isinstance(value, (tuple, list)):
        parts = [_plain(v) for v in value]
        if any(p is None and v is not None for p, v in zip(parts, value, strict=True)):
            return None
        return tuple(parts)
    if isinstance(value, slice):
        return ":".join("" if v is None else str(v) for v in (value.start, value.stop, value.step)[: 3 if value.step else 2])
    if isinstance(value, (np.dtype, np.generic)):
        return str(value)
    return value if isinstance(value, _PLAIN) else ("..." if value is Ellipsis else None)


def array_text(array: np.ndarray, width: int = 40) -> str:
    """A few numbers written out, many as mean and standard deviation. A mean that is round-off beside the deviation is 0."""
    if array.size == 0:
        return "empty"
    if array.dtype.kind == "b":
        return f"{int(array.sum())} of {array.size} true" if array.size > _MOST_NUMBERS else str(array.tolist())
    if array.size > _MOST_NUMBERS:
        mean, deviation = array.mean(), array.std()
        rounded = array.dtype.kind == "f" and abs(mean) <= np.finfo(array.dtype).eps * deviation
        return f"mean {0 if rounded else mean:.4g}, std {deviation:.4g}"
    if array.ndim == 0:
        return f"{array:.6g}" if array.dtype.kind == "f" else str(array)
    return np.array2string(array, precision=4, separator=", ", max_line_width=width).replace("\n", "")


def node_tooltip(node: GraphNode) -> str:
    """Formula, module, source line."""
    parts = [f"{node.op}: {node.formula}" if node.formula else node.op or node.kind]
    if node.scope:
        parts.append(f"in {node.scope}")
    if node.source is not None:
        file, line, function = node.source
        parts.append(f"{Path(file).name}:{line} in {function}")
    if node.saved:
        parts.append(f"keeps {', '.join(dict.fromkeys(node.saved))} for backward")
    return "; ".join(parts)


def edge_label(edge: GraphEdge, source: GraphNode, inputs: int, outputs: int) -> str:
    """The argument, where there are several `inputs` and the source's name does not say it; which output, where several are used."""
    parts = []
    own_name = source.kind == "parameter" and (source.name or "").rpartition(".")[2] == edge.argument
    if inputs > 1 and not own_name:
        parts.append(edge.argument)
    if edge.output or outputs > 1:  # boxes show the first output's shape
        parts.append(f"output {edge.output} {edge.shape}")
    return ", ".join(parts)


def edge_tooltip(edge: GraphEdge) -> str:
    """Position, name, shape and dtype of the argument."""
    return f"argument {edge.position}, {edge.argument}: {type_text(edge.shape, edge.dtype)}"


__all__ = ["array_text", "edge_label", "edge_tooltip", "node_lines", "node_tooltip", "settings_text", "type_text"]
