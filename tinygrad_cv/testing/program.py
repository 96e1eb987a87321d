"""Programs: random well-typed graphs of registered operators as data, which print as Python and run on any backend.

A `Program` is a list of inputs and a list of calls. A call's tensors are `Ref`s to inputs or to results of earlier calls, so that
nodes are shared, views are taken of them, and in-place forms write to them. Its outputs are the results that no later call
consumes; views do not count as consuming, so that a write through a view is seen in what it is a view of.

How one is drawn is in program_draw.py, how it is run and compared in program_runs.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from .. import registry
from .samples import Written, source


class Ref(NamedTuple):
    """Value number `number` of a program: inputs come first, then the results of the calls in order."""

    number: int


@dataclass(frozen=True)
class Step:
    """One call: `Ref`s stand where tensors go.

    It makes `outputs` values (listed: in a tuple, however many). The in-place form makes one, which is its first argument.
    """

    operator: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    inplace: bool = False
    listed: bool = False

    def references(self) -> list[int]:
        """The numbers of the values that it reads."""
        return [r.number for r in references([*self.args, *self.kwargs.values()])]

    def filled(self, values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, with `values` in place of their numbers."""
        return substitute(self.args, lambda r: values[r.number]), substitute(self.kwargs, lambda r: values[r.number])

    def renumbered(self, numbers: dict[int, int]) -> Step:
        """The same call on values that have other numbers."""
        move = lambda r: Ref(numbers[r.number])  # noqa: E731
        return replace(self, args=substitute(self.args, move), kwargs=substitute(self.kwargs, move))


def references(values: Sequence[Any]) -> Iterator[Ref]:
    """The `Ref`s in nested tuples and lists."""
    for value in values:
        if isinstance(value, Ref):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from references(value)


def substitute(value: Any, change: Callable[[Ref], Any]) -> Any:
    """A copy of nested tuples, lists and dicts with `change` applied to the `Ref`s."""
    if isinstance(value, Ref):
        return change(value)
    if isinstance(value, dict):
        return {k: substitute(v, change) for k, v in value.items()}
    if type(value) in (tuple, list):
        return type(value)(substitute(v, change) for v in value)
    return value


@dataclass(frozen=True)
class Program:
    """A graph of operator calls, with an input for every leaf.

    inputs: arrays, floating ones in float64, cast to what the program is run in. differentiable: which inputs derivatives are taken
    by. seed: random operators start from it, and so do the weights of the outputs and of the gradients.
    """

    inputs: tuple[np.ndarray, ...]
    differentiable: tuple[bool, ...]
    steps: tuple[Step, ...]
    seed: int = 0

    def numbers(self) -> list[range]:
        """For each call, the numbers of the values that it makes."""
        found, next_number = [], len(self.inputs)
        for step in self.steps:
            found.append(range(next_number, next_number + step.outputs))
            next_number += step.outputs
        return found

    def outputs(self) -> list[int]:
        """The values that no later call consumes; views, and writes into views, do not consume."""
        consumed = {
            i
            for step in self.steps
            if not registry.get(step.operator).view
            for i in (step.references()[1:] if step.inplace else step.references())
        }
        first = len(self.inputs)
        last = self.numbers()[-1].stop if self.steps else first
        return [i for i in range(first, last) if i not in consumed] or list(range(first))

    def operators(self) -> list[str]:
        """The names of the operators it calls, in order, once each."""
        return list(dict.fromkeys(step.operator for step in self.steps))

    def weights(self, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
        """What outputs are weighted with where they are added up: between 0.5 and 1.5 in size, of either sign, never equal."""
        rng = np.random.default_rng([self.seed, 7])
        return [np.asarray(rng.uniform(0.5, 1.5, s) * rng.choice([-1.0, 1.0], s)) for s in shapes]

    def names(self) -> list[str]:
        """What each value is called in the printed program."""
        inputs = [f"x{i}" for i in range(len(self.inputs))]
        return inputs + [f"v{n.start + k}" for step, n in zip(self.steps, self.numbers(), strict=True) for k in range(len(n))]

    def __str__(self) -> str:
        return self.code()

    __repr__ = __str__

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How Hypothesis and IPython show it."""
        for k, line in enumerate(self.code().splitlines()):
            if k:
                printer.break_()
            printer.text(line)

    def code(self, order: int = 2) -> str:
        """A program to paste into an empty file: it makes the inputs and the calls, and prints values and derivatives up to `order`."""
        names = self.names()
        lines = ["import numpy as np", "import tinygrad_cv as tg", ""]
        for name, array, wanted in zip(names, self.inputs, self.differentiable, strict=False):
            lines.append(f"{name} = tg.tensor({source(array)}{', requires_grad=True' if wanted else ''})")
        if any(registry.get(step.operator).random for step in self.steps):
            lines.append(f"tg.manual_seed({self.seed})")
        written = [Written(name) for name in names]
        for step, numbers in zip(self.steps, self.numbers(), strict=True):
            args, kwargs = step.filled(written)
            call = ", ".join([*(source(a) for a in args), *(f"{k}={source(v)}" for k, v in kwargs.items())])
            left = ", ".join(names[i] for i in numbers)
            left = f"{left}, = " if step.listed and len(numbers) == 1 else f"{left} = " if numbers else ""
            lines.append(f"{left}{function_name(step)}({call})")
        lines += self._derivatives([names[i] for i in self.outputs()], order)
        return "\n".join(lines)

    def _derivatives(self, outputs: list[str], order: int) -> list[str]:
        leaves = [f"x{i}" for i, wanted in enumerate(self.differentiable) if wanted]
        lines = ["", f"outputs = [{', '.join(outputs)}]", "print(*outputs, sep='\\n')"]
        if not leaves or order == 0:
            return lines
        lines += [
            f"rng, leaves = np.random.default_rng([{self.seed}, 7]), [{', '.join(leaves)}]",
            "",
            "def weighted(tensors, like):",
            "    weights = [rng.uniform(0.5, 1.5, t.shape) * rng.choice([-1.0, 1.0], t.shape) for t in like]",
            "    return sum((t * tg.tensor(w)).sum() for t, w in zip(tensors, weights) if t is not None and t.requires_grad)",
            "",
            "floats = [t for t in outputs if isinstance(t, tg.Tensor) and t.is_floating_point()]",
            "total = weighted(floats, floats)",
            f"options = dict(create_graph={order > 1}, allow_unused=True)",
            "first = tg.autograd.grad(total, leaves, **options) if isinstance(total, tg.Tensor) else []",
            "print(*first, sep='\\n')",
        ]
        if order > 1:
            lines += [
                "total = weighted(first, leaves)",
                "second = tg.autograd.grad(total, leaves, allow_unused=True) if isinstance(total, tg.Tensor) else []",
                "print(*second, sep='\\n')",
            ]
        return lines


def function_name(step: Step) -> str:
    """What the call is written as: `tg.softmax`, `tg.softmax_`, or through the registry for operators that are no public names."""
    import tinygrad_cv as tg

    operator = registry.get(step.operator)
    place: Any = tg
    for part in step.operator.split("."):
        place = getattr(place, part, None)
    known = getattr(place, "operator", None) is operator
    name = f"tg.{step.operator}" if known else f"tg.ops.get({step.operator!r})"
    return (f"{name}_" if known else f"{name}.inplace") if step.inplace else name


def pruned(program: Program, keep: Iterable[int], recorded: Sequence[Any]) -> Program:
    """The calls numbered `keep` alone. What they need and nothing makes any more becomes an input of its `recorded` value.

    recorded: for each value of the program, the array that it was when it was made.
    """
    chosen = set(keep)
    numbers = program.numbers()
    steps = [program.steps[k] for k in sorted(chosen)]
    made = [i for k in sorted(chosen) for i in numbers[k]]
    needed = sorted({i for step in steps for i in step.references()} - set(made)) or [0]
    renumbered = {old: new for new, old in enumerate([*needed, *made])}
    own = len(program.inputs)
    return replace(
        program,
        inputs=tuple(np.asarray(program.inputs[i] if i < own else recorded[i]) for i in needed),
        differentiable=tuple(
            program.differentiable[i] if i < own else np.asarray(recorded[i]).dtype.kind == "f" for i in needed
        ),
        steps=tuple(step.renumbered(renumbered) for step in steps),
    )


__all__ = ["Program", "Ref", "Step", "function_name", "pruned", "references", "substitute"]
