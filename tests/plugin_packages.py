"""Operator packages for tests: written into a folder as pip would leave them, and used by a new interpreter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import tomllib
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
    done = subprocess.run([sys.executable, "-W", "error", "-c", text], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def install_project(site: Path, project: Path) -> None:
    """The packages of a project in `site`, with the metadata that its pyproject.toml gives them, as pip leaves them."""
    facts = tomllib.loads((project / "pyproject.toml").read_text())
    name, version = facts["project"]["name"], facts["project"]["version"]
    for package in facts["tool"]["setuptools"]["packages"]:
        shutil.copytree(project / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = facts["project"]["entry-points"].items()
    lines = [line for group, points in groups for line in (f"[{group}]", *(f"{n} = {v}" for n, v in points.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def command(site: Path, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python *arguments` in `folder`, by an interpreter that sees the packages in `site`."""
    settings = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=settings, capture_output=True, text=True, timeout=300)
