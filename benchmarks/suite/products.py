"""Matrix products: large ones, and those of small networks, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from .libraries import Context, has_jax, jax_call
from .timing import Call, Missing, contest

# (rows, columns, summed, layout): T marks the operand that lies transposed, as in the gradients of x @ W.
CASES = (
    (2048, 2048, 2048, "NN"),
    (2048, 2048, 2048, "TN"),
    (2048, 2048, 2048, "NT"),
    (1024, 1024, 1024, "NN"),
    (512, 512, 512, "NN"),
    (256, 256, 256, "NN"),
    (256, 256, 256, "TN"),
    (256, 256, 256, "NT"),
    (64, 128, 784, "NN"),
    (784, 128, 64, "TN"),
    (64, 784, 128, "NT"),
    (64, 1024, 576, "NN"),
    (576, 1024, 64, "TN"),
    (64, 576, 1024, "NT"),
    (32, 128, 784, "NN"),
    (64, 120, 400, "NN"),
    (32, 10, 128, "NN"),
)


def group(context: Context) -> Iterator[dict[str, Any]]:
    """One row for each product, forward only: its gradients are products of the other layouts."""
    import torch

    import tinygrad_cv as tg

    rng = np.random.default_rng(0)
    for rows, columns, count, layout in CASES:
        if context.quick and rows * columns * count > 1 << 23:
            continue
        a, b = rng.standard_normal((rows, count), np.float32), rng.standard_normal((count, columns), np.float32)
        if layout[0] == "T":
            a = np.ascontiguousarray(a.T).T
        if layout[1] == "T":
            b = np.ascontiguousarray(b.T).T
        ours, theirs = (tg.from_numpy(a), tg.from_numpy(b)), (torch.from_numpy(a), torch.from_numpy(b))
        entrants: dict[str, Call | Missing] = {
            "ours": partial(tg.matmul, *ours),
            "PyTorch": partial(torch.matmul, *theirs),
            "NumPy": partial(np.matmul, a, b),
        }
        if has_jax():
            import jax.numpy

            stored = [m.T if t == "T" else m for m, t in zip((a, b), layout, strict=True)]

            def product(x: Any, y: Any, layout: str = layout) -> Any:
                return jax.numpy.matmul(x.T if layout[0] == "T" else x, y.T if layout[1] == "T" else y)

            entrants["JAX"] = jax_call(product, *stored)
        yield contest(
            f"{rows} x {columns} x {count} {layout}", entrants, context.plan, tolerance=1e-4, flop=2 * rows * columns * count
        )
