"""`tinygrad-cv new-op` writes a package that passes its own tests as it is, or writes nothing."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugin_packages import command, install_project

from tinygrad_cv.cli import main, new_op


def test_the_package_passes_its_own_tests_untouched(tmp_path: Path) -> None:
    """Installed as pip leaves it, and tested from a folder of its own."""
    pytest.importorskip("numba")
    project = new_op.create("hard_gate", tmp_path / "projects")
    site = tmp_path / "site"
    site.mkdir()
    install_project(site, project)
    (project / "hard_gate_ops").rename(project / "only_the_installed_one_is_tested")
    done = command(site, project, "-m", "pytest", "-rs", "-p", "no:cacheprovider")
    assert done.returncode == 0 and ("4 passed" in done.stdout or "2 passed, 2 skipped" in done.stdout), (
        done.stdout + done.stderr
    )
    assert "skipped" not in done.stdout or "NVVM, which compiles for NVIDIA's GPUs, is not installed" in done.stdout
    done = command(site, tmp_path, "-m", "tinygrad_cv", "check", "hard_gate_ops", "--examples", "3")
    assert done.returncode == 0 and done.stdout.startswith("ok      hard_gate_ops.hard_gate"), done.stdout + done.stderr


def test_the_package_installs_with_pip(tmp_path: Path) -> None:
    for needed in ("pip", "setuptools"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    project = new_op.create("hard_gate", tmp_path)
    site = tmp_path / "site"
    arguments = ["install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(site), str(project)]
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    program = "import tinygrad_cv as tg; print(tg.ones(2).hard_gate().tolist(), tg.ops.get('hard_gate').provider)"
    done = command(site, tmp_path, "-W", "error", "-c", program, TINYGRAD_CV_JIT="0")
    assert done.stdout.strip() == "[0.5, 0.5] hard-gate-ops", done.stderr


def test_a_small_mistake_in_the_rule_is_noticed(tmp_path: Path) -> None:
    """0.1 % off: the written test fails, and says whose operator it is, where, and by how much."""
    project = new_op.create("hard_gate", tmp_path / "projects")
    operators = project / "hard_gate_ops" / "operators.py"
    text = operators.read_text()
    assert text.count("2.0 * scale") == 1
    operators.write_text(text.replace("2.0 * scale", "2.002 * scale"))
    site = tmp_path / "site"
    site.mkdir()
    install_project(site, project)
    done = command(site, project, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_hard_gate.py", TINYGRAD_CV_JIT="0")
    assert done.returncode == 1 and "hard_gate (hard-gate-ops)" in done.stdout, done.stdout + done.stderr
    assert "wrong gradient" in done.stdout and "relative error 0.001" in done.stdout


def test_the_command_says_what_it_wrote_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-op", "hard_gate", "--directory", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{tmp_path / 'hard_gate'}/\n  README.md\n  hard_gate_ops/__init__.py\n")
    assert out.endswith(
        f"next:\n  cd {tmp_path / 'hard_gate'}\n  pip install -e .\n  pytest\n  tinygrad-cv check hard_gate_ops\n"
    )
    assert main(["new-op", "soft_gate", "--directory", str(tmp_path / "deeper" / "down"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["folder"] == str(tmp_path / "deeper" / "down" / "soft_gate")
    assert all((Path(told["folder"]) / name).is_file() for name in told["files"]) and len(told["files"]) == 8
    facts = tomllib.loads((tmp_path / "hard_gate" / "pyproject.toml").read_text())
    assert facts["project"]["entry-points"]["tinygrad_cv.ops"] == {"hard_gate_ops": "hard_gate_ops"}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("HardGate", "lower-case letters"),
        ("2d_gate", "a letter first"),
        ("../gate", "lower-case letters"),
        ("größe", "lower-case letters"),
        ("", "lower-case letters"),
        ("gate_", "end with an underscore"),
        ("a__b", "no two underscores"),
        ("a" * 61, "at most 60 characters"),
        ("lambda", "a keyword of Python"),
        ("print", "Python has a function or module of that name"),
        ("exp", "package tinygrad_cv has an operator of that name"),
        ("multiply", "package tinygrad_cv has an operator of that name"),
        ("backward", "Tensor has an attribute of that name"),
        ("nn", "tinygrad_cv has an attribute of that name"),
        ("upstream", "the files that new-op writes use that name"),
    ],
)
def test_names_that_cannot_be_are_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, why: str
) -> None:
    assert main(["new-op", "--directory", str(tmp_path / "new"), "--", name]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"tinygrad-cv: error: new-op: {name!r} cannot be the name of a new operator: ") and why in error
    assert list(tmp_path.iterdir()) == []


def test_a_name_whose_package_exists_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hard_gate_ops.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    with pytest.raises(ValueError, match="a package hard_gate_ops is installed"):
        new_op.create("hard_gate", tmp_path / "new")


def test_an_existing_folder_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "hard_gate").mkdir()
    with pytest.raises(FileExistsError, match=r"new-op: .*hard_gate exists already"):
        new_op.create("hard_gate", tmp_path)
    (tmp_path / "soft_gate").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="exists already"):
        new_op.create("soft_gate", tmp_path)
    assert list((tmp_path / "hard_gate").iterdir()) == [] and len(list(tmp_path.iterdir())) == 2


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    write = Path.write_text

    def full(path: Path, text: str, **options: str) -> int:
        written.append(path)
        if len(written) == 5:
            raise OSError(28, "No space left on device")
        return write(path, text, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match=r"new-op: cannot write .*: No space left on device"):
        new_op.create("hard_gate", tmp_path / "new" / "deeper")
    assert len(written) == 5 and list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the administrator may write anywhere")
def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="new-op: cannot write"):
        new_op.create("hard_gate", tmp_path)


@given(st.from_regex(r"[a-z][a-z0-9]*(_[a-z0-9]+){0,3}", fullmatch=True).filter(lambda n: len(n) <= 60))
def test_whatever_name_is_accepted_the_files_are_python(name: str) -> None:
    try:
        new_op.check_name(name)
    except ValueError:
        return
    for place, text in new_op.render(name).items():
        assert "$" not in text
        if place.endswith(".py"):
            compile(ast.parse(text), place, "exec")
        if place.endswith(".toml"):
            tomllib.loads(text)


def test_templates_are_part_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["package-data"]["tinygrad_cv.cli"] == ["templates/*"]
    assert len(new_op.render("hard_gate")) == 8


def test_the_tutorial_shows_the_files_as_they_are_written() -> None:
    tutorial = (Path(__file__).parent.parent / "docs" / "plugins.md").read_text()
    texts = new_op.render("hard_gate")
    blocks = [
        ("tests/test_hard_gate.py", "from tinygrad_cv.testing"), ("hard_gate_ops/operators.py", "import numpy"),
        ("hard_gate_ops/cpu.py", "@kernel"), ("hard_gate_ops/__init__.py", "from tinygrad_cv.extend"),
    ]  # fmt: skip
    for place, start in blocks:
        text = texts[place]
        assert f"```\n{text[text.index(start) :]}```\n" in tutorial, place
    assert "\n".join(f"  {place}" for place in sorted(texts)) in tutorial
