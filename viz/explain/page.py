"""One HTML text from the data of a page and the files in static/: nothing in it asks the network for anything.

The Content-Security-Policy allows the one script and the one style sheet of the page by their hashes, pictures that the page draws
itself (`data:`), and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from functools import cache
from importlib.resources import files
from typing import Any

# In this order; views/ come before main.js.
_SCRIPTS = (
    "base.js", "numbers.js", "tensors.js", "mathml.js", "views.js", "layout_ranks.js", "layout.js", "compound.js", "model.js",
    "thumbnails.js", "boxes.js", "diagram.js", "heatmap.js", "table.js", "inspector.js", "panel.js", "quiz.js", "player.js", "viewport.js",
)  # fmt: skip
_STYLES = ("page.css", "diagram.css", "panels.css")


def render_page(data: dict[str, Any]) -> str:
    """The page as one HTML text. The same data gives the same text."""
    script, style, body = _static()
    payload = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    rules = [
        f"script-src '{_hash(script)}'",
        f"style-src '{_hash(style)}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    policy = "; ".join(["default-src 'none'", *rules])
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{html.escape(_printable(data['title']))}, step by step</title>",
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            body,
            f'<script type="application/json" id="page-data">{payload}</script>',
            f"<script>{script}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _printable(text: str) -> str:
    """Without characters that HTML forbids, and without lone surrogates, which no file can hold."""
    return "".join(c if c >= " " and not 0xD800 <= ord(c) <= 0xDFFF else "\ufffd" for c in text)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _static() -> tuple[str, str, str]:
    """The script, the style sheet and the body."""
    folder = files(__package__) / "static"
    views = sorted((f for f in (folder / "views").iterdir()), key=lambda f: f.name)
    scripts = [(folder / name).read_text("utf-8") for name in _SCRIPTS]
    scripts += [f.read_text("utf-8") for f in views if f.name.endswith(".js")]
    scripts.append((folder / "main.js").read_text("utf-8"))
    styles = [(folder / name).read_text("utf-8") for name in _STYLES]
    styles += [f.read_text("utf-8") for f in views if f.name.endswith(".css")]
    script, style = "\n" + "\n".join(scripts), "\n" + "\n".join(styles)
    if "</script" in script.lower() or "</style" in style.lower():
        raise ValueError("explain: a static file would end its own element; write '<\\/script' in strings")
    return script, style, (folder / "body.html").read_text("utf-8").strip()
