"""`tinygrad-cv explain` as it is typed: expressions and models to pages, and what is said when something is wrong."""

import json
import re

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv.cli import main


def _run(capsys, *arguments):
    status = main([str(a) for a in ("explain", *arguments)])
    return status, capsys.readouterr()


def _data(path):
    return json.loads(
        re.search(r'<script type="application/json" id="page-data">(.*?)</script>', path.read_text(), re.DOTALL)[1]
    )


def test_the_first_example_of_the_lectures(capsys, tmp_path):
    """f = (x + y) z at (-2, 5, -4) is -12 with gradient (-4, -4, 3)."""
    page = tmp_path / "page.html"
    status, said = _run(capsys, "(x + y) * z", "x=-2", "y=5", "z=-4", "-o", page)
    assert status == 0
    assert [line.strip() for line in said.out.splitlines()[:4]] == [
        "(x + y) * z = -12", "gradient of x = -4", "gradient of y = -4", "gradient of z = 3",
    ]  # fmt: skip
    assert page.read_text().startswith("<!DOCTYPE html>") and _data(page)["title"] == "(x + y) * z"
    assert {n["name"] for n in _data(page)["nodes"]} >= {"x", "y", "z", "f"}


def test_json_lists_dtype_and_named_steps(capsys, tmp_path):
    page = tmp_path / "page.html"
    status, said = _run(
        capsys, "q = w * x; f = relu(q + b)", "w=[1,-2]", "x=[3.5, 4]", "b=-0.5", "--dtype", "float32", "-o", page, "--json"
    )
    result = json.loads(said.out)
    assert status == 0 and result["value"] == [3.0, 0.0]
    assert result["gradients"] == {"w": [3.5, 0.0], "x": [1.0, 0.0], "b": 1.0}
    assert result["bytes"] == page.stat().st_size and result["operators"] == 3
    nodes = {n["name"]: n for n in _data(page)["nodes"]}
    assert nodes["q"]["op"] == "mul" and nodes["f"]["op"] == "relu" and nodes["x"]["dtype"] == "float32"


def test_an_expression_may_be_longer_than_a_file_name(capsys, tmp_path):
    """x + x + ... of 300 terms is 300 x; what is said of it stays short."""
    page = tmp_path / "page.html"
    long = "+".join(["x"] * 300)
    status, said = _run(capsys, long, "x=2", "-o", page)
    assert status == 0 and "... = 600\n  gradient of x = 300\n" in said.out and len(_data(page)["title"]) <= 200
    for arguments in ([long], [long, "y=2"], ["x", f"x={long}"], ["x", long], [long, "x=1", "--digit", "3"], ["x\0y", "x=1"]):
        status, said = _run(capsys, *arguments, "-o", page)
        assert status == 1 and "Errno" not in said.err and len(said.err) < 400, said.err


def test_a_variable_has_one_value(capsys, tmp_path):
    status, said = _run(capsys, "x*y", "x=1", "y=2", "x=3", "-o", tmp_path / "page.html")
    assert status == 1 and "'x' is given a value twice" in said.err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "order",
    [["-o", "PAGE", "X", "x=2", "--json", "y=-3"], ["x=2", "X", "-o", "PAGE"], ["X", "y=-3", "-o", "PAGE", "x=2", "--json"]],
)
def test_options_and_values_may_stand_in_any_order(capsys, tmp_path, order):
    page = tmp_path / "page.html"
    arguments = [{"X": "x * y", "PAGE": page}.get(a, a) for a in order]
    status, said = _run(capsys, *arguments)
    if order[0] == "x=2":  # what is to be explained comes before its values
        assert status == 1 and "=" in said.err
    else:
        assert status == 0 and json.loads(said.out)["gradients"] == {"x": -3.0, "y": 2.0} and page.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["(x + y * z", "x=1", "y=2", "z=3"], r"never closed: a \) is missing\n  \(x \+ y \* z\n  \^"),
        (["sigmod(x)", "x=1"], "did you mean sigmoid"),
        (["x * why", "x=1"], "no value was given for 'why'"),
        (["x * y", "x=1", "y=two"], "the value of y must be a number or a list of them, as in y=1.5, got 'two'"),
        (["x * y", "x=1", "y=[1,"], "got '\\[1,'"),
        (["x * y", "x=1", "y=inf"], "must be a number"),
        (["x * y", "x=1", "y"], "'y' is no NAME=VALUE"),
        (["x * y", "x=1", "y=2", "z=3"], "the variables here are: x, y"),
        (["2 * 3"], "no gradient to show: it has no variable"),
        (["x > 1", "x=1"], r"write gt\(a, b\)"),
        (["x", "x=1", "-o", "page.txt"], "must end in .html, got page.txt"),
        (["x * y", "x=1", "y=2", "--digit", "3"], "--digit goes with a model"),
        (["lenet6"], "'lenet6' is neither a model"),
        (["lenet6", "--digit", "3"], "no model is called 'lenet6'; did you mean lenet5"),
        (["lenet5", "x=1"], "'x=1' goes with an expression"),
        (["lenet5", "--digit", "10000"], "--digit must lie in 0..9999"),
        (["lenet5", "--label", "12"], "--label must be one of the 10 classes"),
        (["lenet5", "--image", "a.png", "--digit", "1"], "give one"),
        (["lenet5", "--image", "missing.png"], "missing.png: no such file"),
        (["lenet5", "--weights", "missing.safetensors"], "missing.safetensors: no such file"),
        (["lenet5", "--dtype", "float64"], "--dtype goes with an expression"),
    ],
)
def test_what_is_wrong_is_said_and_no_file_is_left(capsys, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    status, said = _run(capsys, *arguments)
    assert status == 1
    message = "\n".join(line for line in said.err.splitlines() if "random" not in line)
    assert message.startswith("tinygrad-cv: error: ") and re.search(says, message), said.err
    assert list(tmp_path.iterdir()) == []


def test_an_image_without_pillow_is_one_clear_sentence(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    status, said = _run(capsys, "lenet5", "--image", "digit.png", "-o", tmp_path / "page.html")
    assert status == 1 and "pip install 'tinygrad_cv[images]'" in said.err and list(tmp_path.iterdir()) == []


def test_lenet_on_a_digit_says_that_its_weights_are_random(capsys, tmp_path):
    page = tmp_path / "lenet5.html"
    status, said = _run(capsys, "lenet5", "--digit", "1", "-o", page, "--json")
    result = json.loads(said.out)
    assert status == 0 and result["label"] == "2" and result["weights"] is None and page.stat().st_size < 5_000_000
    assert "the weights of this lenet5 are random" in said.err and "tinygrad-cv train lenet5" in said.err
    names = {n["name"] for n in _data(page)["nodes"]}
    assert {"image", "target", "scores", "loss"} <= names


def test_saved_weights_an_image_and_a_label(capsys, tmp_path):
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    tg.manual_seed(3)
    model = tg.models.create("linear_softmax")
    file = tmp_path / "model.safetensors"
    about = {"model": "linear_softmax", "options": {"num_classes": 10, "in_features": 784}, "classes": list("0123456789"),
             "input_shape": [1, 28, 28], "scale": [2.0], "shift": [-0.5]}  # fmt: skip
    tg.save(model.state_dict(), file, about)
    digit = tg.data.MNIST(train=False).images[4]
    image_module.fromarray(255 - digit).save(tmp_path / "digit.png")
    page = tmp_path / "page.html"
    command = [file, "--image", tmp_path / "digit.png", "--invert", "--label", "4", "-o", page, "--json"]
    status, said = _run(capsys, *command)
    result = json.loads(said.out)
    assert status == 0 and not said.err and result["label"] == "4"
    assert _data(page)["title"] == "linear_softmax: digit.png"  # no folders of whoever made the page
    pixels = digit.astype(np.float64) / 255 * 2 - 0.5
    scores = pixels.ravel() @ model[1].weight.detach().numpy().T.astype(np.float64) + model[1].bias.detach().numpy()
    expected = np.log(np.exp(scores).sum()) - scores[4]  # cross-entropy
    assert result["loss"] == pytest.approx(expected, rel=1e-5) and result["predicted"] == str(int(scores.argmax()))
    status, said = _run(capsys, "linear_softmax", "--weights", file, "-o", page)
    assert status == 0 and "random" not in said.err
    status, said = _run(capsys, "lenet5", "--weights", file, "-o", page)
    assert status == 1 and "has the weights of linear_softmax, not of lenet5" in said.err


def test_a_model_for_colour_images_sees_the_digit_enlarged(capsys, tmp_path):
    page = tmp_path / "page.html"
    status, said = _run(capsys, "resnet20", "-o", page, "--json")
    result = json.loads(said.out)
    assert status == 0 and result["image"] == "test digit 0, enlarged" and result["label"] == result["predicted"]
    assert page.stat().st_size < 20_000_000
