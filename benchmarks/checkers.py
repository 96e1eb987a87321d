"""Gradient checkers on the same wrong gradients: ours, PyTorch's, JAX's and that of HIPS autograd.

    python benchmarks/checkers.py [NAME ...] [--write]

Every mutant of every backward rule (`tinygrad_cv.testing.mutants`) whose gradient is wrong at the first call that its operator's
domain draws is handed to each checker as the same pair of NumPy functions, value and vector-Jacobian product, at the same float64
arrays, with the checker's default settings: `torch.autograd.gradcheck` (and its fast mode), `jax.test_util.check_grads` and
`autograd.test_util.check_grads` in reverse mode and first order, which is what a pair of functions allows. So is every right rule, for
false alarms. `check_op` is ours as a user runs it: twenty calls and everything else it looks at. A checker that is not installed
has no column. --write puts the table into docs/testing.md.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_cv as tg
from tinygrad_cv import registry
from tinygrad_cv.autograd.differences import random_upstreams
from tinygrad_cv.domain import NumpyDraw
from tinygrad_cv.testing import check_op
from tinygrad_cv.testing.deliver import write_between
from tinygrad_cv.testing.mutants import Mutant, mutants_of
from tinygrad_cv.testing.mutation import try_mutant
from tinygrad_cv.testing.samples import Sample

Arrays = tuple[np.ndarray, ...]
PAGE = Path(__file__).parents[1] / "docs" / "testing.md"
MARKS = ("<!-- checkers: begin -->", "<!-- checkers: end -->")


@dataclass(frozen=True)
class Subject:
    """A function of float64 arrays with one floating result, and the product of an upstream with its Jacobian as the rule has it."""

    operator: registry.Operator
    sample: Sample
    positions: list[int]

    @property
    def inputs(self) -> Arrays:
        """The arrays that gradients are taken of."""
        return tuple(np.array(self.sample.arrays[i], np.float64, order="C") for i in self.positions)

    def call(self, *given: Any) -> Any:
        """The operator on Tensors."""
        values: list[Any] = [a.copy() for a in self.sample.arrays]
        for i, value in zip(self.positions, given, strict=True):
            values[i] = value
        return self.sample.call_function(values)

    def value(self, *given: Any) -> np.ndarray:
        """The result, for NumPy arrays."""
        with tg.no_grad():
            return np.array(self.call(*(tg.tensor(np.asarray(g)) for g in given)).numpy())

    def product(self, upstream: Any, *given: Any) -> Arrays:
        """The gradients of sum(upstream * value)."""
        leaves = [tg.tensor(np.asarray(g)).requires_grad_() for g in given]
        out = self.call(*leaves)
        found = tg.autograd.grad(out, leaves, tg.tensor(np.asarray(upstream)).reshape(out.shape), allow_unused=True)
        return tuple(np.zeros(x.shape) if g is None else np.array(g.numpy()) for g, x in zip(found, leaves, strict=True))


def subject_of(operator: registry.Operator) -> Subject | None:
    """The first call that the domain draws; None where it is nothing that every checker can be given."""
    if operator.random or len(operator.outputs) != 1:
        return None
    sample = Sample(operator, operator.domain(NumpyDraw(np.random.default_rng([0, 0]))), 0)
    positions = sample.differentiable()
    subject = Subject(operator, sample, positions)
    if not positions or not all(sample.arrays[i].size for i in positions):
        return None
    out = subject.call(*(tg.tensor(x) for x in subject.inputs))
    return subject if isinstance(out, tg.Tensor) and out.dtype == np.float64 and out.numel() else None


# The checkers: each raises or returns False where it finds the gradient wrong ---------------------------------------------------------


def ours(subject: Subject) -> bool:
    return tg.autograd.gradcheck(
        subject.call, tuple(tg.tensor(x).requires_grad_() for x in subject.inputs), raise_exception=False
    )


def torch_checker(fast: bool) -> Callable[[Subject], bool]:
    import torch

    def check(subject: Subject) -> bool:
        class Function(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *given: Any) -> Any:
                ctx.save_for_backward(*given)
                return torch.from_numpy(subject.value(*(g.detach().numpy() for g in given)))

            @staticmethod
            def backward(ctx: Any, upstream: Any) -> Any:
                found = subject.product(upstream.numpy(), *(g.detach().numpy() for g in ctx.saved_tensors))
                return tuple(torch.from_numpy(g) for g in found)

        inputs = tuple(torch.from_numpy(x).requires_grad_() for x in subject.inputs)
        return torch.autograd.gradcheck(Function.apply, inputs, fast_mode=fast, raise_exception=False)

    return check


def jax_checker() -> Callable[[Subject], bool]:
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_enable_x64", True)

    def check(subject: Subject) -> bool:
        shape = jax.ShapeDtypeStruct(subject.value(*subject.inputs).shape, np.float64)
        inputs = tuple(jax.ShapeDtypeStruct(x.shape, np.float64) for x in subject.inputs)

        @jax.custom_vjp
        def function(*given: Any) -> Any:
            return jax.pure_callback(subject.value, shape, *given)

        function.defvjp(
            lambda *given: (function(*given), given),
            lambda given, upstream: jax.pure_callback(subject.product, inputs, upstream, *given),
        )
        check_grads(function, subject.inputs, order=1, modes=("rev",))
        return True

    return check


def hips_checker() -> Callable[[Subject], bool]:
    from autograd.extend import defvjp, primitive
    from autograd.test_util import check_grads

    def check(subject: Subject) -> bool:
        function = primitive(subject.value)
        places = range(len(subject.inputs))
        defvjp(function, *[lambda _, *given, i=i: lambda upstream: subject.product(upstream, *given)[i] for i in places])
        for i in places:  # it moves one argument

            def of_one(x: Any, i: int = i) -> Any:
                return function(*(x if k == i else given for k, given in enumerate(subject.inputs)))

            np.random.seed(0)  # its directions and upstreams come from there: the same in every run
            check_grads(of_one, modes=["rev"], order=1)(subject.inputs[i])
        return True

    return check


def checkers() -> dict[str, Callable[[Subject], bool]]:
    """Those that are installed, by their names."""
    found: dict[str, Callable[[Subject], bool]] = {"`tg.autograd.gradcheck`": ours}
    for name, make in (
        ("`torch.autograd.gradcheck`", lambda: torch_checker(False)),
        ("the same, `fast_mode=True`", lambda: torch_checker(True)),
        ("`jax.test_util.check_grads`", jax_checker),
        ("HIPS `autograd.test_util.check_grads`", hips_checker),
    ):
        try:
            found[name] = make()
        except ImportError as error:
            print(f"left out: {name} ({error})", file=sys.stderr)
    return found


def passes(check: Callable[[Subject], bool], subject: Subject) -> bool:
    """Whether the checker finds nothing wrong."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return bool(check(subject))
    except Exception:
        return False


def is_wrong(mutant: Mutant, subject: Subject) -> bool:
    """Whether the mutant's gradient differs from the right one here: by more than 1e-9 of the largest, and without an error."""
    upstream = random_upstreams([subject.value(*subject.inputs).shape], np.float64, 11)[0]
    right = subject.product(upstream, *subject.inputs)
    try:
        with mutant.installed(), np.errstate(all="ignore"):
            wrong = subject.product(upstream, *subject.inputs)
    except Exception:
        return False
    scale = max(float(np.abs(g).max(initial=0.0)) for g in right)
    pairs = zip(right, wrong, strict=True)
    return any(not np.allclose(a, b, rtol=0, atol=1e-9 * scale) for a, b in pairs if np.isfinite(a).all())


def compare(names: list[str]) -> str:
    """The table, as Markdown."""
    found = checkers()
    suite = "`check_op` (20 calls)"
    caught = dict.fromkeys([*found, suite], 0)
    small = dict(caught)
    alarms = dict(caught)
    seconds = dict.fromkeys(caught, 0.0)
    mutants = subtle = subjects = 0
    for name in names or [o.name for o in registry.operators() if o.rules or o.joint_rule]:
        operator = registry.get(name)
        subject = subject_of(operator)
        if subject is None:
            continue
        subjects += 1
        for label, check in found.items():
            alarms[label] += not passes(check, subject)
        alarms[suite] += not check_op(operator, raise_exception=False).passed
        for mutant in mutants_of(operator):
            if not is_wrong(mutant, subject):
                continue
            mutants += 1
            slight = "0.1 %" in mutant.kind
            subtle += slight
            for label, check in found.items():
                start = time.perf_counter()
                with mutant.installed():
                    noticed = not passes(check, subject)
                seconds[label] += time.perf_counter() - start
                caught[label] += noticed
                small[label] += noticed and slight
            start = time.perf_counter()
            noticed = try_mutant(mutant).status in ("killed", "raised")
            seconds[suite] += time.perf_counter() - start
            caught[suite] += noticed
            small[suite] += noticed and slight
    lines = [
        f"{mutants} wrong rules of {subjects} operators, {subtle} of them off by 0.1 % (everywhere, in one row, in one element):",
        "",
        "| checker | caught | missed | of those off by 0.1 %, caught | false alarms on the right rules | s |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for label in caught:
        share = f"{caught[label]} ({100 * caught[label] / max(mutants, 1):.1f} %)"
        lines.append(
            f"| {label} | {share} | {mutants - caught[label]} | {small[label]} | {alarms[label]} | {seconds[label]:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="operators (default: all with a rule and one floating result)")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    given = parser.parse_args()
    table = compare(given.names)
    print(table)
    if given.write:
        write_between(PAGE, MARKS, table)


if __name__ == "__main__":
    main()
