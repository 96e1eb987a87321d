"""Pictures: what stands in them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tinygrad_cv as tg
from tinygrad_cv import models, nn, viz


def _lecture(**options):
    """CS231n's example: f = (x + y) z at (-2, 5, -4)."""
    x, y, z = (tg.tensor(v, requires_grad=True) for v in (-2.0, 5.0, -4.0))
    q = x + y
    f = q * z
    return viz.draw(f, **options)


def test_boxes_show_name_operator_shape_dtype_value_and_gradient():
    text = str(_lecture(values=True, grads=True)).splitlines()
    assert [line.strip() for line in text] == [
        "f = mul, float32, value -12, grad 1 [n4]",
        "input: q = add, float32, value 3, grad -4 [n2]",
        "input: x float32, value -2, grad -4 [n0]",
        "other: y float32, value 5, grad -4 [n1]",
        "other: z float32, value -4, grad 3 [n3]",
    ]


def test_numbers_are_shown_only_when_asked_for():
    assert not any(word in _lecture().dot for word in ("value", "grad -4"))
    assert "value 3" in _lecture(values=True).dot and "grad -4" not in _lecture(values=True).dot


def test_a_mean_that_is_round_off_is_written_as_zero():
    x = tg.tensor([1.0, -1.0, 1e-9, 3.0, -3.0] * 4)
    f = x * 1.0
    assert "value mean 0, std 2" in viz.draw(f, values=True).dot  # the mean is 2e-10, the deviation sqrt((1 + 1 + 9 + 9) / 5)
    f = x + 1e-3
    assert "value mean 0.001, std 2" in viz.draw(f, values=True).dot


def test_x_times_x_has_two_arrows_with_their_argument_positions():
    x = tg.tensor(1.0, requires_grad=True)
    picture = viz.draw(x * x)
    assert picture.edge_count == 2
    assert 'n0 -> n1 [label=" input ", tooltip="argument 0, input: float32"' in picture.dot
    assert 'n0 -> n1 [label=" other ", tooltip="argument 1, other: float32"' in picture.dot


def test_arrows_keep_shapes_and_outputs():
    x = tg.arange(6.0).reshape(2, 3)
    x.requires_grad = True
    first, rest = x.split([1, 2], dim=1)
    picture = viz.draw(first * rest)
    assert "argument 0, input: (2, 3) float32" in picture.dot
    assert "input, output 0 (2, 1)" in picture.dot and "other, output 1 (2, 2)" in picture.dot


def test_settings_that_differ_from_the_defaults_are_written():
    layer = nn.Conv2d(1, 2, 3, stride=2, padding=1)
    assert "stride 2, padding 1" in viz.draw(layer, tg.zeros(1, 1, 8, 8)).dot
    x = tg.zeros(4, requires_grad=True)
    assert (
        "shape (2, 2)" in viz.draw(x.reshape(2, 2)).dot
        and "dim" not in viz.draw(x.reshape(2, 2).sum()).dot.split("sum")[1][:20]
    )
    assert r'label="conv2d\n(1, 2, 6, 6) float32"' in viz.draw(nn.Conv2d(1, 2, 3), tg.zeros(1, 1, 8, 8)).dot


def test_modules_are_nested_frames_and_fold_at_depth():
    model, x = models.lenet5(), tg.zeros(2, 1, 28, 28)
    whole = viz.draw(model, x)
    frames = [line.split('label="')[1].split('"')[0] for line in whole.dot.splitlines() if "subgraph cluster_" in line]
    assert frames == [
        "LeNet5",
        "features",
        "0",
        "3",
        "classifier",
        "0",
        "2",
        "4",
    ]  # those with parameters, or with several operators
    folded = viz.draw(model, x, depth=1)
    assert folded.node_count == 1 + 3  # the input; features, flatten, classifier
    assert "(2, 10)" in folded.dot and "features" in folded.dot
    assert (
        str(viz.draw(model, x, depth=0)) == "LeNet5, 12 operators, (2, 10) float32 [g0]\n  input (2, 1, 28, 28) float32 [n0]\n"
    )


def test_buffers_stand_inside_their_module():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
    folded = viz.draw(model, tg.zeros(1, 1, 4, 4), depth=1)
    assert folded.node_count == 3 and "running_mean" not in folded.dot
    assert "1.running_mean" in viz.draw(model, tg.zeros(1, 1, 4, 4)).dot


def test_calls_of_one_module_are_told_apart():
    cell = nn.Linear(2, 2)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.between = cell, nn.Tanh()

        def forward(self, input):
            return self.cell(self.between(self.cell(input)))

    picture = viz.draw(Twice(), tg.ones(1, 2), depth=1)
    text = str(picture)
    assert "cell (call 1 of 2)" in text and "cell (call 2 of 2)" in text
    assert text.count("cell.weight") == 2 and picture.node_count == 6  # input, weight and bias once, three modules


def test_the_text_tree_names_a_box_met_again():
    x = tg.tensor(1.0, requires_grad=True)
    y = x.exp()
    text = str(viz.draw(y * y))
    assert text.count("y = exp") == 2 and text.count("(above)") == 1 and text.count("input: x") == 1


def test_several_results_are_drawn_together():
    x = tg.ones(2, requires_grad=True)
    picture = viz.draw((x.exp(), x.sin()))
    assert picture.node_count == 3 and picture.edge_count == 2


def test_highlights_by_name_operator_module_and_tensor():
    x, y = (tg.tensor(v, requires_grad=True) for v in (1.0, 2.0))

    def marked(picture):
        return {line.split("[")[0].strip() for line in picture.dot.splitlines() if "penwidth=3.5" in line}

    assert marked(viz.draw(x * y, highlight="x")) == marked(viz.draw(x * y, highlight=x)) == {"n0"}
    assert marked(viz.draw(x * y, highlight=[y, "mul"])) == {"n1", "n2"}
    assert viz.draw(x * y, highlight=["x", "mul"]).dot.count("penwidth=2.5, color") == 1  # the arrow between them
    nameless = [tg.tensor(4.0, requires_grad=True)]
    assert "highlighted" in viz.draw(x * nameless[0], highlight=nameless).dot
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert len(marked(viz.draw(model, tg.ones(1, 2), highlight="0"))) == 1 + 2  # linear and its parameters
    assert marked(viz.draw(model, tg.ones(1, 2), highlight=model[0].weight)) == {"n1"}
    with pytest.raises(ValueError, match=r"nothing to highlight is called .wieght.; did you mean 0\.weight"):
        viz.draw(model, tg.ones(1, 2), highlight="wieght")
    with pytest.raises(TypeError, match="names and Tensors"):
        viz.draw(x * y, highlight=[3])


def test_themes():
    from dataclasses import replace

    assert "#16181d" in _lecture(theme="dark").dot and "#dbe9fb" not in _lecture(theme="print").dot
    assert "#123456" in _lecture(theme=replace(viz.THEMES["light"], background="#123456")).dot
    with pytest.raises(ValueError, match="'light', 'dark', 'print'"):
        _lecture(theme="neon")


def _luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _contrast(a, b):
    lighter, darker = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("name", ["light", "dark", "print"])
def test_text_has_the_contrast_of_wcag(name):
    """WCAG 2.2: AA wants 4.5 to 1, AAA 7 to 1 for text of this size; ordinary text here keeps 7, the numbers 4.5."""
    theme = viz.THEMES[name]
    fills = [f for f in (*theme.fills.values(), theme.background) if f]
    assert all(_contrast(theme.text, fill) >= 7 for fill in fills)
    assert all(_contrast(number, fill) >= 4.5 for number in (theme.value, theme.grad) for fill in fills)
    assert all(_contrast("#000000", step) >= 7 for step in theme.steps)
    assert _contrast(theme.muted, theme.background) >= 7 and _contrast(theme.highlight_text, theme.highlight_fill) >= 7


def test_dot_text_is_the_same_in_every_process():
    script = (
        "import tinygrad_cv as tg\nfrom tinygrad_cv import viz, models\nmodel = models.lenet5()\nx = tg.zeros(1, 1, 28, 28)\n"
        "for options in ({}, dict(depth=1), dict(graph='both'), dict(color_by='family')): print(viz.draw(model, x, **options).dot)"
    )
    runs = {subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(runs) == 1 and b"0x" not in runs.pop()


def test_wrong_calls_are_named(tmp_path):
    x = tg.tensor(1.0, requires_grad=True)
    for options, message in (
        ({"direction": "up"}, "direction must be 'TB'"),
        ({"depth": -1}, "depth must not be negative"),
        ({"graph": "sideways"}, "graph must be 'forward', 'backward' or 'both'"),
        ({"color_by": "taste"}, "color_by must be one of 'family', 'time'"),
        ({"color_by": "time"}, "needs something to run"),
    ):
        with pytest.raises(ValueError, match=message):
            viz.draw(x * 2, **options)
    with pytest.raises(ValueError, match="ending"):
        viz.draw(x * 2).save(tmp_path / "p.xyz")
    with pytest.raises(TypeError, match="expected a Tensor"):
        viz.draw(3)
    with pytest.raises(TypeError, match="inputs go with"):
        viz.draw(x * 2, x)
    with pytest.raises(TypeError, match="must hold Tensors"):
        viz.draw([x, 3])


def test_a_module_without_input_says_what_to_call():
    with pytest.raises(TypeError, match=r"LeNet5 needs an example input: viz\.draw\(model, tg\.zeros\(1, 3, 32, 32\)\)"):
        viz.draw(models.lenet5())
    with pytest.raises(TypeError, match=r"the function needs an example input: viz\.draw\(function, tg"):
        viz.draw(lambda x: x * 2)
    weight = tg.ones(2, requires_grad=True)
    assert viz.draw(lambda: weight * 2).node_count == 3


_PUBLIC = ("graph", "files", "profiler", "costs", "registry", "nn", "train", "expressions", "random", "optim", "data", "models")


def test_only_public_names_are_used():
    for path in Path(viz.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tinygrad_cv."):
                assert node.module.split(".")[1] in _PUBLIC, f"{path.name} imports {node.module}"
                assert not any(part.startswith("_") for part in node.module.split(".")), f"{path.name} imports {node.module}"
                assert not any(a.name.startswith("_") for a in node.names), f"{path.name} imports {node.module}"
            if isinstance(node, ast.Attribute):
                private = node.attr.startswith("_") and not node.attr.startswith("__")
                own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                assert not private or own, f"{path.name} touches {node.attr}"


def test_importing_viz_imports_nothing_heavy():
    script = (
        "import sys, tinygrad_cv.viz\nassert not {'matplotlib', 'numba', 'graphviz', 'wasmtime', 'PIL'} & set(sys.modules)\n"
        "import tinygrad_cv.viz.explain\nfrom tinygrad_cv import viz\nassert callable(viz.explain) and callable(viz.draw)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_curves_are_written(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    history = [
        {"epoch": e, "train_loss": 1 / e, "val_loss": 1.2 / e, "train_accuracy": 0.5, "val_accuracy": 0.4} for e in (1, 2, 3)
    ]
    viz.plot_history(history, tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    viz.plot_history(history, tmp_path / "c.svg")
    assert "<svg" in (tmp_path / "c.svg").read_text()
    with pytest.raises(ValueError, match="empty"):
        viz.plot_history([], tmp_path / "d.png")
