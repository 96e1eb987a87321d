"""Where the time goes: seconds, FLOPs, bytes and share of the machine's peak, by node, operator and module, forward and backward.

    profile = tg.profiler.measure(model, images)
    print(profile)                                 # a table by operator
    print(profile.table("module", depth=2))
    tg.viz.draw(profile, color_by="time").save("where.svg")

Measured as a user's program runs: eagerly, operator after operator, caches as they are left. (PyTorch's `torch.profiler.profile`, which
records whatever happens in a `with` block, is another tool.)
"""

from __future__ import annotations

import gc
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ._state import state
from ._tensor import Tensor
from .autograd import engine
from .autograd.modes import no_grad
from .autograd.node import Node, reachable
from .costs import Cost, of_graph, work
from .creation import ones_like
from .graph import Capture, Graph, _tensors, bound_names, trace
from .peak import Peak, measure_peak

_LEVELS = ("operator", "module", "node")


@dataclass(frozen=True)
class Row:
    """What one node, operator or module took: seconds, FLOPs and bytes of forward, and of backward in `backward_...`."""

    name: str
    calls: int
    seconds: float
    flops: float
    bytes: float
    backward_seconds: float = 0.0
    backward_flops: float = 0.0
    backward_bytes: float = 0.0

    @property
    def total_seconds(self) -> float:
        """Forward and backward."""
        return self.seconds + self.backward_seconds

    def of_peak(self, peak: Peak) -> tuple[float, float]:
        """Shares of the machine's operations and bytes a second that were reached; over 1 where values came from caches."""
        if self.total_seconds == 0:
            return 0.0, 0.0
        flops = (self.flops + self.backward_flops) / self.total_seconds / peak.flops
        return flops, (self.bytes + self.backward_bytes) / self.total_seconds / peak.bandwidth

    def plus(self, other: Row) -> Row:
        """Both together, under the name of this one."""
        numbers = {f: getattr(self, f) + getattr(other, f) for f in ("calls", *_NUMBERS)}
        return replace(self, **numbers)


_NUMBERS = ("seconds", "flops", "bytes", "backward_seconds", "backward_flops", "backward_bytes")


@dataclass(frozen=True)
class Profile:
    """What `measure` found. nodes: a row for every operator in order of execution. seconds, backward_seconds: medians of whole passes.

    first_seconds: the first call, forward and backward, with everything that is compiled, loaded and allocated then. node_ids: of the
    nodes in `graph` (None: something that the result does not depend on). scopes: the modules they ran in.
    """

    graph: Graph
    nodes: tuple[Row, ...]
    node_ids: tuple[str | None, ...]
    scopes: tuple[str, ...]
    operators: tuple[str, ...]
    seconds: float
    backward_seconds: float
    first_seconds: float
    runs: int
    peak: Peak

    def rows(self, by: str = "operator", depth: int | None = None) -> list[Row]:
        """One row for each operator, module or node, the slowest first; modules to `depth` levels below the outermost.

        Of modules, every operator counts once: in the innermost one that it ran in, down to that depth.
        ValueError for anything else than "operator", "module" or "node".
        """
        if by not in _LEVELS:
            raise ValueError(f"rows: by must be one of {', '.join(map(repr, _LEVELS))}, got {by!r}")
        if by == "node":
            return list(self.nodes)
        names = self.operators if by == "operator" else [_module(s, depth) for s in self.scopes]
        found: dict[str, Row] = {}
        for name, row in zip(names, self.nodes, strict=True):
            row = replace(row, name=name)
            found[name] = found[name].plus(row) if name in found else row
        return sorted(found.values(), key=lambda r: -r.total_seconds)

    @property
    def total(self) -> Row:
        """Everything together; its seconds are those of whole passes, with what happens between operators."""
        total = Row("total", 0, 0.0, 0.0, 0.0)
        for row in self.nodes:
            total = total.plus(row)
        return replace(total, seconds=self.seconds, backward_seconds=self.backward_seconds)

    def seconds_of(self, node_id: str) -> tuple[float, float]:
        """(forward, backward) seconds of a node of the graph; zeros for a leaf."""
        row = self._by_id().get(node_id)
        return (row.seconds, row.backward_seconds) if row is not None else (0.0, 0.0)

    def _by_id(self) -> dict[str | None, Row]:
        return dict(zip(self.node_ids, self.nodes, strict=True))

    def table(self, by: str = "operator", depth: int | None = None, limit: int | None = None) -> str:
        """The rows as text, with totals; `limit`: only so many, and the rest as one."""
        from .profile_table import as_text

        return as_text(self, by, depth, limit)

    def __str__(self) -> str:
        return self.table(limit=20)

    def __repr__(self) -> str:
        return f"<Profile: {len(self.nodes)} operators, {1e3 * (self.seconds + self.backward_seconds):.3g} ms>"


def measure(
    target: Callable[..., Any], *inputs: Any, backward: bool = True, runs: int = 5, names: Mapping[str, Tensor] | None = None
) -> Profile:
    """Runs a module or function `1 + runs` times on `inputs` and returns where the time went: medians of all runs but the first.

    backward: also the gradients of the sum of its outputs (where one requires grad); without, it runs under no_grad. The time of an
    operator is that from the end of the one before it to its own: everything a user waits for is in the sum. FLOPs and bytes are
    counted from shapes (`tg.costs`), those of backward from the operators that the rules really call. Parameters keep their
    `.grad`, buffers and random numbers are put back as they were.

    TypeError where `target` cannot be called, gives no Tensors or is compiled; ValueError for runs < 1, where runs differ in what
    they do, and for a function that calls backward itself.
    """
    if not callable(target):
        raise TypeError(f"profiler.measure: expected a module or function, got {type(target).__name__}")
    compiler = sys.modules.get(f"{__package__}.compiler.function")
    if compiler is not None and isinstance(target, compiler.CompiledFunction):
        raise TypeError(
            "profiler.measure: a compiled function has no operators to measure one by one; measure the function or module itself, "
            "and see tg.compile.explain for its plan"
        )
    if runs < 1:
        raise ValueError(f"profiler.measure: runs must be at least 1, got {runs}")
    passes = []
    first_seconds = 0.0
    with _undisturbed(target):
        started = time.perf_counter()
        _Pass(target, inputs, backward)
        first_seconds = time.perf_counter() - started
        passes = [_Pass(target, inputs, backward) for _ in range(runs)]
        counted = _Pass(target, inputs, backward, count=True)
    kinds = [[n.op.name for n in p.nodes] for p in (*passes, counted)]
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError("profiler.measure: the target runs other operators from call to call, so their times have no median")
    return _profile(target, inputs, names, passes, counted, first_seconds)


@contextmanager
def _undisturbed(target: Any) -> Iterator[None]:
    """No garbage collection while it measures; buffers and random numbers as they were afterwards."""
    from .random import get_rng_state, set_rng_state

    buffers = [(b, b._data.copy()) for _, b in target.named_buffers()] if hasattr(target, "named_buffers") else []
    random, collecting = get_rng_state(), gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        set_rng_state(random)
        for buffer, values in buffers:
            buffer._data[...] = values


class _Clock(Capture):
    """Notes when every operator is done; keeps no values."""

    keeps_leaves = False

    def __init__(self) -> None:
        super().__init__(values=False)
        self.ends: list[float] = []

    def add(self, node: Node, outputs: Any) -> None:
        self.ends.append(time.perf_counter())
        self.nodes.append(node)


class _Counter(Capture):
    """Counts the operators that backward rules call, for the node that is being passed."""

    keeps_leaves = False

    def __init__(self) -> None:
        super().__init__(values=False)
        self.current: Node | None = None
        self.costs: dict[Node, Cost] = {}

    def observe(self, node: Node, slot: int, gradient: Tensor) -> None:
        self.current = node

    def add(self, node: Node, outputs: Any) -> None:
        if self.current is not None:
            inputs = node.input_shapes
            sizes = [0 if d is None else d.itemsize for d in node.input_dtypes]
            done = work(node.op, inputs, node.shapes, node.attrs, sizes, [d.itemsize for d in node.dtypes])
            self.costs[self.current] = self.costs.get(self.current, Cost()) + Cost(*done)


class _Pass:
    """One run: its nodes in order, how long each took, and the backward pass through them."""

    def __init__(self, target: Any, inputs: tuple[Any, ...], backward: bool, count: bool = False) -> None:
        clock = _Clock()
        outer, state.capture = state.capture, clock
        try:
            started = time.perf_counter()
            if backward:
                result = target(*inputs)
            else:
                with no_grad():
                    result = target(*inputs)
            self.seconds = time.perf_counter() - started
        finally:
            state.capture = outer
        self.nodes = clock.nodes
        self.forward = [b - a for a, b in zip([started, *clock.ends], clock.ends, strict=False)]
        self.outputs = _tensors(result)
        self.backward: dict[Node, float] = {}
        self.costs: dict[Node, Cost] = {}
        self.backward_seconds = 0.0
        wanting = [o for o in self.outputs if o.requires_grad]
        if any(o._node is not None and o._node.freed for o in wanting):
            raise ValueError(
                "profiler.measure: the function calls backward itself; give it the function up to the loss that it returns, whose "
                "backward pass is measured too"
            )
        if backward and wanting:
            self._run_backward(wanting, count)

    def _run_backward(self, wanting: list[Tensor], count: bool) -> None:
        upstreams = [ones_like(o) for o in wanting]
        if count:
            counter = _Counter()
            outer, state.capture = state.capture, counter
            try:
                engine.run(wanting, upstreams, retain_graph=True, observer=counter.observe)
            finally:
                state.capture = outer
            self.costs = counter.costs
            return
        marks: list[tuple[Node | None, float]] = []

        def observe(node: Node, slot: int, gradient: Tensor) -> None:
            if not marks or marks[-1][0] is not node:
                marks.append((node, time.perf_counter()))

        started = time.perf_counter()
        engine.run(wanting, upstreams, observer=observe)
        ended = time.perf_counter()
        self.backward_seconds = ended - started
        marks.append((None, ended))
        for (node, at), (_, after) in itertools.pairwise(marks):
            if node is not None:
                self.backward[node] = self.backward.get(node, 0.0) + after - at


def _profile(
    target: Any,
    inputs: tuple[Any, ...],
    names: Mapping[str, Tensor] | None,
    passes: list[_Pass],
    counted: _Pass,
    first_seconds: float,
) -> Profile:
    module = target if hasattr(target, "named_parameters") else None
    graph = trace(counted.outputs, names=bound_names(target, inputs, names), module=module)
    costs = of_graph(graph)
    there = reachable(o._node for o in counted.outputs if o._node is not None)
    ids = dict(zip(there, (n.id for n in graph if n.kind == "operator"), strict=True))
    rows = []
    for i, node in enumerate(counted.nodes):
        node_id = ids.get(node)
        sizes = [0 if d is None else d.itemsize for d in node.input_dtypes]
        done = work(node.op, node.input_shapes, node.shapes, node.attrs, sizes, [d.itemsize for d in node.dtypes])
        cost = costs[node_id] if node_id is not None else Cost(*done)
        back = counted.costs.get(node, Cost())
        place = node.scope.partition(".")[2].partition("/")[0]
        rows.append(
            Row(
                f"{place}: {node.op.name}" if place else node.op.name,
                1,
                statistics.median(p.forward[i] for p in passes),
                cost.flops,
                cost.bytes,
                statistics.median(p.backward.get(p.nodes[i], 0.0) for p in passes),
                back.flops,
                back.bytes,
            )
        )
    return Profile(
        graph=graph,
        nodes=tuple(rows),
        node_ids=tuple(ids.get(n) for n in counted.nodes),
        scopes=tuple(str(n.scope) for n in counted.nodes),
        operators=tuple(n.op.name for n in counted.nodes),
        seconds=statistics.median(p.seconds for p in passes),
        backward_seconds=statistics.median(p.backward_seconds for p in passes),
        first_seconds=first_seconds,
        runs=len(passes),
        peak=measure_peak(),
    )


def _module(scope: str, depth: int | None) -> str:
    """The module of a scope, without the outermost one's name where there is one inside it."""
    names = scope.partition("/")[0].split(".")
    inside = names[1:] if depth is None else names[1 : depth + 1]
    return ".".join(inside) or names[0] or "(outside)"


__all__ = ["Profile", "Row", "measure"]
