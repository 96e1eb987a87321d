"""One function at one point, differentiated both ways: what backward and `jvp` say against finite differences (differences.py)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .._tensor import Tensor, wrap
from ..registry import Operator
from . import grad as _grad
from .differences import GradcheckError, Settings, compare, random_upstreams
from .modes import enable_grad, no_grad

FORWARD_ELEMENTS = 100  # of the inputs: up to so many, forward mode runs once for each


def name_of(func: Any) -> str:
    """What a message calls a function: an operator's name, or its own without the functions it was made in."""
    operator, owner = getattr(func, "operator", None), getattr(func, "__self__", None)
    if isinstance(func, Operator):
        return func.name
    if isinstance(owner, type):
        return f"{owner.__name__}.{func.__name__}"
    if operator is not None:
        return str(operator.name)
    return (getattr(func, "__qualname__", None) or type(func).__name__).rpartition("<locals>.")[2]


def outputs_of(result: Any) -> list[Tensor]:
    """The floating Tensors among one result or several."""
    found = list(result) if isinstance(result, (tuple, list)) else [result]
    return [t for t in found if isinstance(t, Tensor) and t.dtype.kind == "f"]


class Check:
    """One function at one point: its outputs and its analytic gradients, ready to be compared with finite differences."""

    def __init__(self, name: str, func: Callable[..., Any], inputs: tuple[Any, ...], wanted: list[int]) -> None:
        self.name, self.func, self.inputs, self.wanted = name, func, inputs, wanted
        self.arrays = [np.array(t._data, order="C") if isinstance(t, Tensor) else t for t in inputs]
        self.leaves = [
            (wrap(a.copy()).requires_grad_() if k in wanted else wrap(a)) if isinstance(t, Tensor) else t
            for k, (t, a) in enumerate(zip(inputs, self.arrays, strict=True))
        ]
        with enable_grad():
            everything = outputs_of(func(*self.leaves))
        self.slots = [k for k, t in enumerate(everything) if t.requires_grad]
        self.outputs = [everything[k] for k in self.slots]

    def evaluate(self, moved: list[Any]) -> list[np.ndarray]:
        """The differentiable outputs as arrays, at another point (positions that are no tensors are as they were)."""
        with no_grad():
            everything = outputs_of(
                self.func(*[wrap(m) if isinstance(t, Tensor) else t for t, m in zip(self.inputs, moved, strict=True)])
            )
        return [everything[k]._data for k in self.slots]

    def point(self) -> list[np.ndarray]:
        """The arrays of the inputs that are differentiated."""
        return [self.arrays[k] for k in self.wanted]

    def along(self, moved: list[np.ndarray]) -> list[np.ndarray]:
        """`evaluate` as a function of the differentiated inputs alone."""
        full = [a.copy() if isinstance(a, np.ndarray) else a for a in self.arrays]
        for k, m in zip(self.wanted, moved, strict=True):
            full[k] = m
        return self.evaluate(full)

    def gradients(self, upstreams: list[np.ndarray]) -> list[np.ndarray]:
        """The gradients by backward; zeros where no gradient arrives."""
        if not self.outputs:
            return [np.zeros_like(a) for a in self.point()]
        found = _grad(self.outputs, [self.leaves[k] for k in self.wanted], [wrap(u) for u in upstreams], allow_unused=True)
        return [np.zeros_like(a) if g is None else g._data for a, g in zip(self.point(), found, strict=True)]

    def agree_when_some_are_undefined(self, upstreams: list[np.ndarray], total: list[np.ndarray]) -> None:
        """Backward from one output at a time, so that the others send nothing, must add up to backward from all together."""
        again = Check(self.name, self.func, self.inputs, self.wanted)
        leaves = [again.leaves[k] for k in self.wanted]
        sums = [np.zeros_like(a) for a in total]
        for output, u in zip(again.outputs, upstreams, strict=True):
            found = _grad([output], leaves, [wrap(u)], retain_graph=True, allow_unused=True)
            sums = [s if g is None else s + g._data for s, g in zip(sums, found, strict=True)]
        self._compare("the gradients of its outputs taken one by one do not add up to those taken together", sums, total)

    def agree_in_batches(self, settings: Settings) -> None:
        """grad(..., is_grads_batched=True) for three upstream gradients must give what three calls give."""
        again = Check(self.name, self.func, self.inputs, self.wanted)
        if not again.outputs:
            return
        leaves = [again.leaves[k] for k in self.wanted]
        dtype = self.arrays[self.wanted[0]].dtype
        drawn = [random_upstreams([t.shape for t in again.outputs], dtype, settings.seed + 10 + i) for i in range(3)]
        batch = [wrap(np.stack(column)) for column in zip(*drawn, strict=True)]
        together = _grad(again.outputs, leaves, batch, retain_graph=True, allow_unused=True, is_grads_batched=True)
        for i, upstreams in enumerate(drawn):
            one = [np.zeros_like(leaf._data) if g is None else g._data[i] for leaf, g in zip(leaves, together, strict=True)]
            self._compare(
                "a batch of upstream gradients gives other gradients than one at a time", one, self.gradients_again(upstreams)
            )

    def gradients_again(self, upstreams: list[np.ndarray]) -> list[np.ndarray]:
        """`gradients` on a graph of its own."""
        return Check(self.name, self.func, self.inputs, self.wanted).gradients(upstreams)

    def _compare(self, what: str, got: list[np.ndarray], expected: list[np.ndarray]) -> None:
        for k, a, b in zip(self.wanted, got, expected, strict=True):
            scale = float(np.max(np.abs(b), initial=1.0))
            if not np.allclose(a, b, rtol=0, atol=scale * np.finfo(b.dtype).eps ** 0.75):
                worst = float(np.max(np.abs(a - b)))
                raise GradcheckError(f"{self.name}: {what}: those for input {k} differ by {worst:g}", "wrong gradient", k)

    def run(
        self,
        settings: Settings,
        nondet_tol: float = 0.0,
        directional: bool = False,
        undefined: bool = False,
        dtypes: bool = False,
        batched: bool = False,
    ) -> tuple[int, str]:
        """Compares; raises GradcheckError. The number compared, and the mode."""
        dtype = self.arrays[self.wanted[0]].dtype
        self.must_be_finite()
        again = self.along([a.copy() for a in self.point()])
        for t, a in zip(self.outputs, again, strict=True):
            worst = float(np.max(np.abs(t._data - a), initial=0.0))
            if worst > nondet_tol:
                raise GradcheckError(
                    f"{self.name}: two calls with the same inputs differ by {worst:g}; fix the random numbers inside the "
                    "function with tg.manual_seed, or pass nondet_tol",
                    "not deterministic",
                )
        upstreams = random_upstreams([t.shape for t in self.outputs], dtype, settings.seed)
        analytic = self.gradients(upstreams)
        for k, g in zip(self.wanted, analytic, strict=True):
            if dtypes and g.dtype != self.arrays[k].dtype:
                raise GradcheckError(
                    f"{self.name}: the gradient for input {k} has dtype {g.dtype}, the input {self.arrays[k].dtype}",
                    "wrong gradient",
                    k,
                )
            if not np.isfinite(g).all():
                raise GradcheckError(f"{self.name}: the gradient for input {k} is not finite", "not finite", k)
        if undefined and len(self.outputs) > 1:
            self.agree_when_some_are_undefined(upstreams, analytic)
        if batched:
            self.agree_in_batches(settings)
        point = [a.copy() for a in self.point()]
        count, mode = compare(self.name, self.along, point, dict(enumerate(analytic)), upstreams, settings, directional)
        if not count:
            why = "elements lie at declared kinks" if any(a.size for a in point) else "differentiable inputs are empty"
            raise GradcheckError(f"{self.name}: nothing was compared, all {why}", "nothing compared")
        return count, mode

    def must_be_finite(self) -> None:
        """GradcheckError where an output is not."""
        if not all(np.isfinite(t._data).all() for t in self.outputs):
            raise GradcheckError(
                f"{self.name}: an output is not finite here, so there is no derivative to compare", "not finite"
            )

    def run_forward(self, settings: Settings, directional: bool = False) -> tuple[int, str]:
        """Compares J v, by `functional.jvp`, with finite differences and, for a random u, <u, J v> with <J^T u, v>.

        v is every element in turn up to FORWARD_ELEMENTS elements, eight random directions for each input beyond that.
        """
        dtype = self.arrays[self.wanted[0]].dtype
        upstreams = random_upstreams([t.shape for t in self.outputs], dtype, settings.seed)
        reverse = self.gradients_again(upstreams)
        limit = np.finfo(min((a.dtype for a in self.point()), key=lambda d: d.itemsize)).eps ** 0.75

        def derivative(position: int, direction: Any) -> float:
            vectors = [np.zeros_like(a) for a in self.point()]
            if isinstance(direction, np.ndarray):
                vectors[position] = direction.astype(vectors[position].dtype)
            else:
                vectors[position].flat[direction] = 1
            moved = [float(np.vdot(u, v)) for u, v in zip(upstreams, self.pushed(vectors), strict=True)]
            forward, backward = sum(moved), float(np.vdot(reverse[position], vectors[position]))
            if not abs(forward - backward) <= limit * max(1.0, sum(map(abs, moved)), float(np.abs(reverse[position]).sum())):
                raise GradcheckError(
                    f"{self.name}: forward and reverse mode disagree for input {self.wanted[position]}: <u, J v> = {forward!r}, "
                    f"<J^T u, v> = {backward!r}; is the backward rule linear in its upstream gradient?", "wrong gradient",
                    self.wanted[position], None, forward, backward, None, dtype,
                )  # fmt: skip
            return forward

        slopes = {k: functools.partial(derivative, k) for k in range(len(self.wanted))}
        limited = settings._replace(max_elements=min(settings.max_elements, FORWARD_ELEMENTS))
        point = [a.copy() for a in self.point()]
        return compare(f"{self.name}, forward mode", self.along, point, slopes, upstreams, limited, directional)

    def pushed(self, vectors: list[np.ndarray]) -> list[np.ndarray]:
        """J v for each differentiable output, by `functional.jvp`."""
        from .functional import jvp

        def outputs(*leaves: Tensor) -> tuple[Tensor, ...]:
            given = list(self.leaves)
            for k, leaf in zip(self.wanted, leaves, strict=True):
                given[k] = leaf
            everything = outputs_of(self.func(*given))
            return tuple(everything[k] for k in self.slots)

        _, found = jvp(outputs, tuple(wrap(a.copy()) for a in self.point()), tuple(wrap(v) for v in vectors))
        return [t._data for t in found]


def double(name: str, func: Callable[..., Any], inputs: tuple[Any, ...], wanted: list[int]) -> tuple[Check, str]:
    """The check in float64 where the function allows it, else in the inputs' own dtype, and a word on which."""
    lower = [k for k in wanted if inputs[k].dtype.itemsize < 8]
    if not lower:
        return Check(name, func, inputs, wanted), ""
    raised = tuple(wrap(t._data.astype(np.float64)) if isinstance(t, Tensor) and t.dtype.kind == "f" else t for t in inputs)
    try:
        check = Check(name, func, raised, wanted)
    except (TypeError, ValueError, RuntimeError):
        check = Check(name, func, inputs, wanted)
        return check, f" (the function does not take float64, so this ran in {inputs[lower[0]].dtype} with wide tolerances)"
    if all(t.dtype.itemsize == 8 for t in check.outputs):
        return check, ""
    return Check(name, func, inputs, wanted), " (the function rounds to a lower precision, so the tolerances are wide)"


def gradient_function(func: Callable[..., Any], inputs: int, wanted: list[int], slots: list[int]) -> Callable[..., Any]:
    """The function (inputs, upstreams) -> gradients of `func` for the `wanted` inputs, itself differentiable."""

    def gradients(*values: Any) -> tuple[Tensor, ...]:
        given, upstreams = list(values[:inputs]), values[inputs:]
        recorded = any(isinstance(t, Tensor) and t.requires_grad for t in values)
        if not recorded:
            for k in wanted:
                given[k] = given[k].detach().requires_grad_()
        with enable_grad():
            everything = outputs_of(func(*given))
            found = _grad(
                [everything[k] for k in slots], [given[k] for k in wanted], upstreams, create_graph=recorded, allow_unused=True
            )
        return tuple(wrap(np.zeros_like(given[k]._data)) if g is None else g for k, g in zip(wanted, found, strict=True))

    gradients.__qualname__ = f"the gradient of {name_of(func)}"
    return gradients


__all__ = ["FORWARD_ELEMENTS", "Check", "double", "gradient_function", "name_of", "outputs_of"]
