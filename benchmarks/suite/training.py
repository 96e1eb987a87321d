"""Training steps and inference of whole networks, eager and compiled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .libraries import Context, has_jax, with_our_compile, with_torch_compile
from .networks import WORKLOADS, Workload
from .timing import Call, Missing, attempt, contest

RATE, MOMENTUM = 1e-3, 0.9
QUICK_BATCH = 2
LOSS_TOLERANCE = 1e-3
GRADIENT_TOLERANCE = 3e-2  # of the norm of a parameter's gradient; see `disagreement`


class Trainer:
    """A network of one library, its optimizer (SGD with momentum) and one batch."""

    def __init__(self, library: Any, workload: Workload, weights: dict[str, np.ndarray], **optimizer: Any) -> None:
        self.library = library
        self.model = workload.build(library)
        self.model.load_state_dict({name: library.from_numpy(a.copy()) for name, a in weights.items()})
        self.inputs, self.labels = (library.from_numpy(a) for a in workload.data())
        self.optimizer = library.optim.SGD(self.model.parameters(), lr=RATE, momentum=MOMENTUM, **optimizer)

    def loss(self, inputs: Any, labels: Any) -> Any:
        """Cross-entropy of the batch."""
        return self.library.nn.functional.cross_entropy(self.model(inputs), labels)

    def step(self, inputs: Any, labels: Any) -> Any:
        """Gradients away, forward, backward, update; returns the loss."""
        self.optimizer.zero_grad()
        loss = self.loss(inputs, labels)
        loss.backward()
        self.optimizer.step()
        return loss

    def call(self, step: Any = None) -> Call:
        """A step on the batch, which fetches the loss as every training loop does; `step` in place of the own one."""
        run = step or self.step
        return lambda: run(self.inputs, self.labels).item()

    def without_dropout(self) -> None:
        """Dropout of probability 0: what is compared must not be random."""
        for module in self.model.modules():
            if type(module).__name__ == "Dropout":
                module.p = 0.0

    def channels_last(self) -> Trainer:
        """PyTorch's other layout, which its convolutions often prefer."""
        self.model = self.model.to(memory_format=self.library.channels_last)
        self.inputs = self.inputs.contiguous(memory_format=self.library.channels_last)
        return self


def initial_weights(workload: Workload) -> dict[str, np.ndarray]:
    """Weights that both libraries start with, by the names that both give them."""
    import torch

    torch.manual_seed(0)
    return {name: value.numpy().copy() for name, value in workload.build(torch).state_dict().items()}


def disagreement(ours: Trainer, theirs: Trainer) -> str | None:
    """Whether one forward and backward pass differs between the libraries, and where."""
    for trainer in (ours, theirs):
        trainer.without_dropout()
        loss = trainer.loss(trainer.inputs, trainer.labels)
        loss.backward()
        trainer.value = loss.item()  # type: ignore[attr-defined]
    if not abs(ours.value - theirs.value) <= LOSS_TOLERANCE * abs(theirs.value):  # type: ignore[attr-defined]
        return f"loss {ours.value}, PyTorch {theirs.value}"  # type: ignore[attr-defined]
    # By norms: an input of a ReLU that rounds to the other side of 0 changes single elements by finite amounts. In ResNet-18 PyTorch's
    # float32 gradients differ so from its float64 ones, by up to 2 % of the largest element.
    lengths = [float(q.grad.norm()) for q in theirs.model.parameters()]
    for (name, p), (_, q), length in zip(ours.model.named_parameters(), theirs.model.named_parameters(), lengths, strict=True):
        off = float(np.linalg.norm(np.asarray(p.grad.numpy()) - q.grad.numpy()))
        if not off <= GRADIENT_TOLERANCE * max(length, 1e-3 * max(lengths)):
            return f"the gradient of {name} differs by {off:.1e}, its norm is {length:.1e}"
    return None


def training_row(workload: Workload, context: Context, case: str | None = None, compiled: bool = True) -> dict[str, Any]:
    """One training step of both libraries; compiled: with the compilers, and PyTorch's other layout."""
    import torch

    import tinygrad_cv as tg

    case = case or str(workload)
    weights = initial_weights(workload)
    wrong = disagreement(Trainer(tg, workload, weights), Trainer(torch, workload, weights))
    if wrong:
        return {"case": case, "times": {}, "failed": {"ours": wrong}, "wrong": ["ours"], "batch": workload.batch}

    def ours() -> Trainer:
        tg.manual_seed(0)
        return Trainer(tg, workload, weights)

    def theirs() -> Trainer:
        return Trainer(torch, workload, weights, fused=True)

    def inductor(compile: Any) -> Call:
        trainer = theirs()
        loss, update = compile(trainer.loss), trainer.optimizer.step

        def step(inputs: Any, labels: Any) -> Any:
            trainer.optimizer.zero_grad()
            value = loss(inputs, labels)
            value.backward()
            update()
            return value

        return trainer.call(step)

    def planned(compile: Any) -> Call:
        trainer = ours()
        return trainer.call(compile(trainer.step))

    entrants: dict[str, Call | Missing] = {"ours": ours().call()}
    if compiled:
        entrants["ours compiled"] = with_our_compile(planned)
    entrants["PyTorch"] = theirs().call()
    if compiled and workload.images:
        entrants["PyTorch channels last"] = theirs().channels_last().call()
    if compiled:
        entrants["torch.compile"] = with_torch_compile(inductor, context)
        if has_jax():
            entrants["JAX"] = attempt(lambda: _jax(theirs(), workload))
    # The first losses are compared; where dropout is random they agree only about.
    tolerance = 0.2 if workload.build.__name__ == "alexnet" else LOSS_TOLERANCE
    return contest(case, entrants, context.plan, tolerance=tolerance, batch=workload.batch)


def _jax(trainer: Trainer, workload: Workload) -> Call:
    from .jax_networks import training_call

    return training_call(trainer.model, *workload.data(), RATE, MOMENTUM)


def group(context: Context) -> Iterator[dict[str, Any]]:
    """One row for each network."""
    for name, workload in WORKLOADS.items():
        if context.quick and name in ("alexnet", "resnet18"):
            continue
        yield training_row(workload.sized(QUICK_BATCH) if context.quick else workload, context)


def inference_group(context: Context) -> Iterator[dict[str, Any]]:
    """One image through LeNet-5 and ResNet-18, in evaluation, without a graph."""
    import torch

    import tinygrad_cv as tg

    for name in ("lenet5",) if context.quick else ("lenet5", "resnet18"):
        workload = WORKLOADS[name].sized(1)
        weights = initial_weights(workload)
        ours, theirs = Trainer(tg, workload, weights), Trainer(torch, workload, weights)
        last = Trainer(torch, workload, weights).channels_last()
        for trainer in (ours, theirs, last):
            trainer.model.eval()

        def call(trainer: Trainer, model: Any) -> Call:
            def run() -> Any:
                with trainer.library.inference_mode():
                    return model(trainer.inputs)

            return run

        def frozen(compile: Any, theirs: Trainer = theirs) -> Call:
            import torch._inductor.config

            torch._inductor.config.freezing = True  # constant weights: inductor's best for inference
            try:
                run = call(theirs, compile(theirs.model))
                run()
            finally:
                torch._inductor.config.freezing = False
            return run

        yield contest(
            f"{workload}",
            {
                "ours": call(ours, ours.model),
                "ours compiled": with_our_compile(lambda compile, t=ours: call(t, compile(t.model))),
                "PyTorch": call(theirs, theirs.model),
                "PyTorch channels last": call(last, last.model),
                "torch.compile": with_torch_compile(frozen, context),
            },
            context.plan,
            tolerance=1e-3,
            batch=1,
        )
