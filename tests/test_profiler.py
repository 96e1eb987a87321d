"""Costs counted from shapes, against published figures and sums by hand; and the profiler that times them."""

import json
import subprocess
import sys

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import costs, kernels, models, nn, profiler
from tinygrad_cv.domain import NumpyDraw
from tinygrad_cv.testing.samples import Sample


def _flops(function, *inputs, only=None):
    graph = tg.graph.record(function, *inputs)
    return sum(c.flops for k, c in costs.of_graph(graph).items() if only is None or graph[k].op in only)


@pytest.mark.parametrize(
    ("name", "published"),
    # 10^9 multiply-adds for one 224 x 224 image. torchvision's table of models ("GFLOPS"), https://docs.pytorch.org/vision/stable/models.html
    [("resnet18", 1.81), ("resnet50", 4.09), ("alexnet", 0.71)],
)
def test_multiply_adds_of_networks_are_those_published(name, published):
    with tg.no_grad():
        counted = _flops(models.create(name).eval(), tg.zeros(1, 3, 224, 224), only=("conv2d", "linear"))
    assert counted / 2e9 == pytest.approx(published, abs=0.006)


def test_lenet_5_by_hand():
    # Output positions * (2 operations for each weight of the window, 1 for the bias); pooling and ReLU once an element of the window.
    conv1, conv2 = 28 * 28 * 6 * (2 * 25 + 1), 10 * 10 * 16 * (2 * 6 * 25 + 1)
    linear = 120 * (2 * 400 + 1) + 84 * (2 * 120 + 1) + 10 * (2 * 84 + 1)
    relu, pool = 28 * 28 * 6 + 10 * 10 * 16 + 120 + 84, 4 * (14 * 14 * 6 + 5 * 5 * 16)
    assert _flops(models.lenet5(), tg.zeros(1, 1, 28, 28)) == conv1 + conv2 + linear + relu + pool


def test_costs_scale_with_the_batch_and_bytes_with_the_dtype():
    layer = nn.Conv2d(3, 4, 3)
    assert _flops(layer, tg.zeros(5, 3, 8, 8)) == 5 * _flops(layer, tg.zeros(1, 3, 8, 8))
    (single,) = [c for c in costs.of_graph(tg.graph.record(tg.exp, tg.zeros(100))).values() if c.flops]
    (double,) = [c for c in costs.of_graph(tg.graph.record(tg.exp, tg.zeros(100, dtype=tg.float64))).values() if c.flops]
    assert (single.flops, single.bytes, single.result) == (100, 800, 400) and (double.flops, double.bytes) == (100, 1600)


@pytest.mark.parametrize(
    ("function", "shapes", "expected"),
    [
        (lambda x: x.reshape(-1), [(3, 4)], 0),
        (lambda x: tg.cat([x, x]), [(3, 4)], 0),
        (lambda x: x.sum(), [(3, 4)], 12),
        (lambda x: x.softmax(1), [(3, 4)], 5 * 12),
        (lambda a, b: a @ b, [(3, 4), (4, 5)], 2 * 3 * 4 * 5),
        (lambda a, b, c: tg.addmm(c, a, b), [(3, 4), (4, 5), (3, 5)], 2 * 3 * 4 * 5 + 2 * 15),
        (lambda x: nn.functional.max_pool2d(x, 2), [(1, 2, 4, 4)], 8 * 4),
        (lambda x: nn.functional.avg_pool2d(x, (2, 4)), [(1, 2, 4, 4)], 4 * 8),
        (lambda x: tg.linalg.cholesky(x @ x.T + tg.eye(3)), [(3, 3)], 2 * 27 + 9 + 9),
        (lambda a, b: a * b + 1, [(3, 4), (4,)], 24),
    ],
)
def test_operations_of_single_operators(function, shapes, expected):
    assert _flops(function, *(tg.rand(s) for s in shapes)) == expected


def test_every_operator_has_a_cost():
    """On examples drawn from the domain of each: finite, not negative, and none for views."""
    for operator in tg.registry.operators(plugins=False):
        if operator.composite or operator.provider != "tinygrad_cv":
            continue
        for seed in range(3):
            sample = Sample(operator, operator.domain(NumpyDraw(seed)))
            with tg.graph.capture(values=False) as recording:
                sample.call_function(sample.cast(np.float32))
            for node in (n for n in recording.nodes if n.op is operator):
                sizes = [0 if d is None else d.itemsize for d in node.input_dtypes]
                outsizes = [d.itemsize for d in node.dtypes]
                done, moved = costs.work(operator, node.input_shapes, node.shapes, node.attrs, sizes, outsizes)
                assert np.isfinite(done) and done >= 0 and moved >= 0, operator.name
                assert not operator.view or done == moved == 0, operator.name


def test_saved_bytes_are_counted_once_and_without_parameters():
    layer = nn.Linear(10, 20)
    x = tg.ones(5, 10)
    graph = tg.graph.trace(layer(x).relu())
    kept = {graph[k].op: cost.saved for k, cost in costs.of_graph(graph).items() if graph[k].kind == "operator"}
    assert kept == {"linear": 4 * 50, "relu": 4 * 100}  # the input; the result


def test_a_graph_without_settings_has_no_costs():
    node = tg.graph.GraphNode("n1", "operator", "softmax", None, "", ((2,),), ("float32",), False)
    leaf = tg.graph.GraphNode("n0", "input", "", "x", "", ((2,),), ("float32",), False)
    edge = tg.graph.GraphEdge("n0", "n1", 0, "input", 0, (2,), "float32")
    with pytest.raises(ValueError, match="does not say which dim, dtype its softmax has"):
        costs.of_graph(tg.graph.Graph([leaf, node], [edge], ["n1"]))


def test_a_profile_adds_up():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    x = tg.randn(8, 1, 8, 8)
    found = profiler.measure(model, x, runs=3)
    nodes = found.rows("node")
    for by in ("operator", "module"):
        rows = found.rows(by)
        assert sum(r.total_seconds for r in rows) == pytest.approx(sum(r.total_seconds for r in nodes))
        assert sum(r.flops for r in rows) == found.total.flops == _flops(model, x)
        assert sum(r.calls for r in rows) == len(nodes)
        assert [r.total_seconds for r in rows] == sorted((r.total_seconds for r in rows), reverse=True)
    assert {r.name for r in found.rows("module")} == {"0", "1", "2", "3", "4"}
    assert {r.name for r in found.rows("module", depth=0)} == {"Sequential"}
    assert 0 < sum(r.seconds for r in nodes) <= 1.5 * found.seconds and found.first_seconds > 0
    assert 0 < sum(r.backward_seconds for r in nodes) <= 1.5 * found.backward_seconds
    assert found.peak.flops > 1e8 and found.peak.bandwidth > 1e8


def test_backward_work_of_products_is_that_of_their_gradients():
    # dL/dW = g^T x and dL/dx = g W take as many multiply-adds as y = x W^T; the first layer's input wants no gradient.
    model = nn.Sequential(nn.Linear(30, 40, bias=False), nn.Linear(40, 50, bias=False))
    found = {r.name: r for r in profiler.measure(model, tg.ones(20, 30), runs=1).rows("module")}
    assert found["1"].backward_flops == 2 * found["1"].flops == 4 * 20 * 40 * 50
    assert found["0"].backward_flops == found["0"].flops == 2 * 20 * 30 * 40


def test_measuring_leaves_everything_as_it_was():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    before = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    tg.manual_seed(3)
    expected = tg.rand(3).numpy()
    tg.manual_seed(3)
    profiler.measure(model, tg.randn(6, 4), runs=2)
    tg.manual_seed(3)
    random_before = tg.get_rng_state()
    profiler.measure(model, tg.ones(6, 4), runs=2)
    assert np.array_equal(tg.rand(3).numpy(), expected) and random_before is not None
    assert all(np.array_equal(before[k], v.numpy()) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_forward_alone_and_functions_without_gradient():
    found = profiler.measure(nn.Linear(3, 3), tg.ones(2, 3), backward=False, runs=1)
    assert found.backward_seconds == 0 and found.total.backward_flops == 0 and found.total.flops > 0
    assert profiler.measure(lambda x: x * 2, tg.ones(3), runs=1).backward_seconds == 0


def test_wrong_calls_are_named():
    with pytest.raises(TypeError, match="expected a module or function, got int"):
        profiler.measure(3)
    with pytest.raises(ValueError, match="runs must be at least 1"):
        profiler.measure(lambda: tg.ones(1), runs=0)
    with pytest.raises(ValueError, match="'operator', 'module', 'node'"):
        profiler.measure(lambda x: x * 2, tg.ones(1), runs=1).rows("layer")
    with pytest.raises(ValueError, match="limit must be at least 1"):
        profiler.measure(lambda x: x * 2, tg.ones(1), runs=1).table(limit=0)
    weight = tg.ones(3, requires_grad=True)

    def step(x):
        loss = (weight * x).sum()
        loss.backward()
        return loss

    with pytest.raises(ValueError, match="calls backward itself"):
        profiler.measure(step, tg.ones(3))
    with pytest.raises(TypeError, match="measure the function or module itself"):
        profiler.measure(tg.compile(lambda x: x * 2), tg.ones(3))
    calls = iter(range(100))
    with pytest.raises(ValueError, match="other operators from call to call"):
        profiler.measure(lambda x: x.exp() if next(calls) % 2 else x.sin(), tg.ones(1))


def test_the_table_has_every_row_and_can_be_cut():
    found = profiler.measure(models.lenet5(), tg.zeros(2, 1, 28, 28), runs=1)
    lines = found.table("module").splitlines()
    assert lines[0].split()[:3] == ["module", "calls", "forward"] and len(lines) == 1 + 12 + 1 + 2
    assert max(map(len, lines[:-2])) <= 118
    cut = found.table("module", limit=3).splitlines()
    assert len(cut) == 1 + 4 + 1 + 2 and "(9 more)" in cut[4] and cut[5].startswith("total")
    assert cut[5] == lines[13]


def test_the_peak_is_measured_without_numba_too():
    with kernels.disabled():
        assert profiler.measure(lambda x: x * 2, tg.ones(3), runs=1).peak.how == "NumPy's matrix product and copy"


def test_the_command_profiles_a_model(tmp_path):
    def run(*arguments):
        return subprocess.run([sys.executable, "-m", "tinygrad_cv", "profile", *arguments], capture_output=True, text=True)

    done = run("lenet5", "--batch", "2", "--runs", "1", "-o", str(tmp_path / "p.dot"))
    assert done.returncode == 0, done.stderr
    assert "conv2d" in done.stdout and "features.3" in done.stdout and "of FMA peak" in done.stdout
    assert r"time:\nshare of the slowest box" in (tmp_path / "p.dot").read_text()
    found = json.loads(run("lenet5", "--json", "--forward", "--runs", "1", "--by", "module", "--depth", "1").stdout)
    assert {r["name"] for r in found["module"]} == {"features", "flatten", "classifier"} and found["backward_seconds"] == 0
    for wrong, message in (
        (("lenet5", "--batch", "0"), "--batch must be at least 1"),
        (("lenet5", "-o", "x.jpg"), "the ending '.jpg'"),
        (("lenet",), "did you mean lenet5"),
    ):
        failed = run(*wrong)
        assert failed.returncode == 1 and message in failed.stderr
