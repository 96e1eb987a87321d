"""The public graph API: what was computed, by what, from where, the same every time."""

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import graph, nn


def _cs231n():
    x, y, z = (tg.tensor(v, requires_grad=True) for v in (-2.0, 5.0, -4.0))
    q = x + y
    f = q * z
    return graph.trace(f, names={"x": x, "y": y, "z": z, "q": q, "f": f}, values=True, grads=True)


def test_the_lecture_example_has_the_lecture_numbers():
    # CS231n, backpropagation: f = (x + y) z at (-2, 5, -4).
    found = {n.name: (float(n.value), float(n.grad)) for n in _cs231n()}
    assert found == {"x": (-2, -4), "y": (5, -4), "z": (-4, 3), "q": (3, -4), "f": (-12, 1)}


def test_edges_keep_argument_positions():
    x = tg.tensor(3.0, requires_grad=True)
    g = graph.trace(x * x)
    assert [(e.source, e.target, e.position, e.argument) for e in g.edges] == [
        ("n0", "n1", 0, "input"),
        ("n0", "n1", 1, "other"),
    ]
    assert len(g) == 2 and g.outputs == ("n1",)


def test_ids_are_deterministic_and_in_order_of_execution():
    first, second = _cs231n(), _cs231n()
    assert [(n.id, n.op, n.name) for n in first] == [(n.id, n.op, n.name) for n in second]
    assert [(e.source, e.target, e.position) for e in first.edges] == [(e.source, e.target, e.position) for e in second.edges]
    order = {n.id: i for i, n in enumerate(first)}
    assert all(order[e.source] < order[e.target] for e in first.edges)


def test_every_node_knows_its_source_line():
    x = tg.ones(2, requires_grad=True)
    y = x.exp()  # the line looked for
    (node,) = graph.trace(y).find(op="exp")
    file, line, function = node.source
    assert file == __file__ and function == "test_every_node_knows_its_source_line"
    with open(file) as lines:
        assert "the line looked for" in lines.readlines()[line - 1]


def test_frames_of_python_itself_are_no_source_lines():
    scope = {"x": tg.ones(2, requires_grad=True)}
    exec(compile("y = x.exp()", "<frozen runpy>", "exec"), scope)
    (node,) = graph.trace(scope["y"]).find(op="exp")
    assert node.source[0] == __file__


def test_module_scopes_and_parameter_names():
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Sequential(nn.Linear(2, 1)))
    g = graph.record(model, tg.ones(4, 3))
    assert [(n.op, n.scope) for n in g if n.kind == "operator"] == [
        ("linear", "Sequential.0"),
        ("relu", "Sequential.1"),
        ("linear", "Sequential.2.0"),
    ]
    assert {n.name for n in g if n.kind == "parameter"} == {"0.weight", "0.bias", "2.0.weight", "2.0.bias"}
    assert [n.name for n in g if n.kind == "input"] == ["input"]
    assert [n.shape for n in g if n.kind == "operator"] == [(4, 2), (4, 2), (4, 1)]
    assert len(g.find(scope="Sequential.2")) == 1 + 2


def test_capture_records_what_needs_no_gradient_and_ends_cleanly():
    with graph.capture() as recording:
        out = (tg.ones(2) + 1).sum()
    assert [n.op for n in recording.graph(out) if n.kind == "operator"] == ["add", "sum"]
    assert [float(n.value.sum()) for n in recording.graph(out) if n.kind == "operator"] == [4, 4]
    with pytest.raises(ZeroDivisionError), graph.capture():
        raise ZeroDivisionError
    assert tg.ones(1).exp().grad_fn is None and (tg.ones(1) * 2)._node is None


def test_values_are_computed_again_when_nothing_kept_them():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    out = (x + 1).sum()  # add and sum save nothing
    assert [n.value.tolist() for n in graph.trace(out, values=True) if n.kind == "operator"] == [[2, 3], 5]


def test_saved_values_are_named_and_gone_after_backward():
    x = tg.ones(2, requires_grad=True)
    out = (x.exp() * x).sum()
    by_op = {n.op: n.saved for n in graph.trace(out) if n.kind == "operator"}
    assert by_op == {"exp": ("out",), "mul": ("other", "input"), "sum": ()} or by_op["mul"] in (
        ("input", "other"),
        ("other", "input"),
    )
    out.backward()
    assert all(n.saved == () for n in graph.trace(out))
    with pytest.raises(RuntimeError, match="freed"):
        graph.trace(out, grads=True)


def test_gradients_of_shared_nodes_are_complete():
    x = tg.tensor(2.0, requires_grad=True)
    s = x * 3
    out = s * s + s
    node = next(n for n in graph.trace(out, names={"s": s}, grads=True) if n.name == "s")
    assert float(node.grad) == 2 * 6 + 1
    assert x.grad is None


def test_gradients_need_an_output_that_requires_grad():
    with graph.capture() as recording:
        out = tg.ones(2).sum()
    with pytest.raises(RuntimeError, match="no output requires grad"):
        recording.graph(out, grads=True)


def test_composites_stand_in_a_scope_of_their_own():
    x = tg.randn(2, 3, requires_grad=True)
    composite = next(o for o in tg.registry.operators(plugins=False) if o.composite and o.name == "cosine_similarity")
    g = graph.trace(composite.function(x, tg.ones(2, 3)))
    assert all(n.scope == "/cosine_similarity" for n in g if n.kind == "operator")


def test_a_deep_graph_is_walked_without_recursion():
    x = tg.ones(1, requires_grad=True)
    y = x
    for _ in range(20_000):
        y = y + 1
    assert len(graph.trace(y)) == 40_001
    assert graph.trace(y).nodes[-1].op == "add"


def test_variable_names_are_those_of_the_caller():
    alpha = tg.ones(1)
    beta = tg.ones(1)
    assert graph.variable_names() == {"alpha": alpha, "beta": beta}


def test_record_names_function_arguments():
    g = graph.record(lambda images, scale: images * scale, tg.ones(2), tg.ones(2))
    assert [n.name for n in g if n.kind == "input"] == ["images", "scale"]
    assert np.array_equal(g["n2"].value, [1, 1])


def test_variable_names_are_found_in_calling_functions_and_among_globals():
    near, shared = tg.ones(1), tg.zeros(1)
    scope = {"tg": tg, "graph": graph, "far": tg.ones(2), "shared": tg.ones(3), "_hidden": tg.ones(1)}
    exec(
        "def inner(own):\n    return graph.variable_names()\ndef outer(value):\n    between = value\n    return inner(tg.ones(4))",
        scope,
    )
    found = scope["outer"](near)
    assert found["own"].shape == (4,) and found["between"] is near and found["near"] is near
    assert found["shared"] is shared and found["far"] is scope["far"] and "_hidden" not in found
    assert next(iter(found)) == "own" and list(found)[-1] == "far"


def test_pictures_name_global_variables():
    scope = {"tg": tg, "gx": tg.ones(3, requires_grad=True), "gw": tg.ones(3, requires_grad=True)}
    exec("def show():\n    z = (gx * gw).sum()\n    return str(tg.viz.draw(z))", scope)
    text = scope["show"]()
    assert "gx (3,)" in text and "gw (3,)" in text and "z = sum" in text and "parameter" not in text


def test_contributions_of_all_uses_sum_to_the_gradient():
    x = tg.tensor([1.0, -2.0], requires_grad=True)
    w = tg.tensor([3.0, 0.5], requires_grad=True)
    s = x * w
    out = (s * s + s * 3 + x.exp()).sum()
    g = graph.trace(out, names={"x": x, "w": w, "s": s}, grads=True)
    for node in g:
        uses = [e for e in g.consumers_of(node.id) if e.grad is not None]
        if node.grad is not None and uses:
            assert np.allclose(sum(e.grad for e in uses), node.grad)
            assert all(e.grad.shape == node.shape for e in uses)
    (node,) = g.find(name="s")
    values = x.detach().numpy() * w.detach().numpy()
    assert [e.grad.tolist() for e in g.consumers_of(node.id)] == [values.tolist(), values.tolist(), [3.0, 3.0]]
    assert graph.trace(out).edges[0].grad is None  # not asked for


def test_contributions_are_copies_that_nothing_writes_to():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    g = graph.trace((x + x + x).sum(), grads=True)
    assert [e.grad.tolist() for e in g.consumers_of("n0")] == [[1, 1]] * 3 and g["n0"].grad.tolist() == [3, 3]


def test_local_derivatives_are_those_of_the_operator_alone():
    x = tg.tensor(-2.0, requires_grad=True)
    y = tg.tensor(5.0)
    q = (x * y).exp()
    g = graph.trace(q * 0.0, names={"x": x, "y": y}, grads=True, local=True)
    mul, exp, _ = (n.id for n in g if n.kind == "operator")
    assert float(g.inputs_of(mul)[0].local) == 5 and g.inputs_of(mul)[1].local is None  # y wants no gradient
    assert np.isclose(float(g.inputs_of(exp)[0].local), np.exp(-10.0))
    assert float(g.inputs_of(exp)[0].grad) == 0  # although nothing flows: the last factor is 0
    row = tg.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    matrix = tg.ones(2, 3, requires_grad=True)
    by_argument = {e.argument: e.local for e in graph.trace((matrix * row).relu().sum(), local=True).edges[:2]}
    assert by_argument["input"].tolist() == [[1, 2, 3], [1, 2, 3]] and by_argument["other"] is None  # stretched
    assert np.all(graph.trace(matrix.sum(), local=True).edges[0].local == 1)


def test_all_outputs_of_an_operator_have_values_and_gradients():
    x = tg.tensor([3.0, 1.0, 2.0], requires_grad=True)
    values, indices = x.sort()
    g = graph.trace((values * tg.tensor([1.0, 10.0, 100.0])).sum(), values=True, grads=True)
    (node,) = g.find(op="sort")
    assert [v.tolist() for v in node.values] == [[1, 2, 3], indices.tolist()]
    assert node.grads[0].tolist() == [1, 10, 100] and node.grad is node.grads[0] and node.value is node.values[0]


def test_values_that_only_backward_keeps_are_known():
    x = tg.randn(1, 3, requires_grad=True)
    loss = tg.nn.functional.cross_entropy(x, tg.tensor([2]))  # the target is gone by now
    g = graph.trace(loss, values=True)
    assert [n.value.tolist() for n in g if n.kind == "input"] == [[2]]
    assert float(g[g.outputs[0]].value) == loss.item()


def test_calls_of_one_module_are_numbered_within_their_surroundings():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Tanh())

        def forward(self, x):
            return self.inner(self.inner(x))

    model = Twice()
    x = tg.ones(2, requires_grad=True)
    y = tg.linalg.norm(model(model(x)))
    found = [(str(n.scope), n.calls) for n in graph.trace(y) if n.kind == "operator"]
    assert found == [
        ("Twice.inner.0", (0, 0, 0)),
        ("Twice.inner.0", (0, 1, 0)),
        ("Twice.inner.0", (1, 0, 0)),
        ("Twice.inner.0", (1, 1, 0)),
        ("/linalg.norm", (0,)),
    ]


def test_edges_know_whether_a_gradient_flows_along_them():
    scores = tg.ones(2, 3, requires_grad=True)
    loss = nn.functional.cross_entropy(scores * 2, tg.tensor([0, 1]))
    flows = {(e.argument, graph.trace(loss)[e.target].op): e.flows for e in graph.trace(loss).edges}
    assert flows[("input", "mul")] and not flows[("other", "mul")]
    assert flows[("input", "softmax_cross_entropy")] and not flows[("target", "softmax_cross_entropy")]


def test_buffers_live_in_their_module():
    model = nn.Sequential(nn.BatchNorm1d(2)).eval()
    found = {n.name: n.scope for n in graph.record(model, tg.ones(3, 2)) if n.kind == "input"}
    assert found["0.running_mean"].startswith("Sequential.0") and found["input"] == ""
