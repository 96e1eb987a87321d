"""The command line as a user meets it: in a process of its own."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import data


def _run(*arguments, check=True, **options):
    done = subprocess.run(
        [sys.executable, "-m", "tinygrad_cv", *map(str, arguments)], capture_output=True, text=True, **options
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A quickly trained linear classifier, its folder and the result that train printed."""
    directory = tmp_path_factory.mktemp("run")
    done = _run("train", "linear_softmax", "--limit", 4000, "--epochs", 2, "--out", directory, "--json")
    return directory, json.loads(done.stdout.splitlines()[-1]), done


def test_train_reports_and_leaves_everything(trained):
    directory, result, done = trained
    assert result["test_accuracy"] > 0.8 and result["epochs"] == 2 and result["seconds"] > 0
    for key in ("checkpoint", "weights", "history"):
        assert result[key].startswith(str(directory))
    history = json.loads((directory / "history.json").read_text())
    assert [r["epoch"] for r in history] == [1, 2] and "val_accuracy" in history[0]
    assert "epoch 1/2" in done.stderr and "test accuracy" in done.stderr
    if result["graph"]:
        assert "<svg" in (directory / "graph.svg").read_text()
    if result["curve"]:
        assert (directory / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_repeats_the_training_figure(trained):
    directory, result, _ = trained
    again = json.loads(_run("evaluate", directory / "model.safetensors", "--json").stdout)
    assert again["test_accuracy"] == pytest.approx(result["test_accuracy"], abs=1e-6) and again["examples"] == 10_000
    text = _run("evaluate", directory / "model.safetensors").stdout
    assert "accuracy" in text and text.count("%") == 11


def test_predict_names_digits(trained, tmp_path):
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    directory, _, _ = trained
    test = data.MNIST(train=False)
    for i in range(20):
        image_module.fromarray(test.images[i]).save(tmp_path / f"{i}.png")
    files = [tmp_path / f"{i}.png" for i in range(20)]
    found = json.loads(_run("predict", *files, "--model", directory / "model.safetensors", "--json").stdout)
    right = sum(int(r["classes"][0]["class"]) == test.labels[i] for i, r in enumerate(found))
    assert right >= 15
    assert all(len(r["classes"]) == 3 and r["classes"][0]["probability"] >= r["classes"][1]["probability"] for r in found)
    inverted = tmp_path / "inverted.png"
    image_module.fromarray(255 - test.images[0]).save(inverted)
    one = _run("predict", inverted, "--invert", "--top", 1, "--model", directory / "model.safetensors", "--json")
    assert json.loads(one.stdout)[0]["classes"][0]["class"] == found[0]["classes"][0]["class"]


def test_graph_of_a_name_and_of_saved_weights(trained, tmp_path):
    directory, _, _ = trained
    done = json.loads(_run("graph", "mlp", "-o", tmp_path / "mlp.dot", "--json").stdout)
    assert done["nodes"] > 5 and (tmp_path / "mlp.dot").read_text().startswith("digraph")
    _run("graph", directory / "model.safetensors", "-o", tmp_path / "g.txt")
    assert "linear" in (tmp_path / "g.txt").read_text()


def test_ops_lists_searches_and_counts():
    found = json.loads(_run("ops", "--search", "pool", "--json").stdout)
    assert {"max_pool2d", "avg_pool2d"} <= {o["name"] for o in found} and all("pool" in o["name"] for o in found)
    assert all(o["formula"] and o["provider"] == "tinygrad_cv" for o in found)
    shown = _run("ops").stdout
    assert "operators" in shown and "sigmoid" in shown and "sigmoid_backward" not in shown
    assert "(internal) grad_output * output * (1 - output)" in _run("ops", "--search", "sigmoid_b", "--all").stdout
    both = json.loads(_run("ops", "--all", "--search", "sigmoid", "--json").stdout)
    assert {o["name"]: o["internal"] for o in both}["sigmoid_backward"] is True
    assert _run("ops", "--search", "no such thing", check=False).returncode == 1


def test_info_tells_versions_threads_devices_and_cache():
    result = json.loads(_run("info", "--json").stdout)
    assert result["tinygrad_cv"] == tg.__version__ and result["numpy"] == np.__version__
    assert result["threads"] >= 1 and result["devices"]["cpu"] == "available" and result["cache"]["path"]
    assert result["threading_layer"] in (None, "omp", "tbb", "workqueue") and result["memory"]["max_resident"] > 10_000_000
    if result["kernels"]:
        assert result["processor"]["name"] and result["threading_layer"]
    assert "numpy" in _run("info").stdout


def test_info_explains_the_environment():
    variables = {
        "OPENBLAS_CORETYPE": "Haswell",
        "OMP_PROC_BIND": "true",
        "NUMBA_NUM_THREADS": "1",
        "KMP_BLOCKTIME": "0",
        "UNRELATED": "1",
    }
    environment = {**os.environ, **variables}
    result = json.loads(_run("info", "--json", env=environment).stdout)
    assert result["threads"] == result["threads_at_most"] == 1
    found = result["environment"]
    assert found["OPENBLAS_CORETYPE"]["value"] == "Haswell" and "NumPy" in found["OPENBLAS_CORETYPE"]["effect"]
    assert "cores" in found["OMP_PROC_BIND"]["effect"] and "kernels" in found["NUMBA_NUM_THREADS"]["effect"]
    assert "KMP_BLOCKTIME" in found and "UNRELATED" not in found
    assert "OPENBLAS_CORETYPE=Haswell" in _run("info", env=environment).stdout


def test_warmup_compiles_what_a_model_or_an_operator_needs(tmp_path):
    pytest.importorskip("numba")
    environment = {**os.environ, "TINYGRAD_CV_CACHE": str(tmp_path)}
    done = _run("warmup", "linear_softmax", "silu", "--json", env=environment)
    result = json.loads(done.stdout)
    assert result["models"] == ["linear_softmax"] and result["operators"] == 1 and result["cache"]["files"] > 2
    assert "[1/2] linear_softmax" in done.stderr and "[2/2] silu" in done.stderr
    before = {p.name for p in tmp_path.glob("*/*.nbc")}
    _run("warmup", "linear_softmax", "silu", env=environment)
    assert {p.name for p in tmp_path.glob("*/*.nbc")} == before


def test_help_has_examples():
    for command in ([], ["train"], ["evaluate"], ["predict"], ["graph"], ["ops"], ["warmup"], ["info"]):
        assert "examples:" in _run(*command, "--help").stdout
    assert tg.__version__ in _run("--version").stdout
    assert _run(check=False).returncode == 2


ERRORS = {
    "unknown model": (("train", "lenet"), "did you mean lenet5"),
    "unknown data": (("train", "mlp", "--data", "nowhere"), "no such data set or folder"),
    "bad epochs": (("train", "mlp", "--epochs", 0), "--epochs must be at least 1"),
    "bad rate": (("train", "mlp", "--lr", -1), "--lr must be positive"),
    "bad optimizer": (("train", "mlp", "--optimizer", "magic"), "use one of sgd"),
    "no cuda": (("train", "mlp", "--device", "cuda"), "device cuda"),
    "no such device": (("train", "mlp", "--device", "tpu"), "unknown device 'tpu'"),
    "missing weights": (("evaluate", "nothing.safetensors"), "no such file"),
    "missing image model": (("predict", "x.png", "--model", "nothing.safetensors"), "no such file"),
    "unknown operator": (("warmup", "conv2"), "did you mean"),
    "bad ending": (("graph", "mlp", "-o", "x.jpg"), "ending"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_one_clear_line(tmp_path, case):
    arguments, message = ERRORS[case]
    done = _run(*arguments, check=False, cwd=tmp_path)
    assert done.returncode == 1 and message in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" in _run(*arguments, "--debug", check=False, cwd=tmp_path).stderr


def test_predict_without_a_model_shows_both_commands(tmp_path):
    done = _run("predict", "digit.png", check=False, cwd=tmp_path)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1
    assert "train one first: `tinygrad-cv train lenet5 --out runs/lenet5`" in done.stderr
    assert "`tinygrad-cv predict digit.png --model FILE`" in done.stderr


def test_resuming_with_more_epochs_lengthens_the_run(tmp_path):
    def train(folder, epochs, *more, check=True):
        common = ("train", "linear_softmax", "--limit", 600, "--out", tmp_path / folder, "--epochs", epochs)
        return _run(*common, *more, check=check)

    train("whole", 3)
    train("parts", 2)
    longer = train("parts", 3, "--resume")
    assert "schedule" not in longer.stderr
    first, second = (tg.load(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(np.array_equal(first[k].numpy(), second[k].numpy()) for k in first)
    fewer = train("parts", 1, "--resume", check=False)
    assert fewer.returncode == 1 and "3 epochs are done already, and 1 were asked for" in fewer.stderr
    other = train("parts", 4, "--resume", "--lr", 0.3, "--validation", 100, check=False)
    assert other.returncode == 1 and "validation was 5000, now 100, lr was 0.1, now 0.3" in other.stderr

    train("cosine", 2, "--schedule", "cosine")
    said = [line for line in train("cosine", 4, "--schedule", "cosine", "--resume").stderr.splitlines() if "schedule" in line]
    assert len(said) == 1 and "from epoch 3 on the learning rate is that of a run of 4, before it was that of 2" in said[0]
    history = json.loads((tmp_path / "cosine" / "history.json").read_text())
    expected = [0.1, 0.05, 0.05 * (1 + np.cos(np.pi * 2 / 4)), 0.05 * (1 + np.cos(np.pi * 3 / 4))]
    assert [r["lr"] for r in history] == pytest.approx(expected)


def test_unwritable_output_fails_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    done = _run("train", "mlp", "--out", tmp_path / "file" / "run", check=False)
    assert done.returncode == 1 and "cannot write to the output folder" in done.stderr and "epoch" not in done.stderr


def test_damaged_weights_and_foreign_weights(trained, tmp_path):
    directory, _, _ = trained
    payload = (directory / "model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(payload[:-3])
    done = _run("evaluate", tmp_path / "cut.safetensors", check=False)
    assert done.returncode == 1 and "damaged" in done.stderr and "Traceback" not in done.stderr
    tg.save({"w": tg.ones(1)}, tmp_path / "foreign.safetensors")
    assert "do not say which model" in _run("evaluate", tmp_path / "foreign.safetensors", check=False).stderr
    tg.save(
        {"w": tg.ones(1)},
        tmp_path / "other.safetensors",
        {"model": "mlp", "options": {}, "classes": [], "input_shape": [1, 28, 28]},
    )
    assert "do not fit the model mlp" in _run("evaluate", tmp_path / "other.safetensors", check=False).stderr


def test_training_on_idx_files_with_a_bad_label(tmp_path):
    rng = np.random.default_rng(0)
    for part, n in (("train", 40), ("t10k", 10)):
        data.write_idx(tmp_path / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (n, 28, 28)).astype(np.uint8))
        data.write_idx(tmp_path / f"{part}-labels-idx1-ubyte", rng.integers(0, 10, n).astype(np.uint8))
    common = ("train", "linear_softmax", "--data", tmp_path, "--out", tmp_path / "run", "--epochs", 1, "--json")
    assert json.loads(_run(*common).stdout)["epochs"] == 1
    labels = rng.integers(0, 10, 40).astype(np.uint8)
    labels[7] = 200
    data.write_idx(tmp_path / "train-labels-idx1-ubyte", labels)
    done = _run(*common, check=False)
    assert done.returncode == 1 and "label 200 of example 7 is out of range for 10 classes" in done.stderr


def test_training_on_a_folder_of_images(tmp_path):
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for name, level in (("dark", 40), ("light", 215)):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for i in range(12):
                image = np.clip(rng.normal(level, 20, (20, 20)), 0, 255).astype(np.uint8)
                image_module.fromarray(image).save(folder / f"{i}.png")
    common = (
        "--data",
        tmp_path,
        "--out",
        tmp_path / "run",
        "--epochs",
        30,
        "--lr",
        0.01,
        "--validation",
        0,
        "--batch-size",
        4,
        "--json",
    )
    result = json.loads(_run("train", "mlp", *common).stdout.splitlines()[-1])
    assert result["test_accuracy"] == 1.0
    found = json.loads(
        _run("predict", tmp_path / "test" / "light" / "0.png", "--model", result["weights"], "--top", 1, "--json").stdout
    )
    assert found[0]["classes"][0]["class"] == "light"


def test_ops_checks_and_shows_what_it_found():
    shown = _run("ops", "--check", 2, "neg", "abs").stdout.splitlines()
    assert [line.split()[0] for line in shown[:2]] == ["neg", "abs"] and all("ok: 2 examples" in line for line in shown[:2])
    assert shown[2] == "2 operators checked: all ok"
    (row,) = json.loads(_run("ops", "--check", "neg", "--json").stdout)
    assert row["name"] == "neg" and row["test"].startswith("ok: 20 examples")
    assert [o["name"] for o in json.loads(_run("ops", "neg", "--json").stdout)] == ["neg"]
    assert "no operator is called" in _run("ops", "--check", "nonsense", check=False).stderr
    assert "at least 1 example" in _run("ops", "--check", 0, "neg", check=False).stderr
