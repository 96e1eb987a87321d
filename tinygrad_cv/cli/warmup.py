"""`tinygrad-cv warmup`: compiles kernels ahead of their first use, all of them or those that operators or models need."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from . import add_command, prepare

_ELEMENTS = 1_200_000  # of the example batch at most: enough for every kernel that a full batch takes, at little to compute


def add_commands(commands: Any) -> None:
    """Registers `warmup`."""
    parser = add_command(
        commands,
        "warmup",
        "compile kernels ahead of their first use",
        ["warmup", "warmup lenet5", "warmup conv2d max_pool2d", "warmup --clear"],
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="models, each of which does a training step, or operators (default: all operators with kernels)",
    )
    parser.add_argument("--clear", action="store_true", help="delete the kernel cache first")
    parser.set_defaults(run=warmup)


def warmup(options: argparse.Namespace) -> int:
    """Compiles kernels into the cache, saying how far it is."""
    from tinygrad_cv import kernels

    prepare(options)
    tasks = _tasks(options.names)
    if options.clear:
        kernels.clear_cache()
    started = time.perf_counter()
    with _progress(len(tasks)) as say:
        for name, task in tasks:
            say(name)
            task()
    seconds = round(time.perf_counter() - started, 2)
    cache = kernels.cache_info()
    models = [name for name, task in tasks if task.__name__ == "step"]
    result = {"operators": len(tasks) - len(models), "models": models, "seconds": seconds, "cache": cache}
    kinds = [f"{len(kind)} {word}" for kind, word in ((tasks[len(models) :], "operators"), (models, "models")) if kind]
    where = f"cached in {cache['path']}" if cache["path"] else "not cached: no folder can be written"
    print(json.dumps(result) if options.json else f"{' and '.join(kinds) or 'nothing'} in {seconds} s, {where}")
    return 0


def _tasks(names: list[str]) -> list[tuple[str, Callable[[], Any]]]:
    """What to do under which name. KeyError for a name that neither an operator nor a model has."""
    from tinygrad_cv import kernels, models, registry

    def operator_task(name: str) -> Callable[[], Any]:
        return lambda: kernels.warmup([name])

    if not names:
        return [(o.name, operator_task(o.name)) for o in registry.operators() if o.devices()]
    known = set(models.list_models())
    chosen = [n for n in names if registry.find(n) is None and n in known]
    tasks: list[tuple[str, Callable[[], Any]]] = [(n, model_step(n)) for n in chosen]
    for name in names:
        if name in chosen:
            continue
        if registry.find(name) is None:
            import difflib

            near = difflib.get_close_matches(name, [*known, *(o.name for o in registry.operators())], 3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise KeyError(f"no operator and no model is called {name!r}{hint}")
        tasks.append((name, operator_task(registry.get(name).name)))
    return tasks


def model_step(name: str) -> Callable[[], None]:
    """A training step of the model called `name` as `tinygrad-cv train` does it, then what it computes for one image."""
    import tinygrad_cv as tg
    from tinygrad_cv import models, nn
    from tinygrad_cv.train import recipes

    known = models.info(name)

    def step() -> None:
        elements = known.input_shape[0] * known.input_shape[1] * known.input_shape[2]
        batch = max(2, min(known.recipe.get("batch_size", 64), _ELEMENTS // elements))
        model = models.create(name)
        optimizer = recipes.make_optimizer(known.recipe.get("optimizer", "adam"), model.parameters(), lr=1e-3)
        images = tg.rand(batch, *known.input_shape)
        loss = getattr(nn.functional, known.loss)
        for _ in range(2):  # the second finds the state of the optimizer
            optimizer.zero_grad()
            loss(model(images), tg.arange(batch) % 10).backward()
            optimizer.step()
        model.eval()
        with tg.no_grad():
            model(images[:1])

    return step


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on standard error where that is a terminal, else a line for each task."""
    if not sys.stderr.isatty():
        count = iter(range(1, total + 1))
        yield lambda name: print(f"[{next(count)}/{total}] {name}", file=sys.stderr, flush=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("compiling {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)
        done = -1

        def say(name: str) -> None:
            nonlocal done
            done += 1
            bar.update(task, description=name, completed=done)

        yield say
        bar.update(task, description="done", completed=total)


__all__ = ["add_commands", "model_step", "warmup"]
