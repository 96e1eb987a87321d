"""check_gradients: both modes, any order, kinks declared and not, and a message whose program fails in the same way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv.autograd import Function, GradcheckError
from tinygrad_cv.testing import check_gradients

FACTOR = 1.001


class Planted(Function):
    """The square, whose backward is a thousandth too large in the second element."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        (x,) = ctx.saved_tensors
        return enlarged(2 * x * upstream)


def enlarged(gradient: Any) -> Any:
    scale = np.ones(gradient.shape)
    scale.flat[1] = FACTOR
    return gradient * tg.tensor(scale)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def failure(*args: Any, **options: Any) -> GradcheckError:
    with pytest.raises(GradcheckError) as caught:
        check_gradients(*args, **options)
    return caught.value


def test_it_says_what_was_compared_by_which_mode() -> None:
    result = check_gradients(lambda a, b: (a * b).exp(), (normal(2, 3), normal(3)))
    assert result == True and result.dtype == tg.float64  # noqa: E712
    # 9 elements; the second derivative is by both inputs and by the upstream gradient, of shape (2, 3)
    assert repr(result) == (
        "<check_gradients passed: reverse: 9 elements, forward: 9 elements; order 2 reverse: 15 elements, forward: 15 elements "
        "compared in float64>"
    )
    assert check_gradients(tg.exp, normal(4), 1, "forward").compared == 4
    # x; (x, u); (x, u, v); then both results of the third derivative have an upstream gradient
    assert check_gradients(tg.sin, normal(2), order=4, modes=["reverse"]).compared == 2 + 4 + 6 + 10


def test_above_the_size_limits_it_takes_directions_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    result = check_gradients(tg.tanh, normal(60, 50), order=1)
    assert "reverse: 8 directions, forward: 8 directions" in repr(result)
    assert "reverse: 101 elements, forward: 8 directions" in repr(check_gradients(tg.tanh, normal(101), order=1))
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    assert "along a random direction" in str(failure(Planted.apply, normal(60, 50), order=1))


def test_tensors_are_differentiated_where_they_ask_and_arrays_where_they_can() -> None:
    x = tg.tensor([0.3, -1.2], requires_grad=True)
    assert "2 elements" in repr(check_gradients(lambda a, b: a * b, (x, tg.tensor([1.0, 2.0])), 1))
    assert check_gradients(tg.gather, (normal(3), 0, np.array([0, 0, 2])), 1).compared == 6
    assert check_gradients(tg.masked_fill, (normal(3), np.array([True, False, True]), 0.5), 1).compared == 6
    assert (
        check_gradients(tg.nn.functional.conv2d, (normal(1, 2, 4, 4), normal(2, 2, 3, 3), normal(2)), 1, "reverse").compared
        == 70
    )


def test_float32_is_checked_in_float64_or_says_why_not() -> None:
    x = tg.tensor([0.3, -1.2], requires_grad=True)
    assert check_gradients(tg.tanh, x).dtype == tg.float64
    result = check_gradients(lambda a: a.float() * 2, x, 1)
    assert result.dtype == tg.float32 and "rounds to a lower precision" in repr(result)


def test_steps_and_tolerances_follow_the_magnitude() -> None:
    assert check_gradients(tg.log, np.array([1e-6, 1e-3, 1e3]))
    assert check_gradients(lambda a: 1 / a, np.array([1e-6, 1e4]), order=1)
    assert check_gradients(lambda a: 1e-9 * a.exp(), normal(3))
    assert failure(lambda a: 1e-9 * Planted.apply(a), normal(3)).kind == "wrong gradient"


def test_a_linear_function_has_no_derivative_of_order_three() -> None:
    assert check_gradients(lambda a: a.sum(), normal(3), order=3)
    assert check_gradients(lambda a: a * 2, normal(3), order=3)


# Modes -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_each_mode_alone_catches_a_wrong_rule(mode: str) -> None:
    error = failure(Planted.apply, normal(2, 2), 1, mode)
    assert (error.kind, error.input_index, error.element) == ("wrong gradient", 0, (0, 1))
    assert error.analytic == pytest.approx(FACTOR * error.numeric, rel=1e-6)


def test_a_rule_that_is_not_linear_in_its_upstream_gradient_is_caught_by_forward_mode() -> None:
    """u |u| / |u| is u, and has the slope of u, but a constant beside it has none: J v by two backward passes is then not J^T u."""

    class Constant(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 3

        @staticmethod
        def backward(ctx: Any, upstream: Any) -> Any:
            return 3 * upstream.detach()

    assert check_gradients(Constant.apply, normal(3), 1, ["reverse"])
    message = str(failure(Constant.apply, normal(3), 1, ["forward"]))
    assert "forward and reverse mode disagree for input 0: <u, J v> = 0.0, <J^T u, v> = " in message


def test_a_second_derivative_that_is_wrong_alone_is_caught() -> None:
    class Once(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx: Any, upstream: Any) -> Any:
            (x,) = ctx.saved_tensors
            return 3 * x.detach() ** 2 * upstream

    assert check_gradients(Once.apply, normal(3), 1)
    for mode in ("reverse", "forward"):
        assert "order 2" in str(failure(Once.apply, normal(3), 2, mode))


# Kinks -----------------------------------------------------------------------------------------------------------------------


def test_declared_kinks_are_avoided() -> None:
    x = np.array([0.0, 1.0, -0.001, 0.03])
    result = check_gradients(tg.relu, x)
    assert result.compared == 24 and "(2 moved away from declared kinks)" in repr(result)
    assert np.array_equal(x, [0.0, 1.0, -0.001, 0.03])
    assert "1 moved" in repr(check_gradients(lambda a: (a - 1).abs(), np.array([1.0, 2.0]), kinks=[1.0]))


def test_kinks_declared_in_words_are_left_out() -> None:
    result = check_gradients(tg.clamp_min, (np.array([1.0, 2.0, 0.5]), 1.0), 1)
    assert "reverse: 2 elements (1 more at declared kinks left out)" in repr(result)
    error = failure(tg.clamp_min, (np.array([1.0]), 1.0), 1)
    assert error.kind == "nothing compared" and "all elements lie at declared kinks" in str(error)


def test_an_undeclared_kink_is_told_from_a_wrong_gradient() -> None:
    error = failure(lambda a: tg.relu(a) * 1.7, np.array([0.5, 0.0]))
    assert error.kind == "likely kink" and "likely kink at index (1,) of input 0" in str(error)
    both = failure(lambda a: Planted.apply(a) + a.relu(), np.array([0.0, 1.3]))
    assert both.kind == "wrong gradient" and both.element == (1,)


# What cannot be compared -------------------------------------------------------------------------------------------------------


def test_nothing_to_compare_raises() -> None:
    with pytest.raises(ValueError, match="no input is differentiable"):
        check_gradients(tg.exp, tg.ones(3))
    with pytest.raises(ValueError, match="no input is differentiable"):
        check_gradients(tg.exp, np.arange(3))
    assert failure(lambda a: a.detach(), normal(3)).kind == "nothing compared"
    assert failure(tg.exp, normal(0)).kind == "nothing compared"
    assert failure(lambda a: a[:0] * 2, normal(3)).kind == "nothing compared"
    for modes in ("reverse", "forward"):
        assert failure(tg.log, np.array([0.0, 1.0]), modes=modes).kind == "not finite"


@pytest.mark.parametrize(("options", "words"), [
    ({"order": 0}, "order must be 1 or more"), ({"order": True}, "order must be"), ({"modes": ()}, "modes must be some of"),
    ({"modes": ["backward"]}, "'reverse', 'forward', got"),
])  # fmt: skip
def test_wrong_options_are_refused_before_any_work(options: dict[str, Any], words: str) -> None:
    calls: list[Any] = []
    with pytest.raises(ValueError, match=words):
        check_gradients(calls.append, normal(3), **options)
    assert not calls


def test_a_failure_can_be_asked_for_as_a_result() -> None:
    result = check_gradients(Planted.apply, normal(3), raise_exception=False)
    assert result == False and "check_gradients failed" in repr(result) and "wrong gradient" in repr(result)  # noqa: E712


# The message -------------------------------------------------------------------------------------------------------------------


def _repeats(error: GradcheckError, folder: Path) -> None:
    """The program in the message, in a file of its own and a fresh interpreter, raises the same first line."""
    told, program = str(error).split("\n\nTo repeat it, in an empty file:\n\n")
    (folder / "program.py").write_text(program)
    done = subprocess.run([sys.executable, "program.py"], capture_output=True, text=True, timeout=300, cwd=folder)
    assert done.returncode == 1 and f"GradcheckError: {told}" in done.stderr, done.stderr


def test_the_message_has_everything_and_its_program_repeats_it(tmp_path: Path) -> None:
    error = failure(Planted.apply, normal(2, 3), seed=5, modes=("reverse",))
    for part in ("Planted.apply", "wrong gradient for input 0 of shape (2, 3) at index (0, 1)", "analytic", "numeric", "absolute error",
                 "relative error 0.001", "1 of 6 elements disagree", "step", "float64", "seed 5"):  # fmt: skip
        assert part in str(error)
    assert error.step == pytest.approx(1e-5, rel=1) and error.dtype == np.float64
    _repeats(error, tmp_path)


def test_an_operators_message_has_its_package_and_formula(tmp_path: Path) -> None:
    error = failure(tg.abs, np.array([0.0, 1.0]), kinks=[])
    assert "operator: abs (tinygrad_cv)\nformula: |input|" in str(error) and error.kind == "likely kink"
    _repeats(error, tmp_path)


def test_lambdas_and_what_they_use_are_written_out(tmp_path: Path) -> None:
    weight, options = tg.tensor([1.0, 2.0]).double(), {"dim": 0}
    _repeats(failure(lambda a: Planted.apply(a * weight).sum(**options), normal(2)), tmp_path)


def test_what_cannot_be_written_down_is_named() -> None:
    network = tg.nn.Linear(2, 2).double()
    message = str(failure(lambda a: Planted.apply(network(a)), normal(2)))
    assert "fn = ...  # put " in message and "it uses network, a Linear, which cannot be written down" in message
