"""How pictures look: fills, lines and text colours. Every kind of box has a shape of its own too, so that none needs its colour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Told apart without colour: operators are round-cornered boxes, parameters plain ones, inputs ellipses, modules three-dimensional.
SHAPES = {
    "operator": 'shape=box, style="rounded,filled"',
    "parameter": 'shape=box, style="filled"',
    "input": 'shape=ellipse, style="filled"',
    "number": 'shape=plaintext, style=""',
    "module": 'shape=box3d, style="filled"',
    "backward": 'shape=box, style="rounded,filled,dashed"',
    "backward module": 'shape=box3d, style="filled,dashed"',
    "gradient": 'shape=box, style="filled,dashed"',
}


@dataclass(frozen=True)
class Theme:
    """Colours of a picture, as #rrggbb. fills, lines: by kind of box (see `SHAPES`). value, grad: of the numbers in them.

    steps: a scale from little to much, light enough for black text (contrast above 7 to 1). A theme of your own is a copy of
    one of `THEMES` with some fields replaced: `dataclasses.replace(viz.THEMES["light"], background="#fffaf0")`.
    """

    background: str = "#ffffff"
    text: str = "#111111"
    muted: str = "#444444"
    frame: str = "#999999"
    edge: str = "#555555"
    gradient_edge: str = "#b3261e"
    value: str = "#1a6b2a"
    grad: str = "#b3261e"
    highlight: str = "#d6249f"
    highlight_fill: str = "#fde3f4"
    highlight_text: str = "#111111"
    font: str = "Helvetica"
    fills: Mapping[str, str] = field(
        default_factory=lambda: {
            "operator": "#dbe9fb",
            "parameter": "#dff3e0",
            "input": "#f3f3f3",
            "number": "",
            "module": "#fdf0d5",
            "backward": "#fdecea",
            "backward module": "#fbe3d6",
            "gradient": "#fdf3f2",
        }
    )
    lines: Mapping[str, str] = field(
        default_factory=lambda: {
            "operator": "#3b6fb6",
            "parameter": "#3c8d40",
            "input": "#777777",
            "number": "",
            "module": "#b07d1a",
            "backward": "#b3261e",
            "backward module": "#a8541b",
            "gradient": "#b3261e",
        }
    )
    steps: tuple[str, ...] = ("#fff7ec", "#fee8c8", "#fdd49e", "#fdbb84", "#fc9a66")


_KINDS = tuple(SHAPES)

THEMES: dict[str, Theme] = {
    "light": Theme(),
    # For a projector in a dark room: light text (contrast above 9 to 1 everywhere) on dark boxes.
    "dark": Theme(
        background="#16181d",
        text="#f2f2f2",
        muted="#c8c8c8",
        frame="#7d838c",
        edge="#b4bac4",
        gradient_edge="#ff9a8f",
        value="#8ee59b",
        grad="#ffa49a",
        highlight="#ff7ad9",
        highlight_fill="#4a1f40",
        highlight_text="#f2f2f2",
        fills=dict(zip(_KINDS, ("#1f3552", "#1d3d24", "#33363d", "", "#453716", "#4a2320", "#4a2c1a", "#3a2220"), strict=True)),
        lines=dict(zip(_KINDS, ("#7fb0f5", "#7fd08a", "#b4bac4", "", "#e2b34d", "#ff9a8f", "#f0a46c", "#ff9a8f"), strict=True)),
    ),
    # For paper without colour: white boxes, black lines; shapes, dashes and words carry everything.
    "print": Theme(
        text="#000000",
        muted="#000000",
        frame="#666666",
        edge="#000000",
        gradient_edge="#000000",
        value="#000000",
        grad="#000000",
        highlight="#000000",
        highlight_fill="#d9d9d9",
        highlight_text="#000000",
        fills={kind: "" if kind == "number" else "#ffffff" for kind in _KINDS},
        lines={kind: "" if kind == "number" else "#000000" for kind in _KINDS},
        steps=("#ffffff", "#f0f0f0", "#e0e0e0", "#cfcfcf", "#bdbdbd"),
    ),
}


def find_theme(theme: str | Theme) -> Theme:
    """The theme of this name, or the one given; ValueError naming the known ones otherwise."""
    if isinstance(theme, Theme):
        return theme
    if theme not in THEMES:
        raise ValueError(f"draw: theme must be one of {', '.join(map(repr, THEMES))} or a viz.Theme, got {theme!r}")
    return THEMES[theme]


__all__ = ["SHAPES", "THEMES", "Theme", "find_theme"]
