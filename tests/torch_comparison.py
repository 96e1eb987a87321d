"""PyTorch as a second opinion: one call made in both libraries, its value and its derivatives of both orders compared."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_cv as tg


def torch_function(torch, name):
    """PyTorch's function of that name."""
    return getattr(torch, name, None) or getattr(torch.nn.functional, name)


def tensors_and_call(arguments, make):
    """The arguments with arrays made tensors, and those that are differentiable."""
    converted, leaves = [], []
    for value in arguments:
        if isinstance(value, np.ndarray):
            value = make(value)
            if value.is_floating_point():
                leaves.append(value.requires_grad_())
        converted.append(value)
    return converted, leaves


def derivatives(library, output, leaves, upstream, second):
    """First derivatives with `upstream`, and those of their products with `second`."""
    first = library.autograd.grad(output, leaves, upstream, create_graph=True, allow_unused=True)
    first = [f if f is not None else leaf * 0 for f, leaf in zip(first, leaves, strict=True)]
    total = sum((f * s).sum() for f, s in zip(first, second, strict=True))
    again = library.autograd.grad(total, leaves, allow_unused=True) if total.requires_grad else [None] * len(leaves)
    again = [a if a is not None else leaf * 0 for a, leaf in zip(again, leaves, strict=True)]
    return [t.detach().numpy(force=True) for t in (*first, *again)]


def compare_with_torch(name, call, rng):
    """One call drawn from an operator's domain, as both libraries answer it, with random upstream."""
    torch = pytest.importorskip("torch")
    ours, our_leaves = tensors_and_call(call.args, lambda a: tg.tensor(a, dtype=a.dtype))
    theirs, their_leaves = tensors_and_call(call.args, lambda a: torch.tensor(a))
    out = getattr(tg, name)(*ours, **call.kwargs)
    expected = torch_function(torch, name)(*theirs, **call.kwargs)
    if isinstance(expected, bool):
        assert out is expected
        return
    assert str(expected.dtype) == f"torch.{out.dtype}"
    np.testing.assert_allclose(
        out.detach().numpy(), expected.detach().numpy(), rtol=1e-12, atol=1e-13, err_msg=f"{name} {call}"
    )
    without_rule = type(expected.grad_fn).__name__ == "NotImplemented"
    assert out.requires_grad == (expected.requires_grad and not without_rule)
    if not out.requires_grad:
        return
    upstream = rng.standard_normal(out.shape)
    second = [rng.standard_normal(leaf.shape) for leaf in our_leaves]
    got = derivatives(
        tg, out, our_leaves, tg.tensor(upstream, dtype="float64"), [tg.tensor(s, dtype="float64") for s in second]
    )
    try:
        want = derivatives(torch, expected, their_leaves, torch.tensor(upstream), [torch.tensor(s) for s in second])
    except RuntimeError as error:
        if "is not implemented" not in str(error):  # PyTorch lacks a few second derivatives; take the first ones then
            raise
        want = [g.numpy() for g in torch.autograd.grad(expected, their_leaves, torch.tensor(upstream))]
    for g, w in zip(got, want, strict=False):
        # Not tighter: some constants in PyTorch's rules are float32.
        np.testing.assert_allclose(g, w, rtol=2e-7, atol=1e-9, err_msg=f"{name} {call}")


def reports_to(outcome, function, *arguments):
    """The result of a call as an array, or the exception."""
    try:
        return np.asarray(function(*arguments))
    except outcome as error:
        return error
