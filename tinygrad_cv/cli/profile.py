"""`tinygrad-cv profile`: where a model's time goes."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import add_command, prepare

_LEVELS = ("operator", "module", "node")
_SHOWN = 30


def add_commands(commands: Any) -> None:
    """Registers `profile`."""
    parser = add_command(
        commands,
        "profile",
        "measure time, FLOPs, bytes and share of the machine's peak of a model, by operator and module",
        [
            "profile lenet5 --batch 64",
            "profile resnet18 --by module --depth 1",
            "profile resnet18 --image-size 64 --forward -o resnet18.svg",
        ],
    )
    parser.add_argument("model", help="name of an architecture, or a model.safetensors that train wrote")
    parser.add_argument("--batch", type=int, default=1, help="images in the example input (default: 1)")
    parser.add_argument("--image-size", type=int, metavar="N", help="height and width of the images (default: the model's)")
    parser.add_argument("--by", choices=_LEVELS, help="what a line stands for (default: operator, then module)")
    parser.add_argument("--depth", type=int, help="levels of modules in the table and in the picture (default: all)")
    parser.add_argument("--forward", action="store_true", help="only the forward pass, in evaluation mode")
    parser.add_argument(
        "--runs", type=int, default=5, metavar="N", help="runs to take the median of, after a first (default: 5)"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the graph coloured by time: SVG, PNG, PDF, DOT or TXT by its ending"
    )
    parser.set_defaults(run=profile)


def profile(options: argparse.Namespace) -> int:
    """Runs the model on random images and prints where the time went."""
    import tinygrad_cv as tg
    from tinygrad_cv import models, profiler

    from .evaluate import load_model

    for name in ("batch", "runs", "image_size"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"profile: --{name.replace('_', '-')} must be at least 1, got {value}")
    if options.depth is not None and options.depth < 0:
        raise ValueError(f"profile: --depth must not be negative, got {options.depth}")
    prepare(options)
    if options.output is not None:
        _check_ending(options.output)
    tg.manual_seed(0)
    if Path(options.model).is_file():
        model, description = load_model(options.model)
        shape = tuple(description["input_shape"])
    else:
        shape = models.info(options.model).input_shape
        model = models.create(options.model)
    model.train(not options.forward)
    if options.image_size is not None:
        shape = (shape[0], options.image_size, options.image_size)
    images = tg.randn(options.batch, *shape)
    found = profiler.measure(model, images, backward=not options.forward, runs=options.runs)
    if options.output is not None:
        _draw(found, options)
    if options.json:
        print(json.dumps(_as_json(found, options)))
        return 0
    print(f"{options.model}, input {tuple(images.shape)}, {'forward' if options.forward else 'forward and backward'}\n")
    levels = [options.by] if options.by else ["operator", "module"]
    print("\n\n".join(found.table(by, options.depth if by == "module" else None, _SHOWN) for by in levels))
    if options.output is not None:
        print(f"\nthe graph, coloured by time: {options.output}")
    return 0


def _check_ending(path: str) -> None:
    from tinygrad_cv.viz.graph_picture import FORMATS

    if Path(path).suffix.lower() not in FORMATS:
        raise ValueError(f"profile: the ending {Path(path).suffix!r} is none of {', '.join(FORMATS)}")


def _draw(found: Any, options: argparse.Namespace) -> None:
    from tinygrad_cv import viz

    viz.draw(found, color_by="time", depth=options.depth, graph="forward" if options.forward else "both").save(options.output)


def _as_json(found: Any, options: argparse.Namespace) -> dict[str, Any]:
    levels = [options.by] if options.by else ["operator", "module"]
    return {
        "model": options.model,
        "batch": options.batch,
        "seconds": found.seconds,
        "backward_seconds": found.backward_seconds,
        "first_seconds": found.first_seconds,
        "runs": found.runs,
        "peak": asdict(found.peak),
        "total": asdict(found.total),
        "output": options.output,
        **{
            by: [
                {**asdict(r), **dict(zip(("of_peak_flops", "of_bandwidth"), r.of_peak(found.peak), strict=True))}
                for r in found.rows(by, options.depth if by == "module" else None)
            ]
            for by in levels
        },
    }


__all__ = ["add_commands", "profile"]
