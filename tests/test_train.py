"""The training loop: it learns, resumes bit for bit, survives being killed, and says what is wrong."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import data, models, nn, optim, train
from tinygrad_cv.files import CheckpointError


def _blobs(n=256, seed=0):
    """Two classes that a line separates."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    points = rng.standard_normal((n, 2)).astype(np.float32) + 4 * labels[:, None].astype(np.float32)
    return data.TensorDataset(tg.from_numpy(points), tg.from_numpy(labels))


def _trainer(directory=None, lr=0.1, callbacks=(), optimizer=None, schedule=True, **options):
    tg.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))
    optimizer = optimizer or optim.Adam(model.parameters(), lr=lr)
    scheduler = optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5) if schedule else None
    return train.Trainer(
        model, optimizer, nn.functional.cross_entropy, scheduler=scheduler, directory=directory, progress=False, callbacks=callbacks,
        **options,
    )  # fmt: skip


def _fit(trainer, epochs, **options):
    return trainer.fit(data.DataLoader(_blobs(), 32, shuffle=True), epochs, data.DataLoader(_blobs(seed=1), 64), **options)


def _weights(trainer):
    return {name: tensor.numpy().copy() for name, tensor in trainer.model.state_dict().items()}


def _same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_it_learns_and_records_every_epoch():
    trainer = _trainer()
    history = _fit(trainer, 6)
    assert [r["epoch"] for r in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1]["val_accuracy"] > 0.95 and history[-1]["train_loss"] < history[0]["train_loss"]
    assert np.allclose([r["lr"] for r in history], [0.1, 0.1, 0.05, 0.05, 0.025, 0.025])
    assert trainer.model.training


def test_one_seed_gives_one_result():
    first = _trainer()
    _fit(first, 2)
    second = _trainer()
    _fit(second, 2)
    assert _same(_weights(first), _weights(second))


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_resuming_equals_never_having_stopped(tmp_path, stop_after):
    whole = _trainer(tmp_path / "whole")
    _fit(whole, 4)
    _fit(_trainer(tmp_path / "parts"), stop_after)
    resumed = _trainer(tmp_path / "parts")
    tg.manual_seed(999)
    _fit(resumed, 4, resume=True)
    assert _same(_weights(whole), _weights(resumed))
    drop = {"seconds"}
    assert [{k: v for k, v in r.items() if k not in drop} for r in whole.history] == [
        {k: v for k, v in r.items() if k not in drop} for r in resumed.history
    ]


@pytest.mark.parametrize("name", ["momentum", "adagrad", "rmsprop", "adam", "adamw", "adadelta"])
def test_every_optimizer_resumes(tmp_path, name):
    from tinygrad_cv.train.recipes import make_optimizer

    def make(directory):
        tg.manual_seed(0)
        model = nn.Linear(2, 2)
        optimizer = make_optimizer(name, model.parameters(), 0.01)
        return train.Trainer(model, optimizer, nn.functional.cross_entropy, directory=directory, progress=False)

    whole = make(tmp_path / "whole")
    _fit(whole, 3)
    _fit(make(tmp_path / "parts"), 1)
    resumed = make(tmp_path / "parts")
    _fit(resumed, 3, resume=True)
    assert _same(_weights(whole), _weights(resumed))


def test_a_finished_run_goes_on_for_more_epochs_as_if_asked_for_them_at_once(tmp_path):
    whole = _trainer(tmp_path / "whole", config={"lr": 0.1})
    _fit(whole, 5)
    for epochs in (2, 3, 5):
        longer = _trainer(tmp_path / "parts", config={"lr": 0.1})
        _fit(longer, epochs, resume=True)
    assert _same(_weights(whole), _weights(longer)) and len(longer.history) == 5 and longer.epochs == 5
    with pytest.raises(ValueError, match="5 epochs are done already, and 4 were asked for; ask for at least 5"):
        _fit(_trainer(tmp_path / "parts", config={"lr": 0.1}), 4, resume=True)
    assert not _trainer(tmp_path / "empty").restore() and not _trainer().restore()


def test_a_setting_that_is_gone_or_new_is_a_difference(tmp_path):
    _fit(_trainer(tmp_path, config={"lr": 0.1, "limit": 5}), 1)
    with pytest.raises(CheckpointError, match=r"limit was 5, now None, seed was None, now 1"):
        _fit(_trainer(tmp_path, config={"lr": 0.1, "seed": 1}), 2, resume=True)


@pytest.mark.parametrize(
    ("name", "before", "after", "same"), [("cosine", 4, 6, False), ("step", 4, 6, False), ("step", 6, 8, True)]
)
def test_a_schedule_made_for_a_number_of_epochs_is_made_anew(name, before, after, same):
    from tinygrad_cv.train.recipes import extend_schedule, make_schedule

    def rates(schedule, optimizer, count):
        found = []
        for _ in range(count):
            found.append(optimizer.param_groups[0]["lr"])
            schedule.step()
        return found

    def make():
        return optim.SGD(nn.Linear(1, 1).parameters(), lr=0.3)

    optimizer = make()
    past = rates(make_schedule(name, optimizer, before), optimizer, 3)
    schedule, own = extend_schedule(name, optimizer, after, past)
    fresh = make()
    assert own is same and rates(schedule, optimizer, 3) == rates(make_schedule(name, fresh, after), fresh, 6)[3:]


def test_resume_refuses_other_settings_and_damaged_files(tmp_path):
    _fit(_trainer(tmp_path, config={"lr": 0.1}), 1)
    with pytest.raises(CheckpointError, match=r"lr was 0\.1, now 0\.2"):
        _fit(_trainer(tmp_path, config={"lr": 0.2}), 2, resume=True)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors"):
        _fit(_trainer(tmp_path, config={"lr": 0.1}), 2, resume=True)


def test_early_stopping_stops_and_restores_the_best(tmp_path):
    stopping = train.EarlyStopping("val_loss", patience=2)
    trainer = _trainer(callbacks=[stopping], lr=0.5, schedule=False)
    history = _fit(trainer, 60)
    assert len(history) < 60
    best = min(history.series("val_loss"))
    assert best == history[-3]["val_loss"]
    assert trainer.evaluate(data.DataLoader(_blobs(seed=1), 64))["loss"] == pytest.approx(best)


def test_early_stopping_names_a_missing_measure():
    with pytest.raises(ValueError, match="no 'val_f1' is measured; there are"):
        _fit(_trainer(callbacks=[train.EarlyStopping("val_f1")]), 1)
    with pytest.raises(ValueError, match="patience"):
        train.EarlyStopping(patience=0)


def test_nan_in_the_data_is_found_and_named():
    points, labels = _blobs().tensors
    points.numpy()[5, 0] = np.nan
    trainer = _trainer()
    with pytest.raises(train.TrainingError, match=r"epoch 1, batch 1: the input batch holds NaN.*example 5"):
        trainer.fit(data.DataLoader(data.TensorDataset(points, labels), 32), 1)


def test_a_diverging_run_says_so():
    trainer = _trainer(lr=1e30, schedule=False)
    with np.errstate(all="ignore"), pytest.raises(train.TrainingError, match=r"lower the learning rate"):
        _fit(trainer, 20)


def test_a_label_out_of_range_is_one_clear_error():
    points, labels = _blobs().tensors
    labels.numpy()[3] = 2
    with pytest.raises(IndexError, match=r"cross_entropy.*2"):
        _trainer().fit(data.DataLoader(data.TensorDataset(points, labels), 32), 1)


def test_an_empty_loader_is_refused():
    with pytest.raises(ValueError, match="no batches"):
        _trainer().fit(data.DataLoader(_blobs(8), 32, drop_last=True), 1)
    with pytest.raises(ValueError, match="no examples"):
        _trainer().evaluate([])


def test_evaluate_leaves_mode_and_weights_alone():
    trainer = _trainer()
    before = _weights(trainer)
    trainer.evaluate(data.DataLoader(_blobs(), 64))
    assert trainer.model.training and _same(before, _weights(trainer))
    assert all(p.grad is None for p in trainer.model.parameters())


def test_ctrl_c_saves_the_weights(tmp_path):
    class Interrupt(train.Callback):
        def on_batch_end(self, trainer, batch, loss):
            if trainer.epoch == 1 and batch == 2:
                raise KeyboardInterrupt

    trainer = _trainer(tmp_path, callbacks=[Interrupt()])
    with pytest.raises(KeyboardInterrupt):
        _fit(trainer, 3)
    saved = tg.load(tmp_path / "interrupted.safetensors")
    assert _same({k: v.numpy() for k, v in saved.items()}, _weights(trainer))
    assert train.load_state(tmp_path / "checkpoint.safetensors")["epoch"] == 1


def test_gradients_are_clipped():
    norms = []

    class Watch(train.Callback):
        def on_batch_end(self, trainer, batch, loss):
            norms.append(np.sqrt(sum(float((p.grad * p.grad).sum()) for p in trainer.model.parameters())))

    _fit(_trainer(callbacks=[Watch()], clip_grad_norm=0.01), 1)
    assert max(norms) <= 0.01 + 1e-6


def test_metrics():
    scores = tg.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0], [1.0, 0.0, 2.0]])
    labels = tg.tensor([0, 2, 1])
    assert train.accuracy(scores, labels) == pytest.approx(1 / 3)
    assert train.top_k_accuracy(scores, labels, 2) == pytest.approx(2 / 3)
    assert train.confusion_matrix(scores, labels).tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    with pytest.raises(ValueError, match="k must lie"):
        train.top_k_accuracy(scores, labels, 4)


def _command(*arguments):
    return [
        sys.executable,
        "-m",
        "tinygrad_cv",
        "train",
        "linear_softmax",
        "--limit",
        "3000",
        "--epochs",
        "5",
        "--json",
        *arguments,
    ]


@pytest.mark.parametrize("delay", [0.0, 0.35])
def test_a_killed_run_resumes_to_the_same_weights(tmp_path, delay):
    whole = subprocess.run(_command("--out", str(tmp_path / "whole")), capture_output=True, text=True, check=True)
    assert json.loads(whole.stdout.splitlines()[-1])["epochs"] == 5
    running = subprocess.Popen(
        _command("--out", str(tmp_path / "killed")), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    checkpoint = tmp_path / "killed" / "checkpoint.safetensors"
    while running.poll() is None and not checkpoint.exists():
        time.sleep(0.005)
    time.sleep(delay)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    if checkpoint.exists():
        train.load_state(checkpoint)  # never unreadable
    subprocess.run(_command("--out", str(tmp_path / "killed"), "--resume"), capture_output=True, check=True)
    first, second = (tg.load(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(np.array_equal(first[k].numpy(), second[k].numpy()) for k in first)


def test_classic_models_have_the_documented_shapes():
    counts = {"lenet5": 61_706, "mlp": 784 * 128 + 128 + 1290, "linear_softmax": 7850, "linear_svm": 7850}
    for name, count in counts.items():
        model = models.create(name)
        assert sum(p.numel() for p in model.parameters()) == count
        assert model(tg.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert models.lenet5(activation="tanh", pool="avg")(tg.zeros(1, 1, 28, 28)).shape == (1, 10)
    with pytest.raises(ValueError, match="did you mean lenet5"):
        models.create("lenet")
    with pytest.raises(ValueError, match="activation must be one of"):
        models.lenet5(activation="sine")
