"""The gallery of the documentation: `python -m tinygrad_cv.viz.gallery docs/gallery`.

For each example its lines, a picture (SVG), a step-through page (HTML), and what to see, on one page, README.md. Two runs write the
same files, byte for byte, on one machine; the pages, which all hold the whole player, are left out with `--no-pages`.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tinygrad_cv as tg
from tinygrad_cv import Tensor
from tinygrad_cv.files import write_atomically

from .explain import explain
from .gallery_examples import EXAMPLES, Example
from .graph_picture import Picture, draw

_HEAD = """# Gallery

Each picture is the graph of the lines above it, with values in green and gradients in red and slanted where they are few. The last
line of each writes a page that plays the same graph forward and backward, one step at a time: open it in a browser. All the
pages and pictures, and this text, are made by

```
python -m tinygrad_cv.viz.gallery docs/gallery
```

The pages are not kept in the repository, since each holds the whole player.
"""
_IMPORTS = {
    "tg": "import tinygrad_cv as tg",
    "data": "data", "models": "models", "nn": "nn", "optim": "optim",
    "F": "from tinygrad_cv.nn import functional as F",
}  # fmt: skip


def lines_of(example: Example) -> str:
    """The source of an example, without its first and last line."""
    body = inspect.getsource(example.make).split("\n", 1)[1]
    return textwrap.dedent(body).rstrip().removesuffix("return locals()").rstrip()


def block_of(example: Example) -> str:
    """A block of Python that runs as it stands: imports, the seed where it matters, the lines, and the page."""
    lines = lines_of(example)
    page = f'tg.viz.explain({example.result}, "{example.name}.html")'
    used = [name for name in _IMPORTS if re.search(rf"\b{name}\.", f"{lines}\n{page}")]
    parts = [_IMPORTS[name] for name in used if " " not in _IMPORTS[name]]
    imports = [_IMPORTS["tg"], *([f"from tinygrad_cv import {', '.join(parts)}"] if parts else [])]
    imports += [_IMPORTS["F"]] if "F" in used else []
    seed = ["tg.manual_seed(0)"] if re.search(r"\b(randn|models\.|nn\.)", lines) else []
    return "\n".join([*imports, "", *seed, lines, page])


def run(example: Example) -> tuple[Tensor, dict[str, Tensor]]:
    """The result of an example and its other variables by name, from seed 0."""
    tg.manual_seed(0)
    variables = example.make()
    tensors = {name: value for name, value in variables.items() if isinstance(value, Tensor)}
    return tensors[example.result], tensors


def picture(example: Example) -> Picture:
    """The drawing of an example."""
    result, names = run(example)
    return draw(result, names=names, **example.drawing)


def build(folder: str | Path, names: Sequence[str] | None = None, pages: bool = True) -> list[Path]:
    """Writes the gallery into `folder` and returns the files in the order they were written.

    names: only these examples, without README.md (default: all, with it). pages: also the step-through pages.
    ValueError for a name that no example has. RenderError, before anything is written, where pictures cannot be made.
    """
    known = {e.name: e for e in EXAMPLES}
    unknown = [n for n in names or () if n not in known]
    if unknown:
        raise ValueError(f"gallery: no example is called {unknown[0]!r}; there are {', '.join(known)}")
    folder = Path(folder)
    written: list[Path] = []
    for example in [known[n] for n in names] if names else EXAMPLES:
        result, tensors = run(example)
        drawing = draw(result, names=tensors, **example.drawing)
        drawing.save(folder / f"{example.name}.svg")
        written.append(folder / f"{example.name}.svg")
        if pages:
            explain(result, folder / f"{example.name}.html", names=tensors, title=example.title)
            written.append(folder / f"{example.name}.html")
    if not names:
        write_atomically(folder / "README.md", index().encode())
        written.append(folder / "README.md")
    return written


def index() -> str:
    """The text of README.md."""
    entries = [
        f"## {e.title}\n\n```python\n{block_of(e)}\n```\n\n![{e.title}]({e.name}.svg)\n\n{textwrap.fill(e.see, 120)}\n"
        for e in EXAMPLES
    ]
    return "\n".join([_HEAD, *entries])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: a folder, names of examples, --no-pages."""
    parser = argparse.ArgumentParser(
        prog="python -m tinygrad_cv.viz.gallery", description="Build the gallery of the documentation."
    )
    parser.add_argument("folder", help="where to write it, such as docs/gallery")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these examples (default: all)")
    parser.add_argument("--no-pages", action="store_true", help="pictures only, without the step-through pages")
    options: Any = parser.parse_args(arguments)
    try:
        written = build(options.folder, options.names, pages=not options.no_pages)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"gallery: error: {error}", file=sys.stderr)
        return 1
    for path in written:
        print(f"{path}  {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

__all__ = ["block_of", "build", "index", "lines_of", "main", "picture", "run"]
