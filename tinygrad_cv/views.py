"""How tensors share memory: views, their history, and the forms that change a tensor's own shape in place.

A view knows the tensor it was taken from (its base) and the operators that lead there (its chain), so that after an in-place
write its history can be made anew from the base's. A base that is itself reshaped in place notes the way back in
`_turns`, which older views put before their chain when they are next used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ._state import state
from .autograd.node import Constant, Storage
from .replay import left

if TYPE_CHECKING:
    import numpy as np

    from ._tensor import Tensor
    from .registry import Operator

Step = tuple["Operator", tuple[Any, ...]]


class Views:
    """Mixed into Tensor. `self` is always a Tensor."""

    _data: np.ndarray
    _storage: Storage | None = None
    _constant: Constant | None = None
    _base: Tensor | None = None  # the tensor whose memory this one views
    _view_chain: tuple[Step, ...] = ()  # how to make this view from _base
    # Of a base: in-place events that its views must know of; of a view: those it has seen. Here writes that changed history,
    _generation: int = 0
    _turns: list[Step] | None = None  # here each in-place change of shape, as the operator that undoes it,
    _turns_seen: int = 0
    _memory: tuple[int, int] | None = None  # and here the last assignment to `.data`: the two counts before it.

    def _become_view(self: Any, source: Tensor, op: Operator, attrs: tuple[Any, ...]) -> None:
        """Marks this new tensor as a view of `source`'s base, and shares its storage."""
        if source._storage is None:
            source._storage = Storage()
        self._storage = source._storage
        self._base = base = source if source._base is None else source._base
        self._view_chain = (*source._view_chain, (op, attrs))
        self._generation = base._generation
        if base._turns is not None:
            self._turns_seen = len(base._turns)
        if base._memory is not None:
            self._memory = base._memory

    def _refresh_view(self: Any) -> None:
        """After an in-place write to the base or to another view of it, makes this view's history anew from the base's."""
        base = self._base
        if base is None or self._generation == base._generation:
            return
        if self._memory is not base._memory:
            self._leave_base()
            return
        turns = base._turns[self._turns_seen :] if base._turns is not None else []
        self._turns_seen += len(turns)
        self._generation += len(turns)
        self._view_chain = (*reversed(turns), *self._view_chain)
        if self._generation == base._generation:  # only the base's shape changed: values and gradients are what they were
            return
        self._generation = base._generation
        from ._tensor import wrap
        from .dispatch import record

        current = base
        for op, attrs in self._view_chain:
            step = wrap(op.bind(op.reference, (current._data,), attrs))
            wants = current._requires_grad and op.differentiable
            if wants or state.capture is not None:
                record(op, (current,), attrs, (step,), wants)
            current = step
        self._take_history(current)

    def _leave_base(self: Any) -> None:
        """The base was given other memory by `.data =`: this tensor keeps the old memory and its own history."""
        memory = self._base._memory
        if memory is not None and self._requires_grad and memory[0] - self._generation > memory[1] - self._turns_seen:
            raise RuntimeError(
                "this view's base was written in place and then given other memory by `.data =`, so the view's gradient can no "
                "longer be told; take the view anew, or detach() it"
            )
        self._base, self._view_chain, self._turns_seen, self._memory, self._generation = None, (), 0, None, 0

    def _take_history(self: Any, other: Tensor) -> None:
        """Takes the place of `other` in the graph; a retained gradient follows this tensor to its new value."""
        retained = self._retains_grad and self._node is not None
        if retained and self._node.retained is not None:
            self._node.retained.pop(self._slot, None)
        self._node, self._slot, self._requires_grad = other._node, other._slot, other._requires_grad
        if retained:
            self._retains_grad = False
            if self._requires_grad:
                self.retain_grad()

    def _rebase(self: Any, result: Tensor) -> None:
        """This view was overwritten by `result`: the base's history becomes the old base with this region replaced."""
        from ._tensor import wrap
        from .dispatch import record
        from .registry import get

        base = self._base
        updated = wrap(base._data)
        wants = base._requires_grad or result._requires_grad
        record(get("view_scatter"), (base, result), (self._view_chain,), (updated,), wants)
        base._take_history(updated)
        base._generation += 1
        self._refresh_view()

    # Other memory, other shape ----------------------------------------------------------------------------------------

    def _replace_memory(self: Any, array: np.ndarray, storage: Storage | None) -> None:
        """Takes `array` as its memory; views of the old memory go on without this tensor."""
        if self._storage is not None:
            self._storage.version += 1
        if self._base is not None:
            self._refresh_view()
            self._base, self._view_chain, self._turns_seen, self._memory, self._generation = None, (), 0, None, 0
        elif self._storage is not None:  # otherwise there are no views
            self._memory = (self._generation, 0 if self._turns is None else len(self._turns))
            self._turns = None
            self._generation += 1
        self._data, self._storage, self._constant = array, storage, None

    def _change_shape(self: Any, name: str, *arguments: Any) -> Any:
        """Turns this tensor into its own view by operator `name`; memory, views and gradients stay what they were."""
        from ._tensor import wrap
        from .dispatch import apply
        from .registry import get

        left(self, f"{name}_()")
        operator = get(name)
        _, *attrs = operator.prepare(self, *arguments)  # type: ignore[misc]
        step: Step = (operator, tuple(attrs))
        requires, leaf, base = self.requires_grad, self.is_leaf, self._base
        if state.grad_enabled and requires and leaf:
            raise RuntimeError(
                f"{name}_: a leaf tensor that requires grad cannot be changed in place; use {name}(), or no_grad()"
            )
        if state.grad_enabled and base is not None and base._requires_grad and base.is_leaf:
            raise RuntimeError(
                f"{name}_: a view of a leaf tensor that requires grad cannot be changed in place; use {name}(), or no_grad()"
            )
        former = wrap(self._data)
        former._node, former._slot, former._requires_grad = self._node, self._slot, requires
        former._inference, former.name = self._inference, self.name
        recording = state.grad_enabled
        state.grad_enabled = recording or not leaf  # what has a history keeps one that fits its shape, under no_grad too
        try:
            turned = apply(operator, (former,), step[1])
        finally:
            state.grad_enabled = recording
        if requires and leaf and turned.shape != self.shape:
            if self.grad is not None:
                raise RuntimeError(
                    f"{name}_: this leaf has a .grad of shape {self.shape}, which would not fit {turned.shape}; set .grad = None first"
                )
            if self._storage is not None:  # graphs that saved the leaf in its old shape must notice
                self._storage.version += 1
        if base is not None:
            self._view_chain = (*self._view_chain, step)
        elif self._storage is not None:  # otherwise there are no views
            same_order = name in ("squeeze", "unsqueeze")  # the other operators undo themselves
            self._turns = self._turns or []
            self._turns.append((get("reshape"), (former.shape,)) if same_order else step)
            self._generation += 1
        self._data, self._constant = turned._data, None
        if not (requires and leaf):
            self._take_history(turned)
        return self

    def squeeze_(self, dim: int | Sequence[int] | None = None) -> Tensor:
        """Drops this tensor's own axes of size 1, or those in `dim` that have size 1. The memory stays and views stay valid.

        RuntimeError for a leaf that requires grad, and a view of one, outside of no_grad; IndexError for an axis out of range.
        """
        return self._change_shape("squeeze", dim)  # type: ignore[no-any-return]

    def unsqueeze_(self, dim: int) -> Tensor:
        """Gives this tensor an axis of size 1 at `dim`. Errors as for `squeeze_`."""
        return self._change_shape("unsqueeze", dim)  # type: ignore[no-any-return]

    def transpose_(self, dim0: int, dim1: int) -> Tensor:
        """Swaps this tensor's own axes `dim0` and `dim1`: its shape and strides change, the memory does not.

        Errors as for `squeeze_`.
        """
        return self._change_shape("transpose", dim0, dim1)  # type: ignore[no-any-return]

    def swapaxes_(self, axis0: int, axis1: int) -> Tensor:
        """As `transpose_`."""
        return self._change_shape("swapaxes", axis0, axis1)  # type: ignore[no-any-return]

    def swapdims_(self, dim0: int, dim1: int) -> Tensor:
        """As `transpose_`."""
        return self._change_shape("swapdims", dim0, dim1)  # type: ignore[no-any-return]

    def t_(self) -> Tensor:
        """Swaps the axes of this matrix; a tensor of fewer axes stays as it is. ValueError for more than two axes.

        Errors otherwise as for `squeeze_`.
        """
        return self._change_shape("t")  # type: ignore[no-any-return]
