"""`pytest --tg-ops` and `tinygrad-cv check`: an operator package tested with nothing to write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from plugin_packages import install

pytest.importorskip("hypothesis")

TWO = """
    import numpy as np
    import tinygrad_cv as tg
    from tinygrad_cv.extend import Array, Elementwise, Real, elementwise, op

    @op("softsquare", domain=elementwise(Real()), formula="input^2 / (1 + input^2)")
    class softsquare(Elementwise):
        '''input^2 / (1 + input^2).'''

        def reference(input: Array):
            return input * input / (1 + input * input)

        def grad_input(upstream, input):
            below = 1 + input * input
            return upstream * (2 * input / (below * below))

    @op("tripled", domain=elementwise(Real()), formula="3 input")
    class tripled(Elementwise):
        '''3 input.'''

        def reference(input: Array):
            return input * 3

        def grad_input(upstream):
            return upstream * FACTOR
"""


def started(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of Python's in `folder`, which sees the packages installed there."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )


def pytest_on(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return started(folder, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *arguments)


def test_every_operator_of_a_package_is_a_test(tmp_path: Path) -> None:
    install(tmp_path, "My-Ops", TWO.replace("FACTOR", "3"))
    (tmp_path / "test_other.py").write_text("def test_beside_them():\n    pass\n")
    done = pytest_on(tmp_path, "-v", "--tg-ops", "my_ops.*", "--tg-report", "report.json")
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        "tg-ops::my_ops::softsquare PASSED",
        "tg-ops::my_ops::tripled PASSED",
        "test_other.py::test_beside_them PASSED",
    ):
        assert line in done.stdout
    assert "3 passed" in done.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["passed"] and report["profile"] == "quick"
    by_name = {o["name"]: o for o in report["operators"]}
    assert set(by_name) == {"softsquare", "tripled"}
    assert by_name["softsquare"]["examples"] == 12 and by_name["softsquare"]["provider"] == "My-Ops"
    assert by_name["softsquare"]["checks"]["second derivative"] > 0 and by_name["softsquare"]["seconds"] > 0


def test_a_rule_off_by_a_thousandth_fails_by_name(tmp_path: Path) -> None:
    install(tmp_path, "my-ops", TWO.replace("FACTOR", "3.003"))
    done = pytest_on(tmp_path, "--tg-ops", "my_ops", "--tg-report", "report.json")
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout and "tg-ops::my_ops.tripled" in done.stdout
    assert "wrong gradient for input 0" in done.stdout and "To repeat it:" in done.stdout
    assert "Traceback" not in done.stdout, "the check's message stands alone"
    report = json.loads((tmp_path / "report.json").read_text())
    failed = next(o for o in report["operators"] if o["name"] == "tripled")
    assert not report["passed"] and not failed["passed"] and "wrong gradient" in failed["failure"]


def test_a_pattern_that_matches_nothing_is_wrong_use(tmp_path: Path) -> None:
    install(tmp_path, "my-ops", TWO.replace("FACTOR", "3"))
    done = pytest_on(tmp_path, "--tg-ops", "my_op.*")
    assert done.returncode == 4
    assert "no operator matches 'my_op.*'; packages with operators: my-ops, tinygrad_cv" in done.stderr


def test_without_the_option_pytest_is_as_before(tmp_path: Path) -> None:
    install(tmp_path, "my-ops", "raise RuntimeError('nobody asked for it')")
    (tmp_path / "test_one.py").write_text(
        "import sys\ndef test_one():\n    assert 'my_ops' not in sys.modules and 'numba' not in sys.modules\n"
    )
    assert "1 passed" in pytest_on(tmp_path).stdout


def test_the_command_checks_a_package(tmp_path: Path) -> None:
    install(tmp_path, "my-ops", TWO.replace("FACTOR", "3"))
    done = started(tmp_path, "-m", "tinygrad_cv.cli", "check", "my_ops", "--examples", "4", "--report", "report.json")
    assert done.returncode == 0, done.stderr
    assert "ok      my_ops.softsquare" in done.stdout and "2 operators, 8 examples" in done.stdout
    assert json.loads((tmp_path / "report.json").read_text())["operators"][0]["examples"] == 4


def test_the_command_fails_with_the_message(tmp_path: Path) -> None:
    install(tmp_path, "my-ops", TWO.replace("FACTOR", "3.003"))
    done = started(tmp_path, "-m", "tinygrad_cv.cli", "check", "my_ops.tripled", "softsquare")
    assert done.returncode == 1
    assert "FAILED  my_ops.tripled" in done.stdout and "1 FAILED (tripled)" in done.stdout
    wrong = started(tmp_path, "-m", "tinygrad_cv.cli", "check", "nobody.*")
    assert wrong.returncode == 1 and "no operator matches" in wrong.stderr


def test_mutants_of_a_package(tmp_path: Path) -> None:
    install(tmp_path, "my-ops", TWO.replace("FACTOR", "3"))
    done = started(tmp_path, "-m", "tinygrad_cv.cli", "check", "my_ops", "--examples", "2", "--mutate")
    assert done.returncode == 0, done.stdout
    assert "100.00 % of the counted ones killed" in done.stdout and "2 operators" in done.stdout
