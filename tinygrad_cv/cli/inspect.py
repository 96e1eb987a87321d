"""`tinygrad-cv graph` and `ops`: looking into models and operators."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from . import add_command, prepare


def add_commands(commands: Any) -> None:
    """Registers `graph` and `ops`."""
    parser = add_command(
        commands,
        "graph",
        "draw the computation graph of a model",
        [
            "graph lenet5 -o lenet5.svg",
            "graph mlp --batch 32 -o mlp.dot",
            "graph resnet18 --depth 1 --color-by flops",
            "graph lenet5 --graph both",
        ],
    )
    parser.add_argument("model", help="name of an architecture, or a model.safetensors that train wrote")
    parser.add_argument("-o", "--output", metavar="FILE", help="SVG, PNG, PDF, DOT or TXT by its ending (default: MODEL.svg)")
    parser.add_argument("--batch", type=int, default=1, help="batch size of the example input (default: 1)")
    parser.add_argument("--depth", type=int, help="levels of modules to open (default: all)")
    parser.add_argument("--graph", default="forward", help="forward, backward or both (default: forward)")
    parser.add_argument("--color-by", help="family, time, flops, memory, saved or grad_norm")
    parser.add_argument("--direction", default="TB", help="TB downwards, LR to the right, BT, RL (default: TB)")
    parser.add_argument("--theme", default="light", help="light, dark (projectors) or print (default: light)")
    parser.set_defaults(run=graph)

    parser = add_command(
        commands,
        "ops",
        "list the registered operators, and check them",
        ["ops", "ops --search pool", "ops --all --json", "ops --check 5 exp conv2d", "ops --search pool --check"],
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these operators (default: all)")
    parser.add_argument(
        "--check",
        nargs="*",
        metavar=("N", "NAME"),
        help="test them on N calls drawn from their domain (default: 20); exit status 1 if one fails",
    )
    parser.add_argument("--search", default="", metavar="TEXT", help="only operators with TEXT in their name")
    parser.add_argument("--all", action="store_true", help="also the internal ones, which other operators are made of")
    parser.set_defaults(run=ops)


def graph(options: argparse.Namespace) -> int:
    """Draws a model's graph on an example input."""
    import tinygrad_cv as tg
    from tinygrad_cv import models, viz

    from .evaluate import load_model

    prepare(options)
    if Path(options.model).is_file():
        model, description = load_model(options.model)
        name, shape = description["model"], tuple(description["input_shape"])
    else:
        name, shape = options.model, models.info(options.model).input_shape
        tg.manual_seed(0)
        model = models.create(name).eval()
    if options.batch < 1:
        raise ValueError(f"graph: --batch must be at least 1, got {options.batch}")
    output = Path(options.output or f"{name}.svg")
    looks = {name: getattr(options, name) for name in ("depth", "graph", "color_by", "direction", "theme")}
    picture = viz.draw(model, tg.zeros(options.batch, *shape), **looks)
    picture.save(output)
    if options.json:
        print(json.dumps({"model": name, "output": str(output), "nodes": picture.node_count, "edges": picture.edge_count}))
    else:
        print(f"{output}: {picture.node_count} nodes, {picture.edge_count} edges")
    return 0


def ops(options: argparse.Namespace) -> int:
    """Lists the operators: name, provider, formula, devices with kernels. With --check, tests them too."""
    import tinygrad_cv as tg

    check, names = 0, list(options.names)
    if options.check is not None:
        number, *rest = options.check if options.check and options.check[0].isdigit() else ["20", *options.check]
        check, names = int(number), names + rest
        if check < 1:
            raise ValueError(f"ops: --check needs at least 1 example, got {check}")

    def named(o: dict[str, Any]) -> bool:
        return any(options.search in name for name in (o["name"], *o["aliases"]))

    found = [o for o in tg.ops.list_ops(names=names) if named(o) and (options.all or names or not o["internal"])]
    failed: list[str] = []
    width = max((len(o["name"]) for o in found), default=0)
    for row in found if check else ():
        (tested,) = tg.ops.list_ops(check, [row["name"]])
        row["test"] = tested["test"]
        if not row["test"].startswith("ok"):
            failed.append(row["name"])
        if not options.json:
            print(f"{row['name']:<{width}}  {row['test']}", flush=True)
    if options.json:
        print(json.dumps(found))
        return 0 if found and not failed else 1
    if not found:
        print(
            f"no operator has {options.search!r} in its name" + ("" if options.all else " (--all looks at internal ones too)")
        )
        return 1
    if check:
        print(f"{len(found)} operators checked: " + (f"{len(failed)} failed ({', '.join(failed)})" if failed else "all ok"))
        return 1 if failed else 0
    for o in found:
        devices = ", ".join(o["devices"]) or "reference"
        mark = "(internal) " if o["internal"] else ""
        print(f"{o['name']:<{width}}  {o['provider']:<12} {devices:<10} {mark}{o['formula']}")
    print(f"{len(found)} operators")
    return 0
