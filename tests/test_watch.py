"""Watching a run: every number against NumPy, the run itself untouched, live, as a page, as a picture, for TensorBoard."""

import base64
import hashlib
import io
import json
import math
import re
import struct
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinygrad_cv.viz.training import report as report_module
from tinygrad_cv.viz.training import sparkline, terminal

import tinygrad_cv as tg
from tinygrad_cv import data, nn, optim, train, viz
from tinygrad_cv.cli import main

F = nn.functional


def _blobs(n=200, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    points = rng.standard_normal((n, 2)).astype(np.float32) + 4 * labels[:, None].astype(np.float32)
    return data.TensorDataset(tg.from_numpy(points), tg.from_numpy(labels))


def _model():
    return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


def _trainer(monitor=None, directory=None, lr=0.05, more=()):
    tg.manual_seed(0)
    model = _model()
    callbacks = [*more, *([] if monitor is None else [monitor])]
    optimizer = optim.Adam(model.parameters(), lr=lr)
    scheduler = optim.lr_scheduler.StepLR(optimizer, 5, gamma=0.5)
    return train.Trainer(
        model, optimizer, F.cross_entropy, callbacks=callbacks, directory=directory, progress=False, scheduler=scheduler,
        schedule_per="batch",
    )  # fmt: skip


def _fit(trainer, epochs=2, **options):
    return trainer.fit(data.DataLoader(_blobs(), 20, shuffle=True), epochs, data.DataLoader(_blobs(seed=1), 100), **options)


def _weights(model):
    return {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}


def _same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def _watched(steps=12, every=1, model=None, **options):
    """A short plain loop on blobs; returns its monitor."""
    tg.manual_seed(0)
    model = model or _model()
    monitor = viz.TrainingMonitor(model, optim.SGD(model.parameters(), lr=0.1), every=every, classes=2, **options)
    points, labels = _blobs().tensors
    for _ in range(steps):
        monitor.optimizer.zero_grad()
        loss = F.cross_entropy(model(points), labels)
        loss.backward()
        monitor.optimizer.step()
        monitor.step(loss)
    monitor.epoch(train_loss=loss.item(), train_accuracy=0.9, val_loss=0.3, val_accuracy=0.85)
    return monitor


# -- the numbers -----------------------------------------------------------------------------------------------------------


def test_one_step_in_numbers():
    """tanh(x W1') relu'd and summed up, by hand in NumPy."""
    rng = np.random.default_rng(0)
    x, w1, w2 = rng.standard_normal((5, 3)), rng.standard_normal((4, 3)), rng.standard_normal((6, 4))
    w2[1] = -50.0 * np.abs(w2[1])
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Sigmoid(), nn.Linear(4, 6, bias=False), nn.ReLU()).double()
    with tg.no_grad():
        model[0].weight.copy_(tg.from_numpy(w1))
        model[2].weight.copy_(tg.from_numpy(w2))
    monitor = viz.TrainingMonitor(model, optim.SGD(model.parameters(), lr=0.25), every=1)
    loss = (model(tg.from_numpy(x)) ** 2).sum() / 2
    loss.backward()
    monitor.optimizer.step()
    monitor.step(loss)

    s = 1 / (1 + np.exp(-x @ w1.T))
    y = np.maximum(s @ w2.T, 0)
    d_y = y  # of sum(y^2) / 2
    d_hidden = d_y * (y > 0)
    d_w2 = d_hidden.T @ s
    d_s = d_hidden @ w2
    d_w1 = (d_s * s * (1 - s)).T @ x
    sample = monitor.recording.samples[0]
    assert sample["step"] == 1 and monitor.recording.loss == [pytest.approx((y**2).sum() / 2)]
    assert sample["grad_norm"] == pytest.approx(math.hypot(np.linalg.norm(d_w1), np.linalg.norm(d_w2)))
    for name, weight, gradient in (("0.weight", w1, d_w1), ("2.weight", w2, d_w2)):
        found = sample["parameters"][name]
        assert found["norm"] == pytest.approx(np.linalg.norm(weight))
        assert found["grad_norm"] == pytest.approx(np.linalg.norm(gradient))
        assert found["ratio"] == pytest.approx(0.25 * np.linalg.norm(gradient) / np.linalg.norm(weight))
    layers = sample["layers"]
    assert list(layers) == ["0", "1", "2", "3"] and monitor.recording.layers["3"] == {"kind": "ReLU", "shape": [6]}
    assert layers["1"]["mean"] == pytest.approx(s.mean()) and layers["1"]["std"] == pytest.approx(s.std())
    assert layers["1"]["saturated"] == pytest.approx((np.abs(2 * s - 1) > 0.97).mean())
    assert layers["1"]["grad_rms"] == pytest.approx(np.sqrt((d_s**2).mean()))
    assert layers["3"]["silent"] == pytest.approx((y <= 0).all(axis=0).mean()) and layers["3"]["silent"] >= 1 / 6
    assert layers["3"]["dead"] == 0  # one sample is too few to call a unit dead
    assert layers["3"]["grad_zero"] == pytest.approx((d_y == 0).mean())
    low, high, counts = layers["1"]["hist"]
    assert (low, high) == (s.min(), s.max()) and counts == np.histogram(s, 32, (low, high))[0].tolist()
    decades = np.histogram(np.log10(np.abs(d_s[d_s != 0])), 45, (-12, 3))[0]
    assert layers["1"]["grad_hist"] == decades.tolist()


def test_a_unit_is_dead_after_ten_samples_without_an_output_and_alive_again_after_one():
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU())
    with tg.no_grad():
        model[0].weight.fill_(0.0)
        model[0].bias.copy_(tg.tensor([1.0, 1.0, 1.0, -1.0]))
    monitor = viz.TrainingMonitor(model, optim.SGD(model.parameters(), lr=0.0), every=1)
    for step in range(1, 13):
        if step == 12:
            with tg.no_grad():
                model[0].bias.fill_(1.0)
        model.zero_grad()
        loss = model(tg.ones(2, 1, 3, 3)).sum()
        loss.backward()
        monitor.step(loss)
    _, silent = monitor.recording.series("layers", "1", "silent")
    _, dead = monitor.recording.series("layers", "1", "dead")
    assert silent == [0.25] * 11 + [0.0] and dead == [0.0] * 9 + [0.25] * 2 + [0.0]


def test_activations_that_are_functions_are_watched_too():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(2, 5), nn.Linear(5, 3)

        def forward(self, input):
            return self.second(F.relu(self.first(input))).tanh()

    monitor = _watched(2, model=nn.Sequential(Net(), nn.Linear(3, 2)))
    layers = monitor.recording.layers
    assert list(layers) == ["0.first", "relu before 0.second", "0.second", "tanh end of 0", "1"]
    sample = monitor.recording.samples[0]["layers"]
    assert "silent" in sample["relu before 0.second"] and "saturated" in sample["tanh end of 0"]


def test_a_module_called_twice_is_told_apart():
    shared = nn.Linear(2, 2)
    monitor = _watched(1, model=nn.Sequential(shared, nn.Tanh(), shared))
    assert list(monitor.recording.layers) == ["0", "1", "0 (call 2)"]


def test_a_validation_in_between_is_not_taken_for_the_step():
    tg.manual_seed(0)
    model = _model()
    monitor = viz.TrainingMonitor(model, optim.SGD(model.parameters(), lr=0.1), every=1)
    points, labels = _blobs().tensors
    with tg.no_grad():
        model(points * 1000)
    loss = F.cross_entropy(model(points), labels)
    loss.backward()
    monitor.optimizer.step()
    monitor.step(loss)
    assert list(monitor.recording.layers) == ["0", "1", "3"] and monitor.recording.samples[0]["layers"]["0"]["hist"][1] < 100


def test_large_tensors_are_looked_at_in_the_same_places_every_time():
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1))
    x = tg.randn(16, 1, 32, 32)
    found = []
    for _ in range(2):
        monitor = viz.TrainingMonitor(model, every=1)
        loss = model(x).sum()
        loss.backward()
        monitor.step(loss)
        found.append(monitor.recording.samples[0]["layers"]["0"])
        monitor.finish()
    values = model(x).detach().numpy()
    assert found[0] == found[1] and sum(found[0]["hist"][2]) == 1 << 13
    assert found[0]["std"] == pytest.approx(values.std(), rel=0.1)


def test_long_runs_keep_no_more_than_the_limit_and_sample_ever_less():
    monitor = _watched(64, every=1, limit=10)
    steps = [sample["step"] for sample in monitor.recording.samples]
    assert len(steps) <= 10 and steps[0] == 1 and monitor.recording.every == 8 and monitor.recording.steps == 64
    assert np.all(np.diff(steps[1:]) >= 0) and steps == sorted(set(steps))


# -- the run is left alone ---------------------------------------------------------------------------------------------------


def test_the_run_is_bit_for_bit_the_one_without(tmp_path):
    plain = _trainer()
    _fit(plain)
    monitor = viz.TrainingMonitor(every=1, report=tmp_path / "r.html")
    watched = _trainer(monitor)
    _fit(watched)
    assert _same(_weights(plain.model), _weights(watched.model))
    drop = lambda h: [{k: v for k, v in r.items() if k != "seconds"} for r in h]  # noqa: E731
    assert drop(plain.history) == drop(watched.history)
    assert all(not module._forward_hooks for module in watched.model.modules())
    assert monitor.recording.chance == pytest.approx(math.log(2)) and len(monitor.recording.epochs) == 2
    assert monitor.recording.epochs[-1]["val_accuracy"] == watched.history[-1]["val_accuracy"]
    assert (tmp_path / "r.html").exists()


def test_the_rate_recorded_is_the_one_the_step_took():
    monitor = viz.TrainingMonitor()
    _fit(_trainer(monitor), 1)
    assert monitor.recording.rate == pytest.approx([0.05] * 5 + [0.025] * 5)


def test_a_resumed_run_has_one_recording(tmp_path):
    whole = viz.TrainingMonitor(every=3)
    _fit(_trainer(whole, tmp_path / "whole"), 4)
    _fit(_trainer(viz.TrainingMonitor(every=3), tmp_path / "parts"), 2)
    resumed = viz.TrainingMonitor(every=3)
    _fit(_trainer(resumed, tmp_path / "parts"), 4, resume=True)
    a, b = whole.recording, resumed.recording
    assert a.loss == b.loss and a.rate == b.rate and a.epochs == b.epochs
    assert [s["step"] for s in a.samples] == [s["step"] for s in b.samples] and a.samples[-1] == b.samples[-1]


def test_a_checkpoint_resumes_with_and_without_the_monitor(tmp_path):
    stopping = [train.EarlyStopping("val_loss", 50)]
    _fit(_trainer(None, tmp_path, more=stopping), 1)
    _fit(_trainer(viz.TrainingMonitor(), tmp_path, more=stopping), 2, resume=True)
    trainer = _trainer(None, tmp_path, more=stopping)
    assert len(_fit(trainer, 3, resume=True)) == 3
    with pytest.raises(ValueError, match="made with 1 callbacks, this run has 0"):
        _fit(_trainer(None, tmp_path), 4, resume=True)


def test_a_run_that_breaks_still_leaves_its_report(tmp_path):
    class Poison(nn.Module):
        def forward(self, input):
            return input * float("nan")

    tg.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), Poison())
    monitor = viz.TrainingMonitor(report=tmp_path / "broken.html")
    trainer = train.Trainer(model, optim.SGD(model.parameters(), lr=0.1), F.cross_entropy, callbacks=[monitor], progress=False)
    with pytest.raises(train.TrainingError):
        trainer.fit(data.DataLoader(_blobs(), 20), 1)
    assert [check.rule for check in monitor.findings()] == ["loss not a number"]
    assert "TrainingError" in monitor.recording.error
    assert "stopped being a number at step 1" in (tmp_path / "broken.html").read_text()


def test_a_compiled_step_keeps_its_plan_when_layers_are_left_alone():
    tg.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    monitor = viz.TrainingMonitor(model, optimizer, every=1, activations=False)
    points, labels = _blobs().tensors

    @tg.compile
    def step(points, labels):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(points), labels)
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(6):
        monitor.step(step(points, labels))
    assert len(tg.compile.explain(step).plans) == 1
    for sample in monitor.recording.samples:
        about = sample["parameters"]["0.weight"]
        assert about["ratio"] == pytest.approx(0.1 * about["grad_norm"] / about["norm"], rel=1e-4) and not sample["layers"]


def test_what_it_costs_is_measured():
    monitor = _watched(30)
    assert 0 < monitor.recording.cost < monitor.recording.seconds


def test_wrong_calls_are_named(tmp_path):
    for options, message in (
        ({"every": 0}, "every must be at least 1"), ({"limit": 3}, "limit must be at least 10"),
        ({"classes": 1}, "classes must be at least 2"), ({"report": "run.txt"}, r"'run.txt' must be one of .html, .png"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            viz.TrainingMonitor(**options)
    with pytest.raises(RuntimeError, match="there is no model; give it"):
        viz.TrainingMonitor().step(1.0)
    model = _model()
    monitor = viz.TrainingMonitor(model)
    with pytest.raises(RuntimeError, match="no parameter has a gradient; call it after"):
        monitor.step(1.0)
    with pytest.raises(TypeError, match="'accuracy' is not recorded; there are train_loss"):
        monitor.epoch(accuracy=1.0)
    with pytest.raises(ValueError, match="nothing was recorded yet"):
        viz.TrainingMonitor(model).save(tmp_path / "r.html")
    with pytest.raises(ValueError, match="must be one of"):
        _watched(1).save(tmp_path / "r.gif")
    assert not list(tmp_path.iterdir())


def test_only_public_names_are_used():
    import ast
    from pathlib import Path

    for path in Path(report_module.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tinygrad_cv."):
                assert node.module in ("tinygrad_cv.graph", "tinygrad_cv.files"), f"{path.name} imports {node.module}"
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                assert isinstance(node.value, ast.Name) and node.value.id == "self", f"{path.name} touches {node.attr}"


def test_a_recurrent_layer_is_watched_by_its_sequence():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, 2)

        def forward(self, input):
            return self.head(self.lstm(input.unsqueeze(1))[0][:, -1])

    monitor = _watched(2, model=Reader())
    assert monitor.recording.layers["lstm"] == {"kind": "LSTM", "shape": [1, 3]} and monitor.recording.title == "Reader"


# -- as a page -------------------------------------------------------------------------------------------------------------------


def _page_parts(text):
    style = re.search(r"<style>(.*?)</style>", text, re.S).group(1)
    script = re.search(r"<script>(.*?)</script>", text, re.S).group(1)
    packed = re.search(r'<script type="application/json" id="run">(.*?)</script>', text, re.S).group(1)
    return style, script, json.loads(packed)


def test_the_page_allows_its_own_script_and_style_and_nothing_else(tmp_path):
    monitor = _watched()
    monitor.save(tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    style, script, run = _page_parts(text)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1)
    for part, kind in ((script, "script-src"), (style, "style-src")):
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert set(re.findall(r"https?://[^\"'\s<]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\b|fetch\(|XMLHttpRequest", script)
    assert run["steps"] == 12 and run["samples"] == list(range(1, 13)) and len(run["checks"]) == 11
    assert run["weights"][0]["ratio"][0] == pytest.approx(
        monitor.recording.samples[0]["parameters"]["0.weight"]["ratio"], rel=1e-4
    )


def test_the_same_recording_gives_the_same_page_and_any_title_is_only_text():
    monitor = _watched(2, title="</script><img src=x onerror=alert(1)> @data@ & \u2028")
    text = report_module.report_page(monitor.recording)
    assert text == report_module.report_page(monitor.recording)
    assert "<img" not in text and text.count("</script>") == 2
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt; @data@ &amp;" in text


def test_a_long_run_makes_a_page_of_bounded_size():
    monitor = _watched(1)
    run = monitor.recording
    run.loss, run.rate, run.accuracy = list(np.linspace(2, 0, 100_000)), [0.1] * 100_000, [math.nan] * 100_000
    page = report_module.page_data(run)
    assert len(page["loss"]["steps"]) == report_module.POINTS == len(page["rate"])
    assert page["loss"]["steps"][-1] == 100_000 and page["accuracy"] is None
    assert page["loss"]["low"][0] == pytest.approx(run.loss[page["loss"]["steps"][0] - 1], rel=1e-4)
    assert page["loss"]["high"][0] == 2 and len(report_module.report_page(run)) < 400_000


def test_a_failed_write_leaves_no_file(tmp_path):
    (tmp_path / "file").write_text("")
    for ending in ("html", "json"):
        with pytest.raises(OSError, match="cannot write"):
            _watched(1).save(tmp_path / "file" / f"r.{ending}")
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


def test_the_numbers_as_json(tmp_path):
    monitor = _watched(3)
    monitor.step(math.nan)
    monitor.save(tmp_path / "r.json")
    kept = json.loads((tmp_path / "r.json").read_text())
    assert kept["loss"][:3] == monitor.recording.loss[:3] and kept["loss"][3] is None and len(kept["samples"]) == 4


def test_curves_as_a_picture(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    monitor = _watched(15)
    for name, start in (("r.png", b"\x89PNG"), ("r.svg", b"<?xml"), ("again.svg", b"<?xml")):
        monitor.save(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    assert (tmp_path / "r.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()


def test_without_matplotlib_one_sentence_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(ImportError, match=r"figures are drawn with matplotlib: pip install 'tinygrad_cv\[viz\]'"):
        _watched(2).save(tmp_path / "r.png")
    _watched(2).save(tmp_path / "r.html")
    assert [f.name for f in tmp_path.iterdir()] == ["r.html"]


# -- in the terminal ---------------------------------------------------------------------------------------------------------------


def test_sparklines():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([1, 10, 100], log=True) == "▁▅█" and sparkline([3, 3]) == "▁▁" and sparkline([]) == ""
    assert sparkline([1, math.nan, 2]) == "▁?█" and sparkline([0, 1, 10], log=True) == "?▁█"
    assert sparkline([0, 0, 7, 7], 2) == "▁█" and sparkline([0, 1], blocks="ab") == "ab"
    with pytest.raises(ValueError, match="width must be at least 1"):
        sparkline([1], 0)


@given(values=st.lists(st.floats(), max_size=60), width=st.integers(1, 40), log=st.booleans())
def test_a_sparkline_is_as_wide_as_asked_for_any_numbers(values, width, log):
    line = sparkline(values, width, log=log)
    assert len(line) == min(len(values), width) and set(line) <= set(terminal.BLOCKS + "?")


def _printed(monitor, width=100, encoding="utf-8"):
    from rich.console import Console

    stream = io.StringIO()
    Console(file=stream, width=width).print(terminal.view(monitor.recording, width, encoding))
    return stream.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_terminal_view_fits_and_tells_the_numbers(width):
    monitor = _watched(12, title="blobs [/b]")
    text = _printed(monitor, width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "blobs [/b]: step 12" in text and f"{monitor.recording.loss[-1]:.3g}" in text and "0.weight" in text
    assert "85.00 %" in text and not set(terminal.BLOCKS).isdisjoint(text)
    assert _printed(monitor, width, "ascii").isascii() is False  # the frame is rich's own business
    assert set(terminal.BLOCKS).isdisjoint(_printed(monitor, width, "ascii"))


def test_live_in_a_file_is_a_line_an_epoch_and_in_a_terminal_a_moving_view(monkeypatch):
    stream = io.StringIO()
    quiet = terminal.LiveView(stream)
    monitor = _watched(5)
    quiet.show(monitor.recording)
    assert stream.getvalue() == ""
    quiet.show(monitor.recording, epoch=True)
    quiet.close(monitor.recording)
    assert stream.getvalue().count("\n") >= 2 and "val accuracy 85.00 %" in stream.getvalue()
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    moving = io.StringIO()
    view = terminal.LiveView(moving)
    view.show(monitor.recording)
    view.close(monitor.recording)
    assert "update/weight" in moving.getvalue()


# -- for TensorBoard -------------------------------------------------------------------------------------------------------------


def _events(path):
    """The events of a file of TFRecords: length, checksum, bytes, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    payload = path.read_bytes()
    position = 0
    while position < len(payload):
        (length,) = struct.unpack_from("<Q", payload, position)
        event = Event()
        event.ParseFromString(payload[position + 12 : position + 12 + length])
        yield event
        position += length + 16


def test_event_files_hold_what_was_recorded(tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    monitor = _watched(6)
    path = viz.write_events(monitor.recording, tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == [path]
    values = {}
    for event in _events(path):
        for value in event.summary.value:
            values.setdefault(value.tag, {})[event.step] = value
    losses = [values["loss/train"][step].simple_value for step in range(1, 7)]
    assert losses == pytest.approx(monitor.recording.loss) and values["accuracy/validation"][6].simple_value == pytest.approx(
        0.85
    )
    sample = monitor.recording.samples[3]
    assert values["update_ratio/0.weight"][4].simple_value == pytest.approx(sample["parameters"]["0.weight"]["ratio"])
    histogram = values["activations/1"][4].histo
    low, high, counts = sample["layers"]["1"]["hist"]
    assert list(histogram.bucket) == counts and (histogram.min, histogram.max) == (low, high)
    assert histogram.bucket_limit[-1] == pytest.approx(high) and histogram.num == sum(counts)


def test_without_tensorboardx_one_sentence_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"written with tensorboardX: pip install 'tinygrad_cv\[tensorboard\]'"):
        viz.write_events(_watched(1).recording, tmp_path / "runs")
    assert not list(tmp_path.iterdir())


# -- from the command line -----------------------------------------------------------------------------------------------------


def _command(capsys, *arguments):
    status = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_train_writes_a_report_and_trains_as_it_would_without(tmp_path, capsys):
    common = ("train", "mlp", "--limit", 400, "--epochs", 2, "--validation", 200, "--json")
    status, plain, _ = _command(capsys, *common, "--out", tmp_path / "plain")
    report = tmp_path / "new" / "report.html"
    watched, out, err = _command(capsys, *common, "--out", tmp_path / "watched", "--report", report, "--watch")
    assert status == watched == 0
    first, second = json.loads(plain.splitlines()[-1]), json.loads(out.splitlines()[-1])
    assert first["test_loss"] == second["test_loss"] and second["report"] == str(report)
    assert isinstance(second["findings"], list) and "step 26" in err
    _, _, run = _page_parts(report.read_text())
    assert run["steps"] == 26 and np.sum(run["confusion"]["counts"]) == 10_000
    assert np.trace(run["confusion"]["counts"]) / 10_000 == pytest.approx(second["test_accuracy"])
    assert len(run["filters"]["images"]) == 64 and run["filters"]["images"][0]["width"] == 28
    assert next(c for c in run["checks"] if c["rule"] == "cannot overfit ten examples")["verdict"] == "ok"


def test_train_refuses_a_bad_report_before_it_trains(tmp_path, capsys, monkeypatch):
    status, _, err = _command(capsys, "train", "mlp", "--report", "run.txt", "--out", tmp_path / "run")
    assert status == 1 and "must be one of .html" in err
    (tmp_path / "file").write_text("")
    status, _, err = _command(capsys, "train", "mlp", "--report", tmp_path / "file" / "r.html", "--out", tmp_path / "run")
    assert status == 1 and "cannot write" in err
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    status, _, err = _command(capsys, "train", "mlp", "--events", tmp_path / "events", "--out", tmp_path / "run")
    assert status == 1 and "tensorboardX: pip install 'tinygrad_cv[tensorboard]'" in err
    assert not (tmp_path / "run").exists()
