"""What is checked of an operator: `EVERY_CALL` runs on each drawn call, `ONCE` once for each operator.

A check takes the sample and the result it may count into, and raises AssertionError (or anything else) where something is wrong.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import autograd
from .._tensor import Tensor, wrap
from ..autograd.comparison import Check, gradient_function
from ..autograd.differences import Settings, random_upstreams
from .conduct import CONDUCT
from .kernel_checks import KERNELS
from .law_checks import check_laws
from .samples import LAYOUTS, Sample, agree, as_function, broadcast, contiguous, results, tensors_of
from .special import SPECIAL

if TYPE_CHECKING:
    from . import OpResult

_FLOAT64 = Settings.of(np.dtype(np.float64), None, None, None, 0, 400)
_ENLARGED = 66_000  # elements: past every threshold under which a kernel leaves the work to the reference


def tolerance_of(sample: Sample, dtype: Any) -> float:
    """The largest relative error allowed: the operator's own in float32, close to rounding in float64."""
    if np.dtype(dtype).itemsize == 8:
        return 1e-9
    return float(sample.operator.tolerance or 2e-5)


# On every drawn call -----------------------------------------------------------------------------------------------------


def check_value(sample: Sample, result: OpResult) -> None:
    """The public function against the reference on plain arrays, in float64 and float32: values, shapes, dtypes."""
    for dtype in (np.float64, np.float32):
        arrays = sample.cast(dtype)
        got = sample.call_function([contiguous(a) for a in arrays])
        same = sample.call_reference([contiguous(a) for a in arrays])
        precise = sample.call_reference([a.astype(np.float64) if a.dtype.kind == "f" else contiguous(a) for a in arrays])
        label = f"value in {np.dtype(dtype)} against the reference"
        agree(label, got, same, tolerance_of(sample, dtype))
        if dtype is np.float32 and not sample.attributes_hold_dtype() and sample.floating():
            agree("value in float32 against the reference in float64", got, precise, tolerance_of(sample, dtype))
        for k, (a, b) in enumerate(zip(results(got), results(same), strict=True)):
            if a is None:
                continue
            assert a.dtype == b.dtype, f"{label}: result {k} has dtype {a.dtype}, the reference gives {b.dtype}"
            if a.dtype.kind == "f" and sample.floating() and not sample.attributes_hold_dtype():
                assert a.dtype == dtype, f"dtype: {np.dtype(dtype)} in, {a.dtype} out (result {k})"
        result.count("value")


def check_inputs_kept(sample: Sample, result: OpResult) -> None:
    """Neither the function nor the reference writes to its inputs, but to those it declares in `mutates`."""
    arrays = [contiguous(a) for a in sample.arrays]
    kept = [a.copy() for a in arrays]
    sample.call_function(arrays)
    sample.call_reference(arrays)
    declared = getattr(sample.operator.declaration, "mutates", ())
    for i, (a, b) in enumerate(zip(arrays, kept, strict=True)):
        assert sample.owners[i] in declared or np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), (
            f"input {sample.owners[i]!r} (array {i}) was written to"
        )
    result.count("inputs kept")


def check_layouts(sample: Sample, result: OpResult) -> None:
    """Transposed, sliced, reversed and stride-0 inputs give what contiguous copies give, and so do their gradients."""
    for dtype in (np.float64, np.float32):
        arrays = sample.cast(dtype)
        expected = sample.call_function([contiguous(a) for a in arrays])
        for name, make in LAYOUTS.items():
            if all(a.size < 2 for a in arrays):
                continue
            with _refusing_views(sample):
                got = sample.call_function([make(a) for a in arrays])
                agree(f"{name} inputs, {np.dtype(dtype)}", got, expected, tolerance_of(sample, dtype))
                result.count("layout")
        with _refusing_views(sample):
            _check_stride_zero(sample, arrays, dtype, result)
    with _refusing_views(sample):
        _check_gradient_layouts(sample, result)


@contextlib.contextmanager
def _refusing_views(sample: Sample) -> Iterator[None]:
    """Lets a view operator refuse a layout it cannot view without a copy, provided it says so."""
    try:
        yield
    except RuntimeError as error:
        if not (sample.operator.view and "contiguous" in str(error)):
            raise


def _check_stride_zero(sample: Sample, arrays: list[np.ndarray], dtype: Any, result: OpResult) -> None:
    flat = [broadcast(a) if a.dtype.kind == "f" else a for a in arrays]
    if all(f is a for f, a in zip(flat, arrays, strict=True)):
        return
    try:
        with np.errstate(all="ignore"):
            expected = sample.call_function([contiguous(a) for a in flat])
    except (ValueError, RuntimeError, np.linalg.LinAlgError):
        return  # equal values along an axis are outside this operator's domain (a singular matrix)
    if any(e is not None and e.dtype.kind == "f" and not np.all(np.abs(e) < 1e6) for e in results(expected)):
        return
    agree(f"stride-0 inputs, {np.dtype(dtype)}", sample.call_function(flat), expected, tolerance_of(sample, dtype))
    result.count("layout")


def gradients(sample: Sample, arrays: list[np.ndarray], make_upstream: Any) -> list[np.ndarray] | None:
    """The gradients of the differentiable arrays; None where no output has one."""
    wanted = sample.differentiable()
    leaves = [wrap(a).requires_grad_() if i in wanted else wrap(a) for i, a in enumerate(arrays)]
    outputs = [t for t in tensors_of(sample.call_function(leaves)) if t.requires_grad]
    if not outputs:
        return None
    upstreams = [wrap(make_upstream(k, t)) for k, t in enumerate(outputs)]
    found = autograd.grad(outputs, [leaves[i] for i in wanted], upstreams, allow_unused=True)
    for i, g in zip(wanted, found, strict=True):
        assert g is None or g.dtype == arrays[i].dtype, f"gradient of array {i}: {arrays[i].dtype} in, gradient {g.dtype}"  # type: ignore[union-attr]
    return [np.zeros_like(arrays[i]) if g is None else g._data for i, g in zip(wanted, found, strict=True)]


def _check_gradient_layouts(sample: Sample, result: OpResult) -> None:
    if not sample.differentiable() or not any(sample.arrays[i].size for i in sample.differentiable()):
        return
    plain = gradients(sample, [contiguous(a) for a in sample.arrays], lambda k, t: np.full(t.shape, 0.7, t.dtype))
    if plain is None:
        return
    stretched = gradients(
        sample,
        [LAYOUTS["transposed"](a) for a in sample.arrays],
        lambda k, t: np.broadcast_to(np.asarray(0.7, t.dtype), t.shape),
    )
    agree("gradient with transposed inputs and a stride-0 upstream", stretched, plain, 1e-9)
    random = lambda k, t: random_upstreams([t.shape], np.float64, k)[0]  # noqa: E731
    plain = gradients(sample, [contiguous(a) for a in sample.arrays], random)
    strided = gradients(sample, [LAYOUTS["sliced"](a) for a in sample.arrays], lambda k, t: LAYOUTS["transposed"](random(k, t)))
    agree("gradient with sliced inputs and a transposed upstream", strided, plain, 1e-9)
    rounded = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in sample.cast(np.float32)]
    precise = gradients(sample, rounded, random)
    single = gradients(sample, sample.cast(np.float32), lambda k, t: random(k, t).astype(t.dtype))
    if single is not None and not sample.attributes_hold_dtype():
        agree("gradient in float32 against float64", single, precise, max(1e-3, 10 * tolerance_of(sample, np.float32)))
    result.count("gradient layout")


def check_kernel(sample: Sample, result: OpResult) -> None:
    """The CPU kernel against the reference on the drawn arrays, where there is a kernel and it accepts them."""
    operator = sample.operator
    kernel = None if operator.composite else operator.kernel("cpu")
    if kernel is None or operator.random:
        return
    for dtype in (np.float32, np.float64):
        for make in (contiguous, *LAYOUTS.values()):
            arrays = [make(a) for a in sample.cast(dtype)]
            plain, attributes = sample.canonical(arrays)
            got = operator.bind(kernel, plain, attributes)
            if got is NotImplemented:
                continue
            expected = sample.call_reference(arrays)
            agree(
                f"kernel against the reference, {np.dtype(dtype)}, {make.__name__}", got, expected, tolerance_of(sample, dtype)
            )
            for a, b in zip(results(got), results(expected), strict=True):
                assert a is None or a.dtype == b.dtype, f"kernel: dtype {a.dtype}, the reference gives {b.dtype}"
            result.count("kernel")


def check_gradient(sample: Sample, result: OpResult) -> None:
    """First and second derivative against finite differences, at every element, with a random upstream, in float64."""
    positions = sample.differentiable()
    if not positions:
        for t in tensors_of(
            sample.call_function([wrap(a).requires_grad_() if a.dtype.kind == "f" else wrap(a) for a in sample.arrays])
        ):
            assert not t.requires_grad, "declared without a gradient, but a result requires grad"
        return
    if not any(sample.arrays[i].size for i in positions):
        return
    function = as_function(sample, positions)
    tensors = tuple(wrap(contiguous(sample.arrays[i])) for i in positions)
    wanted = list(range(len(positions)))
    first = Check(f"first derivative of {sample.operator.name}", function, tensors, wanted)
    floats = [t for t in tensors_of(sample.call_function([contiguous(a) for a in sample.arrays])) if t.dtype.kind == "f"]
    if not first.outputs:
        assert not floats, "a floating result does not require grad though an input does"
        return
    if not sum(t.numel() for t in first.outputs):
        return
    result.count("first derivative", first.run(_FLOAT64)[0])
    if not sample.operator.gradgrad:
        return
    upstreams = [wrap(u) for u in random_upstreams([t.shape for t in first.outputs], np.float64, 5)]
    second = Check(
        f"second derivative of {sample.operator.name} (inputs 0..{len(tensors) - 1}, then the upstream)",
        gradient_function(function, len(tensors), wanted, first.slots),
        (*tensors, *upstreams),
        list(range(len(tensors) + len(upstreams))),
    )
    result.count("second derivative", second.run(_FLOAT64._replace(atol=1e-6, rtol=1e-5))[0])


def check_inplace(sample: Sample, result: OpResult) -> None:
    """`name_` writes what the function returns into its first operand, returns that operand, and has the same gradients."""
    operator = sample.operator
    if not (operator.has_inplace or "inplace" in operator.attr_params) or sample.owners[:1] != [operator.tensor_params[0]]:
        return
    first = sample.arrays[0]
    expected = sample.call_function([contiguous(a) for a in sample.arrays])
    if not isinstance(expected, Tensor) or expected.shape != first.shape or expected.dtype != first.dtype:
        return
    forms = [operator.inplace] if operator.has_inplace else []
    if "inplace" in operator.attr_params:
        forms.append(lambda *args, **kwargs: operator.function(*args, **{**kwargs, "inplace": True}))
    for form in forms:
        if form is not operator.inplace and "inplace" in sample.bound.arguments:
            continue
        target = wrap(contiguous(first))
        returned = sample.call_function([target, *map(contiguous, sample.arrays[1:])], form)
        assert returned is target, "the in-place form must return its first operand"
        agree("in-place form", target, expected, 1e-12)
        if 0 in sample.differentiable() and first.size:
            upstream = random_upstreams([first.shape], first.dtype, 3)[0]
            grads = []
            for f in (operator.function, form):
                leaf = wrap(contiguous(first)).requires_grad_()
                out = sample.call_function([leaf.clone(), *map(contiguous, sample.arrays[1:])], f)  # type: ignore[attr-defined]
                grads.append(autograd.grad(out, leaf, wrap(upstream), allow_unused=True)[0])
            agree("gradient of the in-place form", grads[1], grads[0], 1e-12)
        result.count("in-place")


def check_method(sample: Sample, result: OpResult) -> None:
    """The Tensor method gives what the function gives."""
    operator = sample.operator
    if not operator.has_method or "." in operator.name or operator.variadic or sample.owners[:1] != [operator.tensor_params[0]]:
        return
    method = getattr(Tensor, operator.name, None)
    assert method is not None, f"Tensor has no method {operator.name!r}, though the operator asks for one (method=False if not)"
    if method is not operator.function:
        values: list[Any] = [contiguous(a) for a in sample.arrays]
        agree("Tensor method against the function", sample.call_function(values, method), sample.call_function(values), 1e-12)
    result.count("method")


def check_empty(sample: Sample, result: OpResult) -> None:
    """With an axis of size 0 the operator computes what its reference does, and gradients of the right shapes, or it refuses in
    words that start with an operator's name."""
    empty = sample.emptied()
    if empty is None:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of means of nothing, and of shapes that broadcast now
            got = empty.call_function([contiguous(a) for a in empty.arrays])
            agree("with an empty axis, against the reference", got, empty.call_reference(empty.arrays), 1e-9)
            gradients(empty, empty.arrays, lambda k, t: np.ones(t.shape, t.dtype))
    except Exception as error:
        if isinstance(error, (ValueError, TypeError, IndexError, RuntimeError)) and re.match(r"[\w.]+: ", str(error)):
            result.count("empty axis refused")
            return
        program = f"To repeat it:\n\n{empty.program()}\n\nThe call that it was made from:"
        raise AssertionError(f"with an empty axis: {type(error).__name__}: {error}\n\n{program}") from error
    result.count("empty axis")


EVERY_CALL = (
    check_value, check_inputs_kept, check_layouts, check_kernel, check_gradient, check_empty, check_inplace, check_method,
    check_laws,
)  # fmt: skip


# Once for each operator --------------------------------------------------------------------------------------------------


def check_declaration(sample: Sample, result: OpResult) -> None:
    """A formula, a docstring, a domain that draws calls, and known tensor parameters."""
    operator = sample.operator
    assert operator.formula.strip(), "no formula"
    assert operator.doc.strip(), "no docstring"
    assert callable(operator.domain), "no domain"
    assert operator.tensor_params, "the reference has no parameter annotated Array, Array | None or list[Array]"
    result.count("declaration")


def check_edge_shapes(sample: Sample, result: OpResult) -> None:
    """Elementwise operators on 0-d, size-1, one-long and empty arrays."""
    operator = sample.operator
    if not operator.elementwise or not all(a.size for a in sample.arrays):
        return
    for shape in ((), (1,), (1, 1), (0,), (2, 0, 3)):
        values = [np.resize(a, shape) for a in sample.arrays]
        agree(f"shape {shape}", sample.call_function(values), sample.call_reference(values), 1e-9)
        wanted = sample.differentiable()
        if wanted:
            grads = gradients(sample, values, lambda k, t: np.ones(t.shape, t.dtype))
            assert grads is None or all(g.shape == shape for g in grads), f"gradient shapes for inputs of shape {shape}"
        result.count("edge shape")


def check_enlarged(sample: Sample, result: OpResult) -> None:
    """Elementwise operators on arrays large enough for the kernel and its threads: contiguous, broadcast, sliced, odd sizes."""
    operator = sample.operator
    if (
        not operator.elementwise
        or operator.random
        or operator.composite
        or operator.kernel("cpu") is None
        or not all(a.size for a in sample.arrays)
    ):
        return
    for dtype in (np.float32, np.float64):
        arrays = sample.cast(dtype)
        columns = _ENLARGED // 256 + 3
        big = [np.resize(a, (256, columns)) for a in arrays]
        cases = {"contiguous": big, "odd size": [np.resize(a, (1025,)) for a in arrays]}
        if len(arrays) > 1:
            cases["row broadcast"] = [big[0], *(np.resize(a, (columns,)) for a in arrays[1:])]
            cases["column broadcast"] = [big[0], *(np.resize(a, (256, 1)) for a in arrays[1:])]
        cases["sliced"] = [LAYOUTS["sliced"](b) for b in big]
        cases["transposed"] = [LAYOUTS["transposed"](b) for b in big]
        for name, values in cases.items():
            what = f"{name} arrays of {values[0].size} elements, {np.dtype(dtype)}"
            agree(what, sample.call_function(values), sample.call_reference(values), tolerance_of(sample, dtype))
            result.count("enlarged")


def check_kinks(sample: Sample, result: OpResult) -> None:
    """At each declared kink the derivative is exactly the declared value."""
    operator = sample.operator
    if not isinstance(operator.kinks, dict) or not operator.elementwise or not sample.arrays:
        return
    required = {p.name for p in operator.signature.parameters.values() if p.default is p.empty}
    arguments = {n: v for n, v in sample.bound.arguments.items() if n in required or n in operator.tensor_params}
    for location, declared in operator.kinks.items():
        at = type(sample.bound)(operator.signature, type(sample.bound.arguments)(arguments))  # type: ignore[call-arg]
        call = type(sample.call)(at.args, at.kwargs)
        point = Sample(operator, call, sample.seed)
        values = [np.resize(a, (1,)) for a in point.arrays]
        values[0] = np.array([location])
        leaf = wrap(values[0]).requires_grad_()
        (gradient,) = autograd.grad(point.call_function([leaf, *values[1:]]), leaf, wrap(np.ones(1)))
        assert gradient is not None
        got = gradient.item()
        assert np.isclose(got, declared, rtol=1e-12, atol=1e-15, equal_nan=True), (
            f"kink at {location}: the derivative is {got!r}, declared {declared!r}"
        )
        result.count("kink")


def check_errors(sample: Sample, result: OpResult) -> None:
    """Shapes that do not broadcast raise ValueError that begins with the operator's name and shows both shapes."""
    operator = sample.operator
    if not operator.elementwise or len(sample.arrays) < 2:
        return
    values = [np.resize(a, (2, 3) if i == 0 else (4,)) for i, a in enumerate(sample.arrays)]
    try:
        sample.call_function(values)
    except ValueError as error:
        text = str(error)
        assert text.startswith(operator.name) and "(2, 3)" in text and "(4,)" in text, f"unclear shape error: {text}"
        result.count("error")
    else:
        raise AssertionError("shapes (2, 3) and (4,) were accepted")


ONCE = (check_declaration, check_edge_shapes, check_enlarged, check_kinks, check_errors, *CONDUCT, *KERNELS, *SPECIAL)
