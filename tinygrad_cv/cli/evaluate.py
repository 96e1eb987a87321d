"""`tinygrad-cv evaluate` and `tinygrad-cv predict`: saved weights at work."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from . import add_command, prepare

_DEFAULT_MODEL = "runs/lenet5/model.safetensors"


def add_commands(commands: Any) -> None:
    """Registers `evaluate` and `predict`."""
    parser = add_command(
        commands,
        "evaluate",
        "measure saved weights on a test set",
        ["evaluate runs/lenet5/model.safetensors", "evaluate model.safetensors --data folder/ --json"],
    )
    parser.add_argument("weights", help="a model.safetensors that train wrote")
    parser.add_argument("--data", default="mnist", help="mnist, or a folder as for train (default: mnist)")
    parser.set_defaults(run=evaluate)

    parser = add_command(
        commands,
        "predict",
        "classify image files with saved weights",
        ["predict digit.png --model runs/lenet5/model.safetensors", "predict *.png --model model.safetensors --top 3"],
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument("--model", metavar="FILE", help=f"a model.safetensors that train wrote (default: {_DEFAULT_MODEL})")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="how many classes to name (default: 3)")
    parser.add_argument("--invert", action="store_true", help="dark on light becomes light on dark (MNIST is light on dark)")
    parser.set_defaults(run=predict)


def load_model(path: str) -> tuple[Any, dict[str, Any]]:
    """The model in eval mode and its description. CheckpointError if the file is damaged, foreign or does not fit its model."""
    from tinygrad_cv import models
    from tinygrad_cv.files import CheckpointError, load_with_metadata

    weights, description = load_with_metadata(path)
    if not isinstance(description, dict) or "model" not in description:
        raise CheckpointError(
            f"{path}: these weights do not say which model they are of; use a model.safetensors that train wrote"
        )
    model = models.create(description["model"], **description["options"])
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: the weights do not fit the model {description['model']}: {error}") from None
    return model.eval(), description


def evaluate(options: argparse.Namespace) -> int:
    """Accuracy, loss and errors by class on the test set."""
    import tinygrad_cv as tg
    from tinygrad_cv import data, models, nn, train
    from tinygrad_cv.train import recipes

    prepare(options)
    model, description = load_model(options.weights)
    channels, height, width = description["input_shape"]
    _, test_set, classes = recipes.load_data(options.data, (height, width), channels)
    if list(classes) != description["classes"]:
        raise ValueError(f"evaluate: the weights know the classes {description['classes']}, the data set has {list(classes)}")
    loss = getattr(nn.functional, models.info(description["model"]).loss)
    total, counts, n = 0.0, np.zeros((len(classes), len(classes)), np.int64), 0
    with tg.no_grad():
        for images, labels in data.DataLoader(test_set, 500):
            scores = model(images)
            total += loss(scores, labels).item() * len(labels)
            counts += train.confusion_matrix(scores, labels, len(classes)).numpy()
            n += len(labels)
    by_class = counts.diagonal() / np.maximum(counts.sum(axis=1), 1)
    result: dict[str, Any] = {
        "test_accuracy": float(counts.trace() / n),
        "test_loss": total / n,
        "examples": n,
        "accuracy_by_class": {str(c): round(float(a), 6) for c, a in zip(classes, by_class, strict=True)},
    }
    if options.json:
        print(json.dumps(result))
    else:
        print(f"accuracy {100 * result['test_accuracy']:.2f} %, loss {result['test_loss']:.4f} on {n} examples")
        for name, value in zip(classes, by_class, strict=True):
            print(f"  {name}: {100 * value:.2f} %")
    return 0


def predict(options: argparse.Namespace) -> int:
    """The most likely classes of each image."""
    import tinygrad_cv as tg
    from tinygrad_cv.data.datasets import read_image

    prepare(options)
    if options.model is None and not Path(_DEFAULT_MODEL).is_file():
        raise FileNotFoundError(
            f"predict: there is no trained model at {_DEFAULT_MODEL}; train one first: `tinygrad-cv train lenet5 --out "
            f"{Path(_DEFAULT_MODEL).parent}`, or name another: `tinygrad-cv predict {options.images[0]} --model FILE`"
        )
    model, description = load_model(options.model or _DEFAULT_MODEL)
    channels, height, width = description["input_shape"]
    classes = description["classes"]
    if not 1 <= options.top <= len(classes):
        raise ValueError(f"predict: --top must lie in 1..{len(classes)}, got {options.top}")
    scale = np.asarray(description["scale"], np.float32).reshape(-1, 1, 1)
    shift = np.asarray(description["shift"], np.float32).reshape(-1, 1, 1)
    results = []
    for path in options.images:
        image = read_image(Path(path), (height, width), "L" if channels == 1 else "RGB")
        if options.invert:
            image = 1 - image
        with tg.no_grad():
            scores = model(tg.from_numpy((image * scale + shift)[None]))
            probabilities = scores.softmax(dim=1).numpy()[0]
        best = np.argsort(-probabilities, kind="stable")[: options.top]
        results.append(
            {"image": path, "classes": [{"class": classes[i], "probability": round(float(probabilities[i]), 6)} for i in best]}
        )
    if options.json:
        print(json.dumps(results))
    else:
        for result in results:
            print(
                f"{result['image']}: " + ", ".join(f"{c['class']} ({100 * c['probability']:.1f} %)" for c in result["classes"])
            )
    return 0
