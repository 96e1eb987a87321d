"""`tinygrad-cv new-op`: an operator package to start from, which passes its own tests as it is written."""

from __future__ import annotations

import argparse
import ast
import builtins
import importlib.util
import json
import keyword
import os
import re
import shutil
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from . import add_command

_FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "package.py": "{package}/__init__.py",
    "operators.py": "{package}/operators.py",
    "cpu.py": "{package}/cpu.py",
    "cuda.py": "{package}/cuda.py",
    "test_operator.py": "tests/test_{name}.py",
    "test_cuda_kernel.py": "tests/test_cuda_kernel.py",
}


def add_commands(commands: Any) -> None:
    """Registers `new-op`."""
    parser = add_command(
        commands,
        "new-op",
        "write a package with an operator of your own: reference, backward rule, kernels and tests",
        ["new-op hard_gate", "new-op hard_gate --directory ~/operators"],
    )
    parser.add_argument("name", metavar="NAME", help="name of the operator, as in tg.NAME; the package is called NAME_ops")
    parser.add_argument(
        "--directory", type=Path, default=Path("."), metavar="DIR", help="where the folder NAME is made (default: here)"
    )
    parser.set_defaults(run=new_op)


def new_op(options: argparse.Namespace) -> int:
    """Writes the package and says what to do next."""
    folder = create(options.name, options.directory)
    written = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    if options.json:
        print(json.dumps({"folder": str(folder), "files": written}))
        return 0
    print(f"{folder}/\n" + "\n".join(f"  {name}" for name in written))
    print(f"\nnext:\n  cd {folder}\n  pip install -e .\n  pytest\n  tinygrad-cv check {options.name}_ops")
    return 0


def create(name: str, directory: Path) -> Path:
    """Writes the package of operator `name` into `directory`/`name`, all of it or nothing, and returns that folder.

    ValueError for a name that cannot be an operator's or is taken, FileExistsError where something has the folder's name, OSError where
    it cannot be written. All of that is found out before anything is written.
    """
    check_name(name)
    folder = directory.expanduser() / name
    if os.path.lexists(folder):
        raise FileExistsError(f"new-op: {folder} exists already; remove it, or choose another name or --directory")
    texts = render(name)
    created = [p for p in (folder.parent, *folder.parent.parents) if not p.exists()]  # inner ones first
    partial: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
        partial.chmod(0o755)
        for place, text in texts.items():
            path = partial / place
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        os.rename(partial, folder)
    except BaseException as error:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
        for made in created:
            if made.is_dir() and not any(made.iterdir()):
                made.rmdir()
        if isinstance(error, OSError):
            raise OSError(f"new-op: cannot write {folder}: {error.strerror or error}") from None
        raise
    return folder


def render(name: str) -> dict[str, str]:
    """The files of the package of operator `name`: path to text."""
    from ..registry import API_VERSION

    package = f"{name}_ops"
    values = {"name": name, "package": package, "distribution": package.replace("_", "-"), "api": str(API_VERSION)}
    templates = files(__package__) / "templates"
    return {
        place.format(name=name, package=package): Template(
            (templates / f"{source}.txt").read_text(encoding="utf-8")
        ).substitute(values)
        for source, place in _FILES.items()
    }


def check_name(name: str) -> None:
    """ValueError, saying why, for a name that the operator of a new package cannot have."""
    problem = _spelling(name) or _owner(name)
    if problem:
        raise ValueError(f"new-op: {name!r} cannot be the name of a new operator: {problem}")


def _spelling(name: str) -> str | None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        return "use lower-case letters, digits and underscores, with a letter first, as in hard_gate"
    if name.endswith("_"):
        return "names that end with an underscore are those of in-place forms"
    if "__" in name or len(name) > 60:
        return "no two underscores in a row, and at most 60 characters"
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return "it is a keyword of Python"
    if hasattr(builtins, name) or name in sys.stdlib_module_names:
        return "Python has a function or module of that name"
    return None


def _owner(name: str) -> str | None:
    import tinygrad_cv as tg

    from ..registry import find

    operator = find(name)
    if operator is not None:
        return f"package {operator.provider} has an operator of that name"
    if hasattr(tg, name) or hasattr(tg.Tensor, name):
        return f"{'tinygrad_cv' if hasattr(tg, name) else 'Tensor'} has an attribute of that name"
    if name in _used():
        return "the files that new-op writes use that name for something else"
    if importlib.util.find_spec(f"{name}_ops") is not None:
        return f"a package {name}_ops is installed, which is what its package would be called"
    return None


def _used() -> set[str]:
    """The names that the written Python files use, whatever the operator is called."""
    found: set[str] = set()
    for place, text in render("operator_name_").items():
        for node in ast.walk(ast.parse(text)) if place.endswith(".py") else ():
            for field in ("id", "arg", "attr", "name", "asname", "module"):
                found.add(getattr(node, field, None) or "")
    return {part for name in found for part in name.split(".")} - {"operator_name_"}


__all__ = ["add_commands", "check_name", "create", "render"]
