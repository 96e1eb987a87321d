"""`tinygrad-cv train`: a model by name, on embedded MNIST or a folder of data, with everything a run leaves behind."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from . import add_command, prepare


def add_commands(commands: Any) -> None:
    """Registers `train`."""
    parser = add_command(
        commands,
        "train",
        "train a model and save its weights, a checkpoint, its graph and its curves",
        [
            "train lenet5 --seed 0 --out runs/lenet5",
            "train lenet5 --out runs/lenet5 --resume",
            "train lenet5 --out runs/lenet5 --resume --epochs 12",
            "train mlp --data photos/ --epochs 20 --optimizer momentum --lr 0.01 --patience 3",
            "train lenet5 --watch --report report.html",
        ],
    )
    parser.add_argument("model", help="name of an architecture, such as lenet5, mlp, linear_softmax, linear_svm")
    parser.add_argument(
        "--data", default="mnist", help="mnist (embedded), or a folder of IDX, CIFAR or image files (default: mnist)"
    )
    parser.add_argument("--out", default=None, metavar="DIR", help="folder for the results (default: runs/MODEL)")
    parser.add_argument("--seed", type=int, default=0, help="fixes weights, order and everything random (default: 0)")
    parser.add_argument("--epochs", type=int, help="passes over the training set (default: the model's recipe)")
    parser.add_argument("--batch-size", type=int, help="examples a step (default: the model's recipe)")
    parser.add_argument("--optimizer", help="sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw, adadelta")
    parser.add_argument("--lr", type=float, help="learning rate (default: the model's recipe)")
    parser.add_argument("--schedule", help="constant, cosine, step, exponential, 1/t, plateau")
    parser.add_argument("--weight-decay", type=float, help="L2 penalty on the weights")
    parser.add_argument("--validation", type=int, default=5000, metavar="N", help="training examples held out (default: 5000)")
    parser.add_argument("--patience", type=int, metavar="N", help="stop after N epochs without a better validation loss")
    parser.add_argument("--limit", type=int, metavar="N", help="use only N training examples (to try things out)")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint in --out; --epochs may be more than before"
    )
    parser.add_argument(
        "--report", metavar="FILE", help="write what the run did and what is wrong with it: .html, .png, .svg, .pdf or .json"
    )
    parser.add_argument("--watch", action="store_true", help="show curves, layers and findings in the terminal meanwhile")
    parser.add_argument("--events", metavar="DIR", help="write TensorBoard event files (needs tensorboardX)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Trains, then measures on the test set, and prints where everything is."""
    import tinygrad_cv as tg
    from tinygrad_cv import data, models, nn, train
    from tinygrad_cv.train import recipes

    prepare(options)
    info = models.info(options.model)
    recipe = {
        "epochs": 5,
        "batch_size": 64,
        "optimizer": "adam",
        "lr": 1e-3,
        "schedule": "constant",
        "weight_decay": 0.0,
        **info.recipe,
    }
    settings = {key: getattr(options, key) if getattr(options, key) is not None else value for key, value in recipe.items()}
    for key in ("epochs", "batch_size"):
        if settings[key] < 1:
            raise ValueError(f"train: --{key.replace('_', '-')} must be at least 1, got {settings[key]}")
    if settings["lr"] <= 0:
        raise ValueError(f"train: --lr must be positive, got {settings['lr']}")
    monitor = _monitor(options)
    directory = Path(options.out or Path("runs") / options.model)
    _require_writable(directory)
    options.interrupt_hint = f"; the finished epochs are in {directory}, go on with --resume"

    started = time.perf_counter()
    train_set, test_set, classes = recipes.load_data(options.data, info.input_shape[1:], info.input_shape[0])
    tg.manual_seed(options.seed)
    train_part, validation_part = _split(data, train_set, options)
    model = models.create(options.model, **_model_options(options.model, classes, info))
    optimizer = recipes.make_optimizer(settings["optimizer"], model.parameters(), settings["lr"], settings["weight_decay"])
    schedule = recipes.make_schedule(settings["schedule"], optimizer, settings["epochs"])
    callbacks = [train.EarlyStopping("val_loss", options.patience)] if options.patience else []
    if monitor is not None:
        callbacks.append(monitor)
    trainer = train.Trainer(
        model,
        optimizer,
        getattr(nn.functional, info.loss),
        scheduler=schedule,
        callbacks=callbacks,
        directory=directory,
        progress=not options.watch,
        config={
            **{name: getattr(options, name) for name in ("model", "data", "seed", "limit", "validation", "patience")},
            **{name: value for name, value in settings.items() if name != "epochs"},
        },
    )
    loader = data.DataLoader(train_part, settings["batch_size"], shuffle=True)
    validation = data.DataLoader(validation_part, 500) if validation_part is not None else None
    if options.resume and trainer.restore():
        _adjust_length(trainer, settings)
    if monitor is not None and not trainer.epoch:
        _try_ten(monitor, trainer, data.DataLoader(train_part, 10))
    history = trainer.fit(loader, settings["epochs"], validation)
    measured = trainer.evaluate(data.DataLoader(test_set, 500))
    seconds = time.perf_counter() - started

    weights = directory / "model.safetensors"
    tg.save(model.state_dict(), weights, _description(options.model, classes, info, train_set))
    history.save(directory / "history.json")
    result = {
        "model": options.model,
        "test_accuracy": round(measured["accuracy"], 6),
        "test_loss": round(measured["loss"], 6),
        "epochs": trainer.epoch,
        "seconds": round(seconds, 2),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seed": options.seed,
        "peak_memory": tg.memory.max_resident(),
        "checkpoint": str(directory / train.Trainer.checkpoint_name),
        "weights": str(weights),
        "history": str(directory / "history.json"),
        **_pictures(model, train_set, history, directory),
        **({} if monitor is None else _watched(monitor, options, data.DataLoader(test_set, 500), classes)),
    }
    print(
        f"{options.model}: test accuracy {100 * measured['accuracy']:.2f} % after {trainer.epoch} epochs, {seconds:.1f} s"
        + (f", at most {result['peak_memory'] / 1e6:.0f} MB of memory" if result["peak_memory"] else ""),
        *(
            f"  {key}: {result[key]}"
            for key in ("weights", "checkpoint", "graph", "curve", "report", "events")
            if result.get(key)
        ),
        sep="\n",
        file=sys.stderr,
    )
    if options.json:
        print(json.dumps(result))
    return 0


def _monitor(options: argparse.Namespace) -> Any:
    """What --report, --watch and --events ask for, or None; every error of theirs comes before the training."""
    if not (options.report or options.watch or options.events):
        return None
    from tinygrad_cv import viz

    for option, ending, package, extra in (
        (options.report, (".png", ".svg", ".pdf"), "matplotlib", "viz"),
        (options.events, "", "tensorboardX", "tensorboard"),
    ):
        if option and option.lower().endswith(ending) and importlib.util.find_spec(package) is None:
            raise ImportError(f"train: {option} is written with {package}: pip install 'tinygrad_cv[{extra}]'")
    monitor = viz.TrainingMonitor(report=options.report, live=options.watch, title=options.model)
    for folder in filter(None, (options.report and Path(options.report).absolute().parent, options.events)):
        _require_writable(Path(folder))
    return monitor


def _try_ten(monitor: Any, trainer: Any, loader: Any) -> None:
    """Sees whether ten examples can be learned by heart; the run that follows is the one without."""
    import tinygrad_cv as tg

    stream = tg.get_rng_state()
    inputs, targets = next(iter(loader))
    tg.set_rng_state(stream)
    if len(inputs) > 1:
        monitor.try_overfit(inputs, targets, loss=trainer.loss, model=trainer.model)


def _watched(monitor: Any, options: argparse.Namespace, test: Any, classes: Any) -> dict[str, Any]:
    """Writes the report (with the test set's confusion matrix) and the event files; prints what the rules found."""
    from tinygrad_cv import viz

    findings = monitor.findings()
    print(*(findings or ["the rules found nothing wrong"]), sep="\n", file=sys.stderr)
    written: dict[str, Any] = {"findings": [finding.rule for finding in findings]}
    if options.report:
        monitor.examine(test, classes)
        monitor.save(options.report)
        written["report"] = options.report
    if options.events:
        written["events"] = str(viz.write_events(monitor.recording, options.events))
    return written


def _adjust_length(trainer: Any, settings: dict[str, Any]) -> None:
    """A resumed run may last longer, or shorter, than it was to: says so where that is not as if it had been so from the start."""
    from ..train import recipes

    before, now, done = trainer.epochs, settings["epochs"], trainer.epoch
    if now == before or now < done:
        return
    if trainer.should_stop:
        print(f"the run stopped early after epoch {done}, and another number of epochs does not change that", file=sys.stderr)
    elif settings["schedule"] in recipes.SCHEDULES_BY_LENGTH:
        rates = trainer.history.series("lr")
        trainer.scheduler, same = recipes.extend_schedule(settings["schedule"], trainer.optimizer, now, rates)
        if not same:
            print(
                f"the schedule {settings['schedule']!r} depends on the number of epochs: from epoch {done + 1} on the learning rate is "
                f"that of a run of {now}, before it was that of {before}, so the result is not that of {now} epochs in one go",
                file=sys.stderr,
            )


def _split(data: Any, train_set: Any, options: argparse.Namespace) -> tuple[Any, Any]:
    from ..random import Generator

    total = len(train_set)
    held = min(options.validation, total // 5) if options.validation > 0 else 0
    rest, held_out = data.random_split(train_set, [total - held, held], Generator(options.seed))
    if options.limit is not None:
        if options.limit < 1:
            raise ValueError(f"train: --limit must be at least 1, got {options.limit}")
        rest = data.Subset(train_set, rest.indices[: options.limit])
    return rest, (held_out if held else None)


def _model_options(name: str, classes: Any, info: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"num_classes": len(classes)}
    if "in_features" in info.factory.__annotations__:
        channels, height, width = info.input_shape
        options["in_features"] = channels * height * width
    return options


def _description(name: str, classes: Any, info: Any, train_set: Any) -> dict[str, Any]:
    """What `evaluate` and `predict` need to build the model and prepare its inputs."""
    scale = getattr(train_set, "_scale", None)
    return {
        "model": name,
        "options": _model_options(name, classes, info),
        "classes": list(classes),
        "input_shape": list(info.input_shape),
        "scale": [1.0] * info.input_shape[0] if scale is None else [float(v) * 255 for v in scale.ravel()],
        "shift": [0.0] * info.input_shape[0] if scale is None else [float(v) for v in train_set._shift.ravel()],
    }


def _pictures(model: Any, train_set: Any, history: Any, directory: Path) -> dict[str, Any]:
    """The graph as SVG and the curves as PNG; what is missing to draw one is said, not raised: the training is done."""
    import tinygrad_cv as tg
    from tinygrad_cv import viz

    drawn: dict[str, Any] = {"graph": None, "curve": None}
    image = train_set[0][0]
    try:
        model.eval()
        viz.draw(model, tg.as_tensor(image).unsqueeze(0)).save(directory / "graph.svg")  # type: ignore[attr-defined]
        drawn["graph"] = str(directory / "graph.svg")
    except ImportError as error:
        print(f"no graph was drawn: {error}", file=sys.stderr)
    try:
        viz.plot_history(history, directory / "curve.png")
        drawn["curve"] = str(directory / "curve.png")
    except ImportError as error:
        print(f"no curve was drawn: {error}", file=sys.stderr)
    return drawn


def _require_writable(directory: Path) -> None:
    """Fails before the training rather than after it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise OSError(f"cannot write to the output folder {directory}: {os.strerror(error.errno or 0)}") from None
