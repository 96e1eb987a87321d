"""`tg.compile.explain`: what became of a compiled function, as text and as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..graph import Graph, GraphEdge, GraphNode
from .plan import Plan
from .steps import END
from .values import Value

if TYPE_CHECKING:
    from .function import CompiledFunction


@dataclass(frozen=True)
class StepReport:
    """One step of a plan. how: "loop" (a generated kernel), "kernels" (recorded kernel calls), "operator" (called as a whole), "view",
    "call" (Python that is run again), "store", "gradient". lines: where in the user's code it comes from. source: of a loop.
    """

    how: str
    operators: tuple[str, ...]
    shape: tuple[int, ...]
    calls: int
    lines: tuple[str, ...]
    source: str = ""


@dataclass(frozen=True)
class PlanReport:
    """One plan. recorded, folded, shared, dead: operators in the recording, computed once for all, equal to another, unneeded.

    memory: bytes of the block in which values live; unshared: what they would take without sharing; scratch: bytes kernels use.
    graph: the plan as a `tg.graph.Graph`, for `tg.viz.draw`: each loop is a box of its own, and the attribute `memory` of
    every operator says when the memory of its result is free again, that it is kept, or that it is not stored.
    """

    recorded: int
    folded: int
    shared: int
    dead: int
    memory: int
    unshared: int
    scratch: int
    steps: tuple[StepReport, ...]
    graph: Graph = field(repr=False)

    @property
    def fused(self) -> int:
        """Operators that run in one loop or kernel together with another."""
        return sum(len(s.operators) for s in self.steps if len(s.operators) > 1)


@dataclass(frozen=True)
class Explanation:
    """What became of a compiled function: its plans, and why some calls have none. `print` it."""

    name: str
    plans: tuple[PlanReport, ...]
    problems: tuple[str, ...]
    parts: tuple[Explanation, ...] = field(default=())

    def __str__(self) -> str:
        lines = [f"compiled {self.name}: {_count(len(self.plans), 'plan')}"]
        for problem in self.problems:
            lines.append(f"  runs as it is: {problem}")
        for plan in self.plans:
            lines.append(
                f"  {_count(plan.recorded, 'operator')} recorded; {plan.folded} folded, {plan.shared} equal to another, {plan.dead} "
                f"unneeded; {plan.fused} fused"
            )
            lines.append(f"  memory {_bytes(plan.memory)} (unshared {_bytes(plan.unshared)}), scratch {_bytes(plan.scratch)}")
            for i, step in enumerate(plan.steps):
                where = f"  {step.lines[0]}" if step.lines else ""
                calls = f" {_count(step.calls, 'call')}" if step.how == "kernels" else ""
                lines.append(f"  {i:4} {step.how:9} {' + '.join(step.operators)} {list(step.shape)}{calls}{where}")
        for part in self.parts:
            lines += ["  " + line for line in str(part).splitlines()]
        return "\n".join(lines)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")


def _bytes(n: int) -> str:
    return f"{n / 1024:.0f} KiB" if n < 1 << 20 else f"{n / (1 << 20):.1f} MiB"


def _graph(plan: Plan) -> Graph:
    """The operators of a plan and how values flow between them."""
    ids: dict[Value, tuple[str, int]] = {}
    nodes: list[GraphNode] = []
    edges: list[GraphEdge] = []

    def add(node: GraphNode, outputs: Sequence[Value]) -> None:
        nodes.append(node)
        ids.update({v: (node.id, slot) for slot, v in enumerate(outputs)})

    for number, group in enumerate(plan.groups):
        scope = f"{'loop' if group.loop else 'kernel'} {number}" if len(group.instructions) > 1 else ""
        for instruction in group.instructions:
            if instruction.kind not in ("op", "call"):
                continue
            values = [v for v in instruction.inputs if isinstance(v, Value)]
            for value in values:
                if value not in ids:
                    kind = "parameter" if value.tensor is not None and value.tensor.requires_grad else "input"
                    name = value.kind if value.tensor is None or value.tensor.name is None else value.tensor.name
                    add(
                        GraphNode(
                            f"n{len(nodes)}", kind, "", name, "", (value.shape,), (str(value.dtype),), kind == "parameter"
                        ),
                        [value],
                    )
            outputs = instruction.outputs
            add(
                GraphNode(
                    f"n{len(nodes)}", "operator", instruction.name, None, scope, tuple(o.shape for o in outputs) or ((),),
                    tuple(str(o.dtype) for o in outputs) or ("",), False, _fate(plan, outputs), source=instruction.source,
                ),
                outputs,
            )  # fmt: skip
            names = getattr(instruction.operator, "tensor_params", ())
            for position, value in enumerate(values):
                source, slot = ids[value]
                argument = names[position] if len(names) == len(instruction.inputs) else f"argument{position}"
                edges.append(GraphEdge(source, nodes[-1].id, position, argument, slot, value.shape, str(value.dtype)))
    return Graph(nodes, edges, [ids[v][0] for v in plan.program.results() if v in ids])


def _fate(plan: Plan, values: Sequence[Value]) -> dict[str, str]:
    """What becomes of the memory of an operator's results."""
    ends = [plan.last[v] for v in values if v in plan.last]
    if not ends:
        return {"memory": "not stored"} if values else {}
    return {"memory": "kept" if max(ends) == END else f"free after step {max(ends)}"}


def _report(plan: Plan) -> PlanReport:
    steps = []
    for step in plan.steps:
        made = step.group.makes()
        lines = dict.fromkeys(
            f"{i.source[0].rsplit('/', 1)[-1]}:{i.source[1]}" for i in step.group.instructions if i.source is not None
        )
        steps.append(
            StepReport(
                step.how, tuple(i.name for i in step.group.instructions), made[-1].shape if made else (), len(step.calls), tuple(lines),
                step.source,
            )
        )  # fmt: skip
    p = plan.program
    return PlanReport(
        p.recorded, p.folded, p.shared, p.dead, plan.planned, plan.unshared, plan.scratch, tuple(steps), _graph(plan)
    )


def explain(function: CompiledFunction | Any) -> Explanation:
    """What became of a function or module that `tg.compile` gave, as far as it has been called.

    TypeError for anything else.
    """
    from .function import CompiledFunction

    compiled = getattr(type(function), "_compiled_call", function)
    if not isinstance(compiled, CompiledFunction):
        raise TypeError(f"explain: expected what tg.compile returned, got {type(function).__name__}")
    kinds = compiled._kinds.values()
    plans = tuple(_report(k.plans[0]) for k in kinds if k.plans)
    problems = tuple(dict.fromkeys(k.problem for k in kinds if k.problem is not None))
    parts = tuple(explain(p) for p in (compiled._parts or {}).values())
    return Explanation(compiled.name, plans, problems, parts)


__all__ = ["Explanation", "PlanReport", "StepReport", "explain"]
