"""A function of tensors in this library and in PyTorch: value, gradients and second gradients compared at every element."""

from __future__ import annotations

import numpy as np
import pytest
from torch_comparison import derivatives

import tinygrad_cv as tg


def compare(ours, theirs, *arrays, second=True, tolerance=1e-9, differentiable=None):
    """Calls `ours(*tensors)` and `theirs(*tensors)` on the arrays (None stays None) and compares what comes back.

    Floating arrays require gradients, or those at the positions in `differentiable`. The upstream is random.
    """
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(7)
    wanted = (
        [i for i, a in enumerate(arrays) if a is not None and a.dtype.kind == "f"] if differentiable is None else differentiable
    )
    mine = [None if a is None else tg.tensor(a, requires_grad=i in wanted) for i, a in enumerate(arrays)]
    other = [None if a is None else torch.tensor(a, requires_grad=i in wanted) for i, a in enumerate(arrays)]
    out, expected = ours(*mine), theirs(*other)
    assert out.shape == tuple(expected.shape) and str(expected.dtype) == f"torch.{out.dtype}"
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), rtol=tolerance, atol=tolerance)
    if not wanted:
        return
    dtype = str(out.dtype)
    upstream = rng.standard_normal(out.shape).astype(dtype)
    leaves, other_leaves = [mine[i] for i in wanted], [other[i] for i in wanted]
    if not second:
        got = tg.autograd.grad(out, leaves, tg.tensor(upstream))
        want = torch.autograd.grad(expected, other_leaves, torch.tensor(upstream))
    else:
        again = [rng.standard_normal(arrays[i].shape).astype(arrays[i].dtype) for i in wanted]
        got = derivatives(tg, out, leaves, tg.tensor(upstream), [tg.tensor(s) for s in again])
        want = derivatives(torch, expected, other_leaves, torch.tensor(upstream), [torch.tensor(s) for s in again])
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        np.testing.assert_allclose(
            np.asarray(g), np.asarray(w), rtol=10 * tolerance, atol=10 * tolerance, err_msg=f"derivative {i}"
        )


def both(name, *args, **kwargs):
    """The function `name` of both libraries with trailing arguments bound; arrays among them become constants of either."""
    torch = pytest.importorskip("torch")

    def bind(function, make):
        fixed = [make(a) if isinstance(a, (np.ndarray, np.floating)) else a for a in args]
        named = {k: make(v) if isinstance(v, (np.ndarray, np.floating)) else v for k, v in kwargs.items()}
        return lambda *tensors: function(*tensors, *fixed, **named)

    return bind(getattr(tg, name), tg.tensor), bind(getattr(torch.nn.functional, name), torch.tensor)
