"""`tg.utils.checkpoint`: `tg.autograd.checkpoint` under PyTorch's address, and its form for a chain of functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..autograd.recompute import checkpoint


def checkpoint_sequential(
    functions: Iterable[Callable[[Any], Any]],
    segments: int,
    input: Any,
    use_reentrant: bool | None = None,
    *,
    preserve_rng_state: bool = True,
) -> Any:
    """input through `functions` (an nn.Sequential or a list) in turn, in `segments` parts, all but the last under `checkpoint`.

    The parts have len(functions) // segments functions each, the last one the rest. ValueError unless 1 <= segments <=
    len(functions).
    """
    chain = list(functions.children() if hasattr(functions, "children") else functions)
    if not 1 <= segments <= len(chain):
        raise ValueError(f"checkpoint_sequential: segments must lie between 1 and {len(chain)} functions, got {segments}")

    def part(start: int, end: int | None) -> Callable[[Any], Any]:
        def run(value: Any) -> Any:
            for function in chain[start:end]:
                value = function(value)
            return value

        return run

    size = len(chain) // segments
    last = size * (segments - 1)
    for start in range(0, last, size):
        input = checkpoint(part(start, start + size), input, use_reentrant=use_reentrant, preserve_rng_state=preserve_rng_state)
    return part(last, None)(input)


__all__ = ["checkpoint", "checkpoint_sequential"]
