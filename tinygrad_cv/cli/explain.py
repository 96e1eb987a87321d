"""`tinygrad-cv explain`: a page that plays an expression or a model, forward and backward, one step at a time."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from . import add_command, prepare

_ASSIGNMENT = re.compile(r"([^\W\d]\w*)=(.*)", re.DOTALL)


def add_commands(commands: Any) -> None:
    """Registers `explain`."""
    parser = add_command(
        commands,
        "explain",
        "write a page that plays an expression or a model forward and backward, step by step",
        [
            'explain "(x + y) * z" x=-2 y=5 z=-4 -o page.html',
            'explain "q = x + y; f = q * z" x=-2 y=5 z=-4 --open',
            'explain "sigmoid(w * x + b)" w=2 x=[-1,0,1] b=-0.5',
            "explain lenet5 --weights runs/lenet5/model.safetensors --image digit.png",
            "explain runs/lenet5/model.safetensors --digit 7",
        ],
    )
    parser.add_argument(
        "what",
        metavar="WHAT",
        help='an expression, such as "(x + y) * z", of + - * / ** ( ), numbers, variables and the elementwise operators by name; '
        "the name of a model; or a model.safetensors that train wrote",
    )
    parser.add_argument(
        "values", nargs="*", metavar="NAME=VALUE", help="of an expression's variables: a number, or a list as in x=[1,2]"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="the page to write (default: expression.html or MODEL.html)")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="of an expression's variables (default: float64)")
    parser.add_argument("--image", metavar="FILE", help="of a model: the image it sees (default: a test digit of MNIST)")
    parser.add_argument(
        "--digit", type=int, metavar="N", help="of a model: which of the 10000 test digits it sees (default: 0)"
    )
    parser.add_argument("--invert", action="store_true", help="dark on light becomes light on dark (MNIST is light on dark)")
    parser.add_argument(
        "--label", metavar="CLASS", help="the right class (default: the digit's own, or the one the model favours)"
    )
    parser.add_argument(
        "--weights", metavar="FILE", help="of a model: a model.safetensors that train wrote (default: random weights)"
    )
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    parser.set_defaults(run=explain)
    _let_options_stand_anywhere(parser)


def _let_options_stand_anywhere(parser: argparse.ArgumentParser) -> None:
    """`explain "x * y" -o page.html x=1 y=2` is understood too: argparse alone takes all values before the first option, or none."""
    in_order = parser.parse_known_args

    def mixed(*arguments: Any) -> Any:
        parser.parse_known_args = in_order  # type: ignore[method-assign]
        try:
            return parser.parse_known_intermixed_args(*arguments)
        finally:
            parser.parse_known_args = mixed  # type: ignore[method-assign, assignment]

    parser.parse_known_args = mixed  # type: ignore[method-assign, assignment]


def explain(options: argparse.Namespace) -> int:
    """Writes the page and says what is on it."""
    from tinygrad_cv import models

    prepare(options)
    is_file = options.what.endswith(".safetensors") or _is_file(options.what)
    is_word = options.what.isidentifier() and not options.values
    if is_file or options.what in models.list_models() or (is_word and _of_a_model(options)):
        result = _model(options, is_file)
    else:
        if _of_a_model(options):
            raise ValueError(
                f"explain: --{_of_a_model(options)} goes with a model, and {_short(options.what)!r} is an expression"
            )
        result = _expression(options)
    if options.open:
        import webbrowser

        webbrowser.open(Path(result["output"]).resolve().as_uri())
    if options.json:
        print(json.dumps(result))
    else:
        print(f"{result['output']}: {result['operators']} operators, {result['bytes'] / 1000:.0f} kB; open it in a browser")
    return 0


def _of_a_model(options: argparse.Namespace) -> str:
    """The first option given that only models have."""
    return next((n for n in ("image", "digit", "invert", "label", "weights") if getattr(options, n) not in (None, False)), "")


def _expression(options: argparse.Namespace) -> dict[str, Any]:
    import tinygrad_cv as tg
    from tinygrad_cv import expressions, models

    try:
        expression = expressions.parse(options.what)
        values = _assignments(options.values)
        result, names = expression.evaluate(values, tg.float32 if options.dtype == "float32" else tg.float64)
    except expressions.ExpressionError as error:
        if options.what.isidentifier() and not options.values:
            near = ", ".join(models.list_models()[:4])
            raise ValueError(
                f"explain: {_short(options.what)!r} is neither a model ({near}, ...) nor an expression with values; for an expression give "
                f"each variable a value, as in {_short(options.what)}=1.5"
            ) from None
        raise ValueError(f"explain: {str(error).removeprefix('expression: ')}") from None
    if not result.requires_grad:
        raise ValueError(
            f"explain: {_short(options.what)!r} has no gradient to show: "
            + ("it has no variable" if not values else "it does not depend on one")
        )
    if not expression.steps or names[expression.steps[-1]] is not result:
        names["f" if "f" not in names else "result"] = result
    page = _written(options, "expression.html", result, names, _short(options.what, 200))
    gradients = _gradients(result, {n: names[n] for n in expression.variables})
    if not options.json:
        print(f"{_short(options.what.strip(), 200)} = {_shown(result.tolist())}")
        print(*(f"  gradient of {name} = {_shown(g)}" for name, g in gradients.items()), sep="\n")
    return {"expression": options.what, "value": result.tolist(), "gradients": gradients, **page}


def _assignments(texts: Sequence[str]) -> dict[str, Any]:
    """Values by name. ValueError for a name that is given two."""
    values: dict[str, Any] = {}
    for text in texts:
        name, value = _assignment(text)
        if name in values:
            raise ValueError(f"explain: {_short(name)!r} is given a value twice; give each variable one")
        values[name] = value
    return values


def _short(text: str, most: int = 60) -> str:
    """Text for a message: its beginning where it is long."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _is_file(text: str) -> bool:
    """Whether a file has this name: an expression may be longer than any name, or hold what none may."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _assignment(text: str) -> tuple[str, Any]:
    """`NAME=VALUE` as typed."""
    match = _ASSIGNMENT.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"explain: {_short(text)!r} is no NAME=VALUE, as in x=-2 or x=[1,2,3]; put the expression itself in quotes"
        )
    name, value = match[1], match[2].strip()
    try:
        number: Any = json.loads(value) if value.startswith("[") else float(value)
        if not np.all(np.isfinite(np.asarray(number, float))):
            raise ValueError
    except (ValueError, TypeError, RecursionError, OverflowError):
        raise ValueError(
            f"explain: the value of {_short(name)} must be a number or a list of them, as in {_short(name)}=1.5, got {_short(value)!r}"
        ) from None
    return name, number


def _gradients(result: Any, leaves: dict[str, Any]) -> dict[str, Any]:
    from tinygrad_cv.autograd import grad

    found = grad(result.sum(), list(leaves.values()), allow_unused=True, retain_graph=True)
    return {name: None if g is None else g.tolist() for name, g in zip(leaves, found, strict=True)}


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return "0 (it is not used)" if value is None else f"{value:.6g}"


def _model(options: argparse.Namespace, is_file: bool) -> dict[str, Any]:
    import tinygrad_cv as tg
    from tinygrad_cv import models, nn

    from .evaluate import load_model

    if options.values:
        raise ValueError(
            f"explain: {_short(options.values[0])!r} goes with an expression; a model takes --image, --digit and --label"
        )
    if options.dtype is not None:
        raise ValueError("explain: --dtype goes with an expression; a model computes in the dtype of its weights")
    if is_file and options.weights:
        raise ValueError(f"explain: weights are given twice, {options.what} and {options.weights}; give one file")
    file = options.what if is_file else options.weights
    scale: Any
    shift: Any
    if file:
        model, description = load_model(file)
        name = description["model"]
        if not is_file and name != options.what:
            raise ValueError(f"explain: {file} has the weights of {name}, not of {options.what}")
        classes, shape = description["classes"], tuple(description["input_shape"])
        scale, shift = (np.asarray(description[k], np.float32).reshape(-1, 1, 1) for k in ("scale", "shift"))
    else:
        name, shape = options.what, models.info(options.what).input_shape
        classes, scale, shift = None, np.ones(1, np.float32), np.zeros(1, np.float32)
        tg.manual_seed(0)
        model = models.create(name).eval()
        print(
            f"the weights of this {name} are random; for trained ones: `tinygrad-cv train {name} --out runs/{name}`, then "
            f"`tinygrad-cv explain {name} --weights runs/{name}/model.safetensors`",
            file=sys.stderr,
        )
    pixels, own_label, shown = _image(options, shape)
    image = tg.from_numpy(np.ascontiguousarray((pixels * scale + shift)[None], dtype=np.float32))
    scores = model(image)
    if scores.ndim != 2:
        raise ValueError(
            f"explain: {name} gives {tuple(scores.shape)}, not scores (N, classes), so there is no loss to explain"
        )
    classes = classes or [str(i) for i in range(scores.shape[1])]
    favourite = int(scores.argmax(1).item())
    label = _label(options.label, classes, own_label, favourite)
    target = tg.tensor([label])
    loss = getattr(nn.functional, models.info(name).loss)(scores, target)
    names = {"image": image, "target": target, "scores": scores, "loss": loss}
    page = _written(options, f"{name}.html", loss, names, f"{name}: {shown}")
    if not options.json:
        right = (
            "the right class" if options.label is not None or own_label is not None else "its favourite (no --label was given),"
        )
        print(f"{shown}: {name} says {classes[favourite]}; the loss for {right} {classes[label]} is {loss.item():.4f}")
    return {"model": name, "weights": file, "image": shown, "predicted": classes[favourite], "label": classes[label],
            "loss": loss.item(), **page}  # fmt: skip


def _image(options: argparse.Namespace, shape: tuple[int, int, int]) -> tuple[np.ndarray, int | None, str]:
    """float32 (C, H, W) in [0, 1], its class where that is known, and what to call it."""
    from tinygrad_cv import data

    channels, height, width = shape
    if options.image is not None:
        if options.digit is not None:
            raise ValueError("explain: --image and --digit both name what the model sees; give one")
        from tinygrad_cv.data.datasets import read_image

        pixels = read_image(Path(options.image), (height, width), "L" if channels == 1 else "RGB")
        return (1 - pixels if options.invert else pixels), None, Path(options.image).name
    digits = data.MNIST(train=False)
    index = options.digit or 0
    if not 0 <= index < len(digits):
        raise ValueError(f"explain: --digit must lie in 0..{len(digits) - 1}, got {index}")
    image, label = digits[index]
    pixels = np.asarray(image, np.float32).reshape(1, 28, 28)
    pixels = 1 - pixels if options.invert else pixels
    if shape != (1, 28, 28):  # enlarged by repeating pixels, and grey in all channels
        rows, columns = (np.arange(size) * 28 // size for size in (height, width))
        pixels = np.repeat(pixels[:, rows][:, :, columns], channels, axis=0)
        return pixels, None, f"test digit {index}, enlarged"
    return pixels, int(label), f"test digit {index}"


def _label(wanted: str | None, classes: list[str], own: int | None, favourite: int) -> int:
    if wanted is None:
        return favourite if own is None or own >= len(classes) else own
    if wanted in classes:
        return classes.index(wanted)
    if wanted.isdecimal() and int(wanted) < len(classes):
        return int(wanted)
    known = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
    raise ValueError(f"explain: --label must be one of the {len(classes)} classes {known}, or its number, got {wanted!r}")


def _written(options: argparse.Namespace, default: str, loss: Any, names: dict[str, Any], title: str) -> dict[str, Any]:
    import tinygrad_cv as tg
    from tinygrad_cv import viz

    output = Path(options.output or default)
    if output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"explain: the page is HTML, so its name must end in .html, got {output}")
    graph = tg.graph.trace(loss, names=names, values=True, grads=True, local=True)
    nodes = [replace(node, source=None) for node in graph]  # the lines that made them are this program's, not the user's
    page = viz.explain(tg.graph.Graph(nodes, graph.edges, graph.outputs), output, title=title)  # type: ignore[attr-defined]
    operators = sum(node.kind == "operator" for node in page.graph)
    return {"output": str(output), "operators": operators, "bytes": output.stat().st_size}


__all__ = ["add_commands", "explain"]
