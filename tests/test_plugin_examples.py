"""The example plugins, installed away from the repository: everything finds them, with no edit anywhere, and they pass their own tests."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from plugin_packages import command, install_project, run

import tinygrad_cv as tg
from tinygrad_cv import extend

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("plugin_*"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of all examples, as pip leaves them."""
    folder = tmp_path_factory.mktemp("site")
    for project in EXAMPLES:
        install_project(folder, project)
    return folder


def test_there_are_an_elementwise_and_a_structured_one() -> None:
    assert [p.name for p in EXAMPLES] == ["plugin_deform_conv", "plugin_squareplus"]


@pytest.mark.parametrize("project", EXAMPLES, ids=lambda p: p.name)
def test_they_pass_their_own_tests(project: Path, site: Path) -> None:
    pytest.importorskip("numba")
    tests = site / f"tests of {project.name}"
    tests.mkdir()
    done = command(site, tests, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-q", str(project / "tests"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("project", EXAMPLES, ids=lambda p: p.name)
def test_they_import_extend_and_nothing_else_of_the_package(project: Path) -> None:
    packages = {p.name for p in project.glob("*_ops")}
    for path in (file for package in packages for file in (project / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
                assert all(n == "tinygrad_cv" or not n.startswith("tinygrad_cv") for n in names), (path, names)
            if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").startswith("tinygrad_cv"):
                assert node.module == "tinygrad_cv.extend", path
                assert {alias.name for alias in node.names} <= set(extend.__all__), path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tg":
                own = node.attr.startswith("deform_")
                assert own or node.attr in tg.__all__ or not tg.ops.get(node.attr).internal, (path, node.attr)


def test_they_are_in_lists_and_documents(site: Path) -> None:
    out = run(site, """
        import tinygrad_cv as tg
        rows = {row["name"]: row for row in tg.ops.list_ops()}
        for name in ("squareplus", "deform_conv2d", "deform_sample"):
            row = rows[name]
            print(name, row["provider"], row["kind"], row["devices"], row["internal"])
        assert "squareplus" in dir(tg) and "deform_sample" not in dir(tg) and "deform_conv2d" in dir(tg.ops)
        assert "a relu whose corner at 0 is rounded" in tg.squareplus.__doc__
        import inspect
        print(inspect.signature(tg.deform_conv2d))
        from tinygrad_cv.cli import main
        assert main(["ops", "--search", "squareplus"]) == 0
    """)  # fmt: skip
    lines = out.splitlines()
    assert lines[:3] == [
        "squareplus squareplus-ops elementwise ('cpu',) False",
        "deform_conv2d deform-conv-ops composite () False",
        "deform_sample deform-conv-ops structured ('cpu', 'cuda') True",
    ]
    assert lines[3].startswith("(input, offset, weight, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), mask=None")
    assert "squareplus" in "".join(lines[4:]) and "(input + sqrt(input^2 + b)) / 2" in "".join(lines[4:])


def test_they_are_tensor_methods_also_in_place(site: Path) -> None:
    out = run(site, """
        import tinygrad_cv as tg
        x = tg.tensor([0.0, 1.5], requires_grad=True)
        print(x.squareplus().tolist(), x.detach().squareplus_(b=0.0).tolist())
        image, offset, weight = tg.ones(1, 1, 3, 3), tg.zeros(1, 2, 3, 3), tg.ones(1, 1, 1, 1)
        print(image.deform_conv2d(offset, weight).sum().item(), hasattr(x, "deform_sample"))
    """)  # fmt: skip
    assert out.splitlines() == ["[1.0, 2.0] [0.0, 1.5]", "9.0 False"]


def test_they_are_in_graphs_and_pictures(site: Path) -> None:
    out = run(site, """
        import tinygrad_cv as tg
        x = tg.ones(1, 2, 4, 4, requires_grad=True)
        offset, weight = tg.zeros(1, 8, 3, 3), tg.ones(3, 2, 2, 2)
        y = x.deform_conv2d(offset, weight).squareplus().sum()
        print(sorted({node.op for node in tg.graph.trace(y).nodes if node.op and ("deform" in node.op or "square" in node.op)}))
        text = tg.viz.draw(y).dot
        print("squareplus" in text, "deform_conv2d" in text or "deform_sample" in text)
    """)  # fmt: skip
    assert out.splitlines() == ["['deform_sample', 'squareplus']", "True True"]


def test_they_are_in_compiled_plans(site: Path) -> None:
    pytest.importorskip("numba")
    out = run(site, """
        import numpy as np
        import tinygrad_cv as tg

        def step(x, offset, weight):
            return (x.deform_conv2d(offset, weight, padding=1).squareplus() * 2.0 + 1.0).sum()

        tg.manual_seed(0)
        given = [tg.randn(1, 2, 16, 16), tg.rand(1, 18, 16, 16) * 0.5 + 0.2, tg.randn(3, 2, 3, 3)]
        compiled = tg.compile(step, fullgraph=True)
        for i in range(4):
            given[0] = given[0] + 0.01
            results = []
            for function in (step, compiled):
                leaves = [g.detach().clone().requires_grad_() for g in given]
                y = function(*leaves)
                y.backward()
                results.append([y.detach().numpy(), *(t.grad.numpy() for t in leaves)])
            for a, b in zip(*results):
                np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)
        print(tg.compiler.explain(compiled))
    """)  # fmt: skip
    assert "deform_sample" in out and "squareplus" in out, out
