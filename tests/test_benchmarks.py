"""The benchmark program works: what it measures agrees with PyTorch, and tables and refusals say what they should. Times are not tested."""

import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import tinygrad_cv as tg

torch = pytest.importorskip("torch")
pytest.importorskip("numba")

FOLDER = Path(__file__).parent.parent / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="an installed package has no benchmarks")


@pytest.fixture
def suite(monkeypatch):
    """The modules of the program, by name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import run
    from suite import convolutions, libraries, machine, memory, networks, operators, products, report, timing, training

    found = (run, convolutions, libraries, machine, memory, networks, operators, products, report, timing, training)
    return {module.__name__.rpartition(".")[2]: module for module in found}


@pytest.fixture
def context(suite):
    threads = torch.get_num_threads(), tg.get_num_threads()
    plan = suite["timing"].Plan(blocks=1, seconds=0.0, quick=True)
    yield suite["libraries"].Context(plan, 1, suite["machine"].Machine(1, 100.0, 100.0, 10.0))
    torch.set_num_threads(threads[0])
    tg.set_num_threads(threads[1])


def _run(*arguments):
    return subprocess.run([sys.executable, str(FOLDER / "run.py"), *arguments], capture_output=True, text=True)


def test_the_command_measures_the_machine():
    kept = (FOLDER / "README.md").read_text()
    done = _run("--quick", "--only", "machine", "--only", "memory", "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert "FMA peak from registers, one core" in done.stdout and "triad" in done.stdout and "GFLOP/s" in done.stdout
    assert "ResNet-20 step, batch 2: PyTorch" in done.stdout and "1 thread of" in done.stdout
    assert (FOLDER / "README.md").read_text() == kept


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--quick", "--write"), "leave --write out"),
        (("--threads", "100000"), "--threads must lie between 1 and"),
        (("--only", "gem"), "invalid choice: 'gem'"),
        (("--blocks", "0"), "must be positive"),
    ],
)
def test_wrong_use_is_refused(suite, capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        suite["run"].arguments(list(arguments))
    assert caught.value.code == 2 and message in capsys.readouterr().err


def test_a_noisy_machine_is_refused_unless_told(suite, monkeypatch, capsys, tmp_path):
    run, machine, report = suite["run"], suite["machine"], suite["report"]
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(report, "README", tmp_path / "README.md")
    (tmp_path / "README.md").write_text("Head\n" + report.MARKER + "\nold")
    monkeypatch.setattr(machine, "quiet", lambda meter, patience: (False, 1.5))
    monkeypatch.setattr(machine, "measure", lambda meter, quick: machine.Machine(1, 50.0, 100.0, 10.0))
    monkeypatch.setattr(machine, "Meter", lambda threads: None)
    monkeypatch.setattr(run, "prepare", lambda threads: None)
    before = torch.get_num_threads(), tg.get_num_threads()
    try:
        assert run.main(["--only", "machine", "--write"]) == 3
        said = capsys.readouterr()
        assert "too noisy to measure machine" in said.err and "1.50 times" in said.err and said.out == ""
        assert not (tmp_path / "results.json").exists()
        assert run.main(["--only", "machine", "--write", "--anyway"]) == 0
    finally:
        torch.set_num_threads(before[0])
        tg.set_num_threads(before[1])
    kept = json.loads((tmp_path / "results.json").read_text())["machine"]
    assert kept["noisy"] and kept["machine"]["all_threads"] == 100
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("Head\n" + report.MARKER) and "Measured on a noisy machine" in text and "old" not in text


def test_noise_is_what_the_repetitions_differ_by(suite, monkeypatch):
    machine = suite["machine"]
    meter = machine.Meter(1)
    assert all(rate > 0.1 for rate in meter.peak(2)) and meter.bandwidth(1, 1 << 12) > 0
    durations = iter([0.01] * 8 + [0.02] * 2 + [0.01] * 1000)
    monkeypatch.setattr(machine, "_seconds", lambda call: next(durations))
    assert meter.noise(0.0) == pytest.approx(2.0)
    monkeypatch.setattr(meter, "noise", lambda seconds: 1.01)
    assert machine.quiet(meter, 0) == (True, 1.01)
    monkeypatch.setattr(meter, "noise", lambda seconds: 1.4)
    assert machine.quiet(meter, 0) == (False, 1.4)


def test_what_is_wrong_is_not_timed(suite):
    timing = suite["timing"]
    right = np.arange(6.0).reshape(2, 3)
    entrants = {
        "ours": lambda: tg.tensor(right * (1 + 1e-3)),
        "ours compiled": timing.attempt(lambda: 1 / 0),
        "PyTorch": lambda: torch.tensor(right),
        "NumPy": lambda: right.T,
        "JAX": lambda: right * np.nan,
    }
    row = timing.contest("case", entrants, timing.QUICK, tolerance=1e-4, flop=12)
    assert row["wrong"] == ["JAX", "NumPy", "ours"] and set(row["times"]) == {"PyTorch"} and row["flop"] == 12
    assert "differs from PyTorch's by 1.0e-03, allowed is 1e-04" in row["failed"]["ours"]
    assert row["failed"]["ours compiled"] == "ZeroDivisionError: division by zero"
    text = "\n".join(suite["report"]._timings([row], None))
    assert "| WRONG | - |" in text and "ours compiled (all cases): ZeroDivisionError" in text


def test_failures_of_ours_and_warnings_are_told(suite):
    timing = suite["timing"]

    said = []

    def warning():
        if not said:
            said.append(True)
            warnings.warn("compile: f runs as it is: print(x)", RuntimeWarning, stacklevel=2)
        return np.ones(2)

    def failing():
        raise ValueError("conv2d: no")

    entrants = {"ours": failing, "ours compiled": warning, "PyTorch": lambda: torch.ones(2)}
    row = timing.contest("case", entrants, timing.QUICK)
    assert row["wrong"] == ["ours"] and row["failed"] == {"ours": "ValueError: conv2d: no"}
    assert row["notes"] == {"ours compiled": "compile: f runs as it is: print(x)"} and "ours compiled" in row["times"]
    text = "\n".join(suite["report"]._timings([row], None))
    assert "ours (all cases): ValueError: conv2d: no." in text and "ours compiled (all cases): compile: f runs as it is" in text
    entrants["PyTorch"] = failing
    with pytest.raises(ValueError, match="conv2d: no"):
        timing.contest("case", entrants, timing.QUICK)


def test_entrants_take_turns_in_blocks_after_one_first_call(suite):
    timing, calls = suite["timing"], []

    def entrant(name):
        def call():
            calls.append(name)
            time.sleep(0.001)
            return np.ones(1)

        return call

    row = timing.contest("case", {name: entrant(name) for name in ("ours", "PyTorch")}, timing.Plan(3, 0.01))
    changes = [a for a, b in zip(calls, [None, *calls], strict=False) if a != b]
    assert (
        changes == ["ours", "PyTorch"] * 4
    )  # first calls, warming, and three blocks each, of which the middle ones in reverse order
    found = row["times"]["ours"]
    assert found["ms"] >= 1 and found["spread"] >= 1 and found["first_ms"] >= 1


def test_tables_give_the_ratios_of_the_times(suite):
    report = suite["report"]

    def row(case, **times):
        names = {"ours": "ours", "compiled": "ours compiled", "torch": "PyTorch", "inductor": "torch.compile"}
        found = {names[k]: {"ms": v, "spread": 1.5, "first_ms": 9.0} for k, v in times.items()}
        return {"case": case, "times": found, "failed": {}, "wrong": [], "batch": 10, "flop": 1e9}

    rows = [
        row("one", ours=2.0, compiled=1.0, torch=6.0, inductor=4.0),
        row("two", ours=4.0, compiled=1.0, torch=4.0, inductor=5.0),
    ]
    lines = report._timings(rows, {"all_threads": 1000.0, "triad": 10.0})
    header = [cell.strip() for cell in lines[0].split("|")[1:-1]]
    one, two = (dict(zip(header, (c.strip() for c in line.split("|")[1:-1]), strict=True)) for line in lines[2:4])
    assert one["PyTorch / ours"] == "3" and one["best rival / ours"] == "2" and one["best rival / ours compiled"] == "4"
    assert two["PyTorch / ours"] == "1" and two["best rival / ours compiled"] == "4"
    assert one["ours, us an example"] == "200" and one["of FMA peak"] == "50 %" and one["spread"] == "1.50x"
    assert "PyTorch / ours: median 2.00, least 1.00. best rival / ours: median 1.50, least 1.00" in "\n".join(lines)


def test_keeping_one_group_leaves_the_others(suite, monkeypatch, tmp_path):
    report = suite["report"]
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(report, "README", tmp_path / "README.md")
    (tmp_path / "README.md").write_text("How to read\n" + report.MARKER + "\nold")

    def entry(value):
        return {"date": "2026-01-01", "environment": "Here.", "noisy": False, "rows": [{"case": "c", "figures": {"v": value}}]}

    report.save({"starting": entry(1.25), "machine": entry(2)})
    groups = report.load()
    groups["machine"] = entry(3)
    report.save(groups)
    text = (tmp_path / "README.md").read_text()
    assert text.count("| c | 3 |") == 1 and text.count("| c | 1.25 |") == 1 and "old" not in text and "| c | 2 |" not in text
    assert text.index("## The machine") < text.index("## Starting") and text.startswith("How to read")


def test_the_kept_table_is_that_of_the_kept_figures(suite):
    report = suite["report"]
    groups = report.load()
    assert set(groups) <= set(report.TITLES) == set(suite["run"].GROUPS)
    kept = (FOLDER / "README.md").read_text().split(report.MARKER)[1]
    assert kept == "\n" + "\n".join(report.section(name, groups[name]) for name in report.TITLES if name in groups)


@pytest.mark.parametrize("name", ["mlp", "lenet5", "resnet20", "depthwise", "lstm", "norm_gelu"])
def test_networks_of_both_libraries_train_alike(suite, name):
    """Also that the check before the timing notices a gradient that is off."""
    training, workload = suite["training"], suite["networks"].WORKLOADS[name].sized(2)
    if name == "depthwise":
        workload = workload.sized(2, (64, 9, 8))
    if name in ("lstm", "norm_gelu"):
        workload = workload.sized(2, (5, 256))
    weights = training.initial_weights(workload)

    def trainers():
        return training.Trainer(tg, workload, weights), training.Trainer(torch, workload, weights)

    assert training.disagreement(*trainers()) is None
    ours, theirs = trainers()
    with torch.no_grad():
        next(iter(theirs.model.parameters())).mul_(1.2)
    assert training.disagreement(ours, theirs) is not None


@pytest.mark.parametrize("name", ["mlp", "lenet5", "resnet20", "depthwise", "lstm", "norm_gelu"])
def test_networks_train_alike_in_jax(suite, name):
    pytest.importorskip("jax", reason="JAX is not installed")
    from suite import jax_networks

    training, workload = suite["training"], suite["networks"].WORKLOADS[name].sized(2)
    weights = training.initial_weights(workload)
    theirs = training.Trainer(torch, workload, weights)
    start = training.Trainer(torch, workload, weights)
    call = jax_networks.training_call(start.model, *workload.data(), training.RATE, training.MOMENTUM)
    for _ in range(3):
        assert call() == pytest.approx(theirs.call()(), rel=1e-3)


def test_a_training_row_has_every_entrant(suite, context):
    workload = suite["networks"].WORKLOADS["lenet5"].sized(2)
    row = suite["training"].training_row(workload, context)
    expected = {"ours", "ours compiled", "PyTorch", "PyTorch channels last", "torch.compile"}
    assert {*row["times"], *row["failed"]} - {"JAX"} == expected
    assert {"ours", "PyTorch"} <= set(row["times"]) and not row["wrong"] and row["case"] == "LeNet-5, batch 2"


def test_operators_agree_in_both_directions(suite, context, monkeypatch):
    operators = suite["operators"]
    monkeypatch.setattr(operators, "CASES", [o for o in operators.CASES if o.name in ("gelu", "softmax", "max pool 2x2")])
    rows = [*operators.group(context), *operators.chain_group(context)]
    assert len(rows) == 8 and not any(row["wrong"] for row in rows)
    assert all({"ours", "PyTorch"} <= set(row["times"]) and row["bytes"] > 0 for row in rows)


def test_convolutions_and_products_agree(suite, context, monkeypatch):
    convolutions, products = suite["convolutions"], suite["products"]
    small = convolutions.Shape(3, 5, 3, 7, 2, stride=2, padding=1)
    assert small.output == 4 and small.flop == 2 * 2 * 5 * 16 * 3 * 9
    monkeypatch.setattr(convolutions, "CASES", (None, None, None, small))
    monkeypatch.setattr(products, "CASES", ((6, 5, 4, "NN"), (6, 5, 4, "TN"), (6, 5, 4, "NT")))
    rows = [*convolutions.group(context), *products.group(context)]
    assert [row["case"].rpartition(": ")[2] for row in rows[:3]] == ["forward", "input gradient", "weight gradient"]
    assert len(rows) == 6 and not any(row["wrong"] for row in rows)


def test_memory_counts_what_is_resident(suite):
    memory = suite["memory"]
    assert 0 < memory.status("VmRSS") <= memory.status("VmHWM")
