"""Operator packages for tests: written into a folder as pip would leave them, and used by a new interpreter."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path


def install(site: Path, package: str, text: str, target: str | None = None) -> None:
    """A package in `site` as pip leaves it: a module and the metadata that names its entry point."""
    module = package.replace("-", "_")
    (site / f"{module}.py").write_text(textwrap.dedent(text))
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[tinygrad_cv.ops]\n{module} = {target or module}\n")


def run(site: Path, program: str) -> str:
    """The output of a program in a new interpreter that sees the packages in `site`. Warnings are errors unless caught."""
    text = f"import sys\nsys.path.insert(0, {str(site)!r})\n" + textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-W", "error", "-c", text], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
