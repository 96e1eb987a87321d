"""What `tg.compile` returns: a function that records its first calls, then runs a plan as long as what the plan relies on holds."""

from __future__ import annotations

import copy
import functools
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import random
from .._state import state
from .._tensor import Tensor, wrap
from ..autograd import Function, enable_grad
from ..autograd import grad as autograd_grad
from ..kernels.memory import release
from ..nn import Module
from .guards import Guards, Surroundings, modules_unchanged, settings
from .plan import Plan
from .program import Program, difference, simplify
from .trace import Trace
from .values import map_structure, tensors_in

_MOST_RECORDINGS = 4  # calls of one kind that may differ before it is left to run as it is
_FEW = 8  # runs of a plan that are not worth making it
_MOST_FORGOTTEN = 16  # plans of one kind in a row that ran so few times
_MOST_KINDS = 32  # kinds of calls (shapes, dtypes, settings) that one function keeps plans for


_building = threading.Lock()


class Kind:
    """Calls alike in shapes, dtypes, plain arguments and settings: their recordings, then their program, or why there is none."""

    def __init__(self) -> None:
        self.recordings = 0
        self.last: tuple[Trace, Any] | None = None
        self.program: Program | None = None
        self.guards: Guards | None = None
        self.plans: list[Plan] = []  # one, unless a second call comes before the backward of the first
        self.free: list[Plan] = []
        self.problem: str | None = None
        self.leaves: tuple[Tensor, ...] = ()
        self.saved: tuple[bool, ...] = ()  # for each argument, then each leaf, whether the backward part reads it
        self.runs = 0  # of the program
        self.forgotten = 0  # programs in a row that hardly ran

    def forget(self) -> None:
        """Back to recording: something that the plan relied on has changed."""
        self.forgotten = self.forgotten + 1 if self.runs < _FEW else 0
        self.runs = self.recordings = 0
        self.program = self.guards = self.last = None
        self.plans, self.free = [], []

    def take(self, inputs: Sequence[Tensor]) -> Plan:
        """A plan that nobody is using; one that must be made is tried with `inputs`."""
        try:
            return self.free.pop()
        except IndexError:
            pass
        assert self.program is not None
        with _building:  # kernels are watched meanwhile, which two threads cannot do at once
            release()  # what calls without a plan used: a plan has memory of its own
            plan = Plan(self.program, inputs)
            release()
        self.plans.append(plan)
        return plan


class CompiledFunction:
    """A function or training step under `tg.compile`. Calling it does what calling the original does; see `compile`."""

    def __init__(
        self, function: Callable[..., Any], name: str, fullgraph: bool = False, parts: Sequence[Module] | None = None
    ) -> None:
        functools.update_wrapper(self, function, updated=())
        self.function, self.name, self.fullgraph = function, name, fullgraph
        self._modules = parts
        self._parts: dict[int, CompiledFunction] | None = None
        self._kinds: dict[Any, Kind] = {}
        self._busy = False
        self._warned: set[str] = set()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if state.capture is not None or self._busy or state.anomaly:
            return self.function(*args, **kwargs)
        tensors: list[Tensor] = []
        described = _describe((args, kwargs) if kwargs else args, tensors)
        key = (settings(), described, _repeated(tensors) if len(tensors) > 1 else None)
        try:
            kind = self._kinds.get(key)
        except TypeError:
            self._say("an argument can be changed (an array, a set or an object), so that no plan can rely on it", 3)
            return self._as_it_is(args, kwargs)
        if any([t._hooks or (t._node is not None and t._node.hooks) for t in tensors]):
            self._say("an argument has hooks", 3)
            return self._as_it_is(args, kwargs)
        if kind is None:
            if len(self._kinds) >= _MOST_KINDS:
                for known in self._kinds.values():
                    known.last = None
                self._say("too many kinds of calls: shapes, dtypes or plain arguments differ from call to call", 3)
                return self._as_it_is(args, kwargs)
            kind = self._kinds[key] = Kind()
        if kind.problem is not None:
            return self._as_it_is(args, kwargs)
        if kind.program is not None:
            if kind.guards is not None and kind.guards.hold(tensors):
                return self._run(kind, tensors, args, kwargs)
            kind.forget()
        return self._record(kind, tensors, args, kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    # Recording --------------------------------------------------------------------------------------------------------

    def _record(self, kind: Kind, tensors: list[Tensor], args: Any, kwargs: Any) -> Any:
        """Runs the call as it is and records it. When two recordings agree, they become the program."""
        kind.recordings += 1
        others: list[Any] = []
        map_structure((args, kwargs), others.append)
        surroundings = Surroundings(self.function, others)
        trace = Trace(tensors, surroundings.tensors)
        before_settings = settings()
        self._busy = True
        state.capture = trace
        try:
            result = self.function(*args, **kwargs)
        finally:
            state.capture = None
            self._busy = False
        if any([v.tensor is not None and v.tensor._hooks for v in trace.values]):
            trace.give_up("a tensor that it uses has hooks")
        if settings() != before_settings:
            trace.give_up("it leaves a setting changed (the grad mode, the default dtype or the like)")
        structure = trace.finish(result)
        gradients: list[Any] = []
        open_ended: tuple[int, ...] = ()
        if trace.problem is None:
            returned = tensors_in(result)
            open_ended = tuple(
                i for i, t in enumerate(returned) if t._requires_grad and t._node is not None and not t._node.freed
            )
            if open_ended:
                gradients = trace.backward([returned[i] for i in open_ended])
        result = map_structure(result, lambda v: float(v) if isinstance(v, float) else v)
        trace.ungraph(result)
        if trace.problem is not None:
            self._give_up(kind, trace.problem)
            return result
        before, kind.last = kind.last, (trace, structure)
        if before is not None:
            problem = difference(*before, trace, structure)
            if problem is None and not (surroundings.unchanged() and modules_unchanged(surroundings.facts)):
                problem = "it changes a name, a list or an attribute that it relies on, such as a counter"
            if problem is None:
                kind.program = simplify(trace, structure, gradients)
                kind.program.open_ended = open_ended
                kind.leaves = tuple(target for target, _ in kind.program.gradients if isinstance(target, Tensor))
                read = kind.program.read_behind()
                places, outside = (
                    {v.place for v in read if v.kind == "input"},
                    {id(v.tensor) for v in read if v.kind == "state"},
                )
                kind.saved = (*(i in places for i in range(len(tensors))), *(id(t) in outside for t in kind.leaves))
                kind.free.append(kind.take(tensors))
                kind.guards = Guards(surroundings, trace, kind.plans[0])
                kind.last = None
            elif kind.recordings >= _MOST_RECORDINGS:
                self._give_up(kind, problem)
        elif kind.forgotten >= _MOST_FORGOTTEN:
            self._give_up(kind, "what it relies on changes from call to call (module attributes, globals or parameters)")
        trace.forget()
        return result

    def _give_up(self, kind: Kind, problem: str) -> None:
        if not self.fullgraph:
            kind.problem, kind.last = problem, None
        self._say(problem, 5)

    def _say(self, problem: str, level: int) -> None:
        """Warns, once for each reason."""
        if self.fullgraph:
            raise RuntimeError(f"compile: {self.name} cannot become one plan: {problem}")
        if problem in self._warned:
            return
        self._warned.add(problem)
        modules = ", ".join(type(p.function).__name__ for p in self._compiled_parts().values())
        rest = f"; its modules ({modules}) are compiled by themselves" if modules else ""
        warnings.warn(f"compile: {self.name} runs as it is: {problem}{rest}", RuntimeWarning, stacklevel=level)

    # Parts ------------------------------------------------------------------------------------------------------------

    def _compiled_parts(self) -> dict[int, CompiledFunction]:
        """The modules that the function calls, compiled by themselves: what is left where it cannot be compiled as a whole."""
        if self._parts is None:
            found = self._modules if self._modules is not None else Surroundings(self.function).outermost
            self._parts = {id(m): CompiledFunction(m, type(m).__name__, parts=tuple(m.children())) for m in found}
            for module in found:
                module.__dict__["_hooked"] = True  # its calls take the way on which parts are looked for
        return self._parts

    def _as_it_is(self, args: Any, kwargs: Any) -> Any:
        others = {key: part for key, part in (state.parts or {}).items() if part is not self}
        with _using({**others, **self._compiled_parts()}):
            return self.function(*args, **kwargs)

    # Running ----------------------------------------------------------------------------------------------------------

    def _run(self, kind: Kind, tensors: list[Tensor], args: Any, kwargs: Any) -> Any:
        program: Any = kind.program
        plan = kind.take(tensors)
        kind.runs += 1
        if not program.differentiable:
            try:
                result = plan.run(tensors)
            finally:
                kind.free.append(plan)
            if state.inference:
                outside = {id(t) for t in tensors} | {id(v.tensor) for v in program.results()}
                for t in tensors_in(result):
                    t._inference = t._inference or id(t) not in outside
            return result
        structure: list[Any] = []
        call = _Call(self.function, args, kwargs, kind, plan, structure)
        with enable_grad():
            outputs = _Compiled.apply(call, *tensors, *kind.leaves)
        wanted = iter([i in program.open_ended for i in range(len(outputs))])
        given = iter(outputs)

        def returned(value: Any) -> Any:  # an argument or parameter is returned itself
            if not isinstance(value, Tensor):
                return value
            output = next(given)
            return output if next(wanted) else value

        return map_structure(structure.pop(), returned)  # the call keeps no result: that would be a circle

    def __repr__(self) -> str:
        return f"<compiled {self.name}>"


class _Call:
    """One differentiable call: the plan it holds until its backward is done, and how to do it all again without the plan."""

    def __init__(self, function: Any, args: Any, kwargs: Any, kind: Kind, plan: Plan, structure: list[Any]) -> None:
        self.function, self.args, self.kwargs = function, args, kwargs
        self.kind, self.plan, self.structure = kind, plan, structure
        calls = kind.program is not None and any(i.kind == "call" for i in kind.program.instructions)
        self.rng = random.get_rng_state() if calls else None

    def again(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The differentiable results, computed by the function itself and recorded; what it moves outside is put back."""
        program: Any = self.kind.program
        rng = random.get_rng_state() if self.rng is not None else None
        outside = {
            id(v.tensor): v.tensor
            for i in program.instructions
            if i.kind in ("call", "store")
            for v in i.inputs
            if v.kind == "state"
        }
        kept = [(t, t._data.copy()) for t in outside.values()]
        given = iter(inputs)
        args, kwargs = map_structure((self.args, self.kwargs), lambda v: next(given) if isinstance(v, Tensor) else v)
        try:
            if self.rng is not None:
                random.set_rng_state(self.rng)
            with enable_grad(), _using(None):
                result = self.function(*args, **kwargs)
        finally:
            if rng is not None:
                random.set_rng_state(rng)
            for tensor, array in kept:
                tensor._data[...] = array
        return [t for t in tensors_in(result) if t._requires_grad]


class _Compiled(Function):
    """A plan as a differentiable step: its forward part now, its backward part when the gradients of the results are known."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor) -> Any:
        plan = call.plan
        count = plan.program.arguments
        token = wrap(np.empty(0, np.float32))  # dies when backward is through with the node, or nobody wants it any more
        weakref.finalize(token, call.kind.free.append, plan)
        ctx.call, ctx.count, ctx.saved = call, count, call.kind.saved
        ctx.save_for_backward(token, *(t for t, saved in zip(tensors, ctx.saved, strict=True) if saved))
        ctx.others = [(t, t._version) for t, saved in zip(tensors, ctx.saved, strict=True) if not saved]
        result = plan.run(tensors[:count])
        call.structure.append(result)
        outputs = tensors_in(result)
        call.plan = None  # type: ignore[assignment]
        ctx.plan = weakref.ref(plan)
        wanted = set(plan.program.open_ended)
        ctx.mark_non_differentiable(*(t for i, t in enumerate(outputs) if i not in wanted))
        ctx.wanted = plan.program.open_ended
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        _, *saved = ctx.saved_tensors
        pinned, others = iter(saved), iter(ctx.others)
        tensors = [next(pinned) if saved else next(others)[0] for saved in ctx.saved]
        upstreams = [grad_outputs[i] for i in ctx.wanted]
        program = ctx.call.kind.program
        plan = ctx.plan()
        found: list[Any] = [None] * len(tensors)
        positions = {id(leaf): ctx.count + k for k, leaf in enumerate(ctx.call.kind.leaves)}
        if state.grad_enabled or plan is None or program is None:
            inputs = tensors[: ctx.count]
            changed = [t.shape for t, version in ctx.others if t._version != version]
            if changed:
                raise RuntimeError(
                    f"compile: a tensor of shape {changed[0]} was changed in place after forward, which must be run again for "
                    f"second derivatives; write after backward, or to a clone"
                )
            outputs = ctx.call.again(inputs)
            targets = [t for t in (*inputs, *ctx.call.kind.leaves) if t._requires_grad]
            grads = autograd_grad(outputs, targets, upstreams, create_graph=state.grad_enabled, allow_unused=True)
            by_target = {id(t): g for t, g in zip(targets, grads, strict=True)}
            return None, *(by_target.get(id(t)) for t in (*inputs, *ctx.call.kind.leaves))
        for (target, _), gradient in zip(program.gradients, plan.run_backward(upstreams), strict=True):
            found[positions[id(target)] if isinstance(target, Tensor) else target] = gradient
        return None, *found


@contextmanager
def _using(parts: dict[int, CompiledFunction] | None) -> Iterator[None]:
    before, state.parts = state.parts, parts
    try:
        yield
    finally:
        state.parts = before


def _describe(value: Any, tensors: list[Tensor]) -> Any:
    """Arguments as a key: tensors by shape and dtype (and collected), the rest by value."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return value._data.shape, value._data.dtype, value._requires_grad, value._node is None
    if isinstance(value, (tuple, list)):
        return type(value), tuple([_describe(v, tensors) for v in value])
    if isinstance(value, dict):
        return dict, tuple([(k, _describe(v, tensors)) for k, v in value.items()])
    return type(value), value


def _repeated(tensors: Sequence[Tensor]) -> tuple[int, ...] | None:
    """For each argument, the first that has the same memory; None if all have memory of their own."""
    memories = [id(t._data) for t in tensors]
    return None if len(set(memories)) == len(memories) else tuple([memories.index(m) for m in memories])


def compile(model: Any = None, *, fullgraph: bool = False, **torch_options: Any) -> Any:
    """A function, module or whole training step that runs as a plan: recorded twice, then replayed without its Python.

        step = tg.compile(step)         # a function: forward, backward, optimizer.step(), in any order
        model = tg.compile(model)       # a module: forward as one plan, backward as another
        @tg.compile                     # or as a decorator

    What is recorded: every operator, `backward()`, gradients, optimizer and schedule steps, random numbers, running statistics. From
    two recordings that agree a plan is made: operators that lead nowhere are left out, equal ones computed once, chains of
    elementwise operators become generated kernels, values share memory by the time they live. The plan is run as long as shapes,
    dtypes, plain arguments, modules (training mode, parameters, attributes), global names and closures stay what they were; for
    others there is another plan, made in the same way.

    Results are those of the function itself, within the tolerances of its operators. Tensors of a call whose backward ran inside have
    no history, and what is returned has memory of its own: a view in the function is a copy here. A call that cannot be recorded (a
    condition on a tensor, `.numpy()`, results kept outside of it, counters, hooks of arguments or parameters) runs as it is, with the
    modules in it compiled by themselves, and one RuntimeWarning says why. Python and NumPy computations that the two recordings agree
    on are taken to be the same in every call, as `print` is taken to be wanted only then.

    Second derivatives through a compiled module run the module itself again. fullgraph: RuntimeError instead of the warning. PyTorch's
    other options (mode, dynamic, backend, options, disable) are accepted; disable=True returns `model` as it is.

    TypeError for what cannot be called.
    """
    unknown = set(torch_options) - {"mode", "dynamic", "backend", "options", "disable"}
    if unknown:
        raise TypeError(f"compile: unknown options {sorted(unknown)}")
    if model is None:
        return functools.partial(compile, fullgraph=fullgraph, **torch_options)
    if not callable(model):
        raise TypeError(f"compile: expected a function or a module, got {type(model).__name__}")
    if torch_options.get("disable"):
        return model
    if isinstance(model, CompiledFunction):
        return model
    if isinstance(model, Module):
        return _compiled_module(model, fullgraph)
    return CompiledFunction(model, getattr(model, "__qualname__", type(model).__name__), fullgraph)


def _compiled_module(module: Module, fullgraph: bool) -> Module:
    """A module of the same parts (the very same: parameters, mode, attributes) whose calls are compiled."""
    kind = type(module)
    if hasattr(module, "_compiled_call"):
        return module
    call = CompiledFunction(module, kind.__name__, fullgraph, tuple(module.children()))
    cls = type(
        kind.__name__,
        (kind,),
        {
            "__call__": lambda self, *a, **k: call(*a, **k),
            "__copy__": lambda self: _compiled_module(copy.copy(module), fullgraph),
            "__deepcopy__": lambda self, memo: _compiled_module(copy.deepcopy(module, memo), fullgraph),
            "_compiled_call": call,
            "__doc__": kind.__doc__,
        },
    )
    compiled: Any = object.__new__(cls)
    object.__setattr__(compiled, "__dict__", module.__dict__)
    return compiled  # type: ignore[no-any-return]


__all__ = ["CompiledFunction", "compile"]
