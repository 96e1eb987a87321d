"""How a step-through page arranges boxes, in a real browser: nothing overlaps, modules hold what is theirs, every time the same."""

import itertools

import pytest
from browser import browser_or_skip, screen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tinygrad_cv as tg
from tinygrad_cv import viz

browser = pytest.fixture(scope="module")(browser_or_skip)

_LAYOUT = """({boxes, frames, edges, horizontal}) => {
  const layout = explain.compoundLayout(boxes, frames, edges, horizontal);
  return {
    boxes: Object.fromEntries(layout.boxes), frames: Object.fromEntries(layout.frames), edges: Object.fromEntries(layout.edges),
    width: layout.width, height: layout.height,
  };
}"""


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    path = tmp_path_factory.mktemp("layout") / "page.html"
    viz.explain(tg.tensor(2.0, requires_grad=True) * 3, path)
    with screen(browser, path) as opened:
        yield opened


@st.composite
def graphs(draw):
    """Boxes in nested frames, each frame one run of boxes, and edges that go on in the order of the boxes."""
    count = draw(st.integers(1, 14))
    frames, parents = [], [None] * count
    for level in range(draw(st.integers(0, 2))):
        for start in range(0, count, 4):
            stop = min(count, start + draw(st.integers(0, 4 - 2 * level)))
            around = set(parents[start:stop])
            if stop > start and len(around) == 1:
                frames.append({"id": f"c{len(frames)}", "parent": around.pop(), "order": start})
                parents[start:stop] = [frames[-1]["id"]] * (stop - start)
    size = st.integers(20, 160)
    boxes = [{"id": f"n{i}", "parent": parents[i], "order": i, "width": draw(size), "height": draw(size)} for i in range(count)]
    pairs = draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=20))
    label = st.none() | st.just({"width": 50, "height": 38})
    edges = [
        {"id": f"e{i}", "source": f"n{min(pair)}", "target": f"n{max(pair)}", "label": draw(label)}
        for i, pair in enumerate(pairs)
        if pair[0] != pair[1]
    ]
    return {"boxes": boxes, "frames": frames, "edges": edges, "horizontal": draw(st.booleans())}


def _overlap(a, b):
    return (
        a["x"] < b["x"] + b["width"] - 0.01
        and b["x"] < a["x"] + a["width"] - 0.01
        and a["y"] < b["y"] + b["height"] - 0.01
        and b["y"] < a["y"] + a["height"] - 0.01
    )


def _inside(a, b):
    return (
        a["x"] >= b["x"] - 0.01
        and a["y"] >= b["y"] - 0.01
        and a["x"] + a["width"] <= b["x"] + b["width"] + 0.01
        and a["y"] + a["height"] <= b["y"] + b["height"] + 0.01
    )


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graph=graphs())
def test_boxes_and_frames_never_overlap_and_flow_goes_on(page, graph):
    layout = page.evaluate(_LAYOUT, graph)
    assert layout == page.evaluate(_LAYOUT, graph)  # and it is the same every time
    whole = {"x": 0, "y": 0, "width": layout["width"], "height": layout["height"]}
    by_parent = {}
    for kind in ("boxes", "frames"):
        for item in graph[kind]:
            area = layout[kind][item["id"]]
            by_parent.setdefault(item["parent"], []).append(area)
            assert _inside(area, layout["frames"][item["parent"]] if item["parent"] else whole)
    for siblings in by_parent.values():
        assert not any(_overlap(a, b) for a, b in itertools.combinations(siblings, 2))
    start, size = ("x", "width") if graph["horizontal"] else ("y", "height")
    frames = {f["id"]: f["parent"] for f in graph["frames"]}
    parents = {b["id"]: b["parent"] for b in graph["boxes"]}
    for edge in graph["edges"]:
        source, target = layout["boxes"][edge["source"]], layout["boxes"][edge["target"]]
        assert source[start] + source[size] <= target[start] + 0.01
        label = layout["edges"][edge["id"]]["label"]
        assert (label is None) == (edge["label"] is None)
        if label is None:
            continue
        area = {"x": label["x"] - 25, "y": label["y"] - 19, "width": 50, "height": 38}
        around = parents[edge["target"]]
        while around is not None and not _inside(area, layout["frames"][around]):
            around = frames[around]  # the label stands in a frame around the target, or outside all
        assert not any(_overlap(area, a) for a in layout["boxes"].values())


def test_hundreds_of_boxes_are_arranged_in_seconds_and_long_chains_without_recursion(page):
    boxes = [{"id": f"n{i}", "parent": None, "order": i, "width": 60, "height": 40} for i in range(400)]
    label = {"width": 50, "height": 38}
    edges = [
        {"id": f"e{i}.{step}", "source": f"n{i}", "target": f"n{i + step}", "label": label}
        for i in range(400)
        for step in (1, 7)
        if i + step < 400
    ]
    milliseconds = page.evaluate(
        "(graph) => { const start = performance.now(); explain.compoundLayout(graph.boxes, [], graph.edges, true);"
        " return performance.now() - start; }",
        {"boxes": boxes, "edges": edges},
    )
    assert milliseconds < 10_000
    chain = [{"id": f"n{i}", "parent": None, "order": i, "width": 60, "height": 40} for i in range(4000)]
    links = [{"id": f"e{i}", "source": f"n{i}", "target": f"n{i + 1}", "label": label} for i in range(3999)]
    layout = page.evaluate(_LAYOUT, {"boxes": chain, "frames": [], "edges": links, "horizontal": False})
    assert len({round(area["x"] + area["width"] / 2, 3) for area in layout["boxes"].values()}) == 1  # straight


def test_a_flat_graph_gets_the_width_and_a_phone_the_height(browser, tmp_path):
    x = tg.tensor(0.5, requires_grad=True)
    y = x
    for _ in range(8):
        y = y.sin()
    viz.explain(y, tmp_path / "chain.html")
    for size, flow in (("desktop", "right"), ("phone", "down")):
        with screen(browser, tmp_path / "chain.html", size) as page:
            assert page.evaluate("document.getElementById('stage').dataset.flow") == flow
            shown = page.evaluate("document.getElementById('diagram').getBoundingClientRect().width")
            assert shown > (1200 if size == "desktop" else 380)


def test_numbers_look_the_same_from_python_and_in_the_page(page):
    from tinygrad_cv.viz.explain.mathml import short_number

    values = [
        0,
        1,
        -4,
        0.1966119,
        12345,
        123456.7,
        999999.4,
        1234567,
        1e-5,
        0.00012345,
        -0.5,
        99999.6,
        3.0e-38,
        6.02e23,
        1 / 3,
        -2e-4,
    ]
    assert page.evaluate("(values) => values.map((value) => explain.number(value))", values) == [
        short_number(v) for v in values
    ]


@pytest.mark.parametrize(
    ("typed", "number"),
    [("-4", -4), ("−4", -4), (" 0,25 ", 0.25), ("1/3", 1 / 3), ("-1/4", -0.25), ("2e-3", 0.002), (".5", 0.5), ("+3.", 3)],
)
def test_what_students_type_is_understood(page, typed, number):
    assert page.evaluate("(text) => explain.readNumber(text)", typed) == pytest.approx(number)


@pytest.mark.parametrize("typed", ["", "x", "1/", "4 apples", "1/2/3", "--4", "alert(1)"])
def test_what_is_no_number_is_refused(page, typed):
    assert page.evaluate("(text) => Number.isNaN(explain.readNumber(text))", typed)
