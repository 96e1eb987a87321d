"""What the rules say about real runs: each trouble is made on purpose and found, and a healthy run has none."""

import math
from itertools import pairwise

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import data, models, nn, optim, viz

F = nn.functional


@pytest.fixture(scope="module")
def digits():
    images, labels = data.MNIST(train=True, normalize=True).batch(np.arange(2500))
    return images[:2000], labels[:2000], images[2000:], labels[2000:]


def _train(
    model, images, labels, *, lr, steps, optimizer=optim.SGD, batch=50, every=2, validation=None, loss=F.cross_entropy, **more
):
    """A plain loop, with a validation of the last and one halfway; stops where the loss stops being a number."""
    monitor = viz.TrainingMonitor(model, optimizer(model.parameters(), lr=lr, **more), every=every, classes=10)
    generator = np.random.default_rng(0)
    right = []
    for step in range(1, steps + 1):
        chosen = tg.from_numpy(generator.choice(len(images), min(batch, len(images)), replace=False))
        monitor.optimizer.zero_grad()
        scores = model(images[chosen])
        value = loss(scores, labels[chosen])
        right.append((scores.argmax(1) == labels[chosen]).float().mean().item())
        if not math.isfinite(value.item()):
            monitor.step(value)
            break
        value.backward()
        monitor.optimizer.step()
        monitor.step(value)
        if validation is not None and step in (steps // 2, steps):
            with tg.no_grad():
                seen = model(validation[0])
                accuracy = (seen.argmax(1) == validation[1]).float().mean().item()
                loss_there = F.cross_entropy(seen, validation[1]).item()
            recent = right[-steps // 2 :]
            monitor.epoch(train_accuracy=sum(recent) / len(recent), val_accuracy=accuracy, val_loss=loss_there)
    monitor.finish()
    return monitor


def _found(monitor):
    return {check.rule: check for check in monitor.findings()}


def _mlp(*sizes, activation=nn.ReLU):
    layers = [nn.Flatten()]
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), activation()]
    return nn.Sequential(*layers[:-1])


def _evidence(check):
    return dict(check.evidence)


@pytest.mark.parametrize("kind", ["sgd", "adam", "lenet", "tanh"])
def test_a_healthy_run_has_no_finding(digits, kind):
    images, labels, val_images, val_labels = digits
    model = {"lenet": models.lenet5, "tanh": lambda: _mlp(784, 64, 10, activation=nn.Tanh)}.get(
        kind, lambda: _mlp(784, 64, 10)
    )()
    settings = {"optimizer": optim.Adam, "lr": 2e-3} if kind in ("adam", "lenet") else {"lr": 0.05, "momentum": 0.9}
    monitor = _train(model, images, labels, steps=120, validation=(val_images, val_labels), **settings)
    assert not monitor.findings(), "\n".join(map(str, monitor.findings()))
    judged = [check for check in monitor.checks() if check.verdict == "ok"]
    assert len(judged) >= 8 and all(check.threshold for check in monitor.checks())
    assert monitor.recording.loss[-1] < 0.7


def test_a_rate_too_high_is_named_with_the_step_where_the_loss_peaked(digits):
    monitor = _train(_mlp(784, 64, 10), *digits[:2], lr=20.0, steps=60)
    check = _found(monitor)["learning rate too high"]
    assert check.verdict == "problem" and "Lower the learning rate" in check.advice
    peak = max(monitor.recording.smooth_loss(3))
    assert f"{peak:.3g} at step" in _evidence(check)["highest smoothed loss"]
    assert _evidence(check)["learning rate"] == "20"


def test_large_steps_that_go_nowhere_are_a_rate_too_high_without_any_blow_up():
    """A noisy line fitted by Adam at 0.3: it soon leaps about the best weights for ever, and a thirtieth of the rate does better."""
    reached = {}
    for rate in (0.3, 0.01):
        tg.manual_seed(0)
        model = nn.Linear(20, 1)
        truth = tg.ones(20, 1)
        monitor = viz.TrainingMonitor(model, optim.Adam(model.parameters(), lr=rate), every=10)
        for _ in range(600):
            x = tg.randn(8, 20)
            loss = ((model(x) - x @ truth - tg.randn(8, 1)) ** 2).mean()
            model.zero_grad()
            loss.backward()
            monitor.optimizer.step()
            monitor.step(loss)
        reached[rate] = _found(monitor), np.mean(monitor.recording.loss[-100:])
    check = reached[0.3][0]["learning rate too high"]
    assert check.layers == ("weight",) and "falls no further" in check.text
    assert float(_evidence(check)["median update-to-weight ratio"]) > 2e-2
    assert not reached[0.01][0] and reached[0.01][1] < 0.8 * reached[0.3][1]


@pytest.mark.parametrize(("rate", "steps"), [(0.1, 30), (0.1, 120), (1.0, 120)])
def test_a_loss_that_falls_steadily_has_no_rate_too_high(rate, steps):
    """Plain descent on 16 points goes downhill at every step here, and at ten times the first rate faster."""
    tg.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    x, labels = tg.randn(16, 4), tg.arange(16) % 3
    monitor = viz.TrainingMonitor(model, optim.SGD(model.parameters(), lr=rate))
    for _ in range(steps):
        loss = F.cross_entropy(model(x), labels)
        model.zero_grad()
        loss.backward()
        monitor.optimizer.step()
        monitor.step(loss)
    assert rate > 0.1 or all(b < a for a, b in pairwise(monitor.recording.loss))
    assert "learning rate too high" not in _found(monitor)


def test_after_a_loss_that_is_no_number_nothing_is_said_to_be_well():
    """A run that leaves the numbers at step 6, or at once: rules that need later steps do not know."""
    for broken in (1, 6, 70):
        tg.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        monitor = viz.TrainingMonitor(model, optim.SGD(model.parameters(), lr=0.01), every=1, classes=3)
        x, labels = tg.randn(16, 4), tg.arange(16) % 3
        for step in range(1, broken + 20):
            loss = F.cross_entropy(model(x * math.nan if step >= broken else x), labels)
            model.zero_grad()
            loss.backward()
            monitor.optimizer.step()
            monitor.step(loss)
        checks = {check.rule: check for check in monitor.checks()}
        assert checks["loss not a number"].verdict == "problem"
        needing = (
            "learning rate too high",
            "learning rate too low",
            "exploding gradients",
            "vanishing gradients",
            "dead ReLUs",
            "stuck at chance",
        )
        for rule in needing:
            if broken < 70 or checks[rule].verdict not in ("problem", "warning"):
                assert str(checks[rule]) == f"not known: {rule}: the loss stopped being a number at step {broken}"
        assert checks["saturation"].text == "no hidden sigmoid or tanh was watched"
        assert checks["bad start"].verdict == ("unknown" if broken == 1 else "ok")


def test_trouble_before_the_loss_stopped_being_a_number_is_still_named(digits):
    monitor = _train(_mlp(784, 64, 10), *digits[:2], lr=20.0, steps=60)
    monitor.recording.loss.append(math.nan)
    found = _found(monitor)
    assert {"loss not a number", "learning rate too high"} <= set(found)


def test_a_rate_too_low_is_named_with_the_ratio(digits):
    monitor = _train(_mlp(784, 64, 10), *digits[:2], lr=1e-6, steps=60)
    check = _found(monitor)["learning rate too low"]
    ratios = monitor.recording.recent()[0]["parameters"]
    assert all(ratios[name]["ratio"] < 1e-4 for name in ("1.weight", "3.weight")) and "Raise" in check.advice
    assert float(_evidence(check)["largest median update-to-weight ratio"]) < 1e-4


def test_a_network_that_guesses_is_at_chance(digits):
    """Labels that have nothing to do with the images: a small network on many of them can only guess."""
    labels = tg.from_numpy(np.random.default_rng(1).integers(0, 10, 2000))
    monitor = _train(_mlp(784, 10), digits[0] * 0.01, labels, lr=0.01, steps=80)
    check = _found(monitor)["stuck at chance"]
    assert _evidence(check)["ln C"] == "2.3" and check.steps[1] == 80
    assert monitor.recording.chance == pytest.approx(math.log(10))


def test_a_first_loss_far_above_chance_is_a_bad_start(digits):
    monitor = _train(_mlp(784, 10), digits[0] * 100, digits[1], lr=1e-6, steps=3)
    check = _found(monitor)["bad start"]
    assert monitor.recording.loss[0] > 1.5 * math.log(10)
    assert _evidence(check)["first loss"] == f"{monitor.recording.loss[0]:.3g}"


def test_a_large_network_on_few_examples_overfits(digits):
    images, labels, val_images, val_labels = digits
    monitor = _train(
        _mlp(784, 128, 10),
        images[:60],
        labels[:60],
        lr=2e-3,
        steps=150,
        optimizer=optim.Adam,
        validation=(val_images, val_labels),
    )
    check = _found(monitor)["overfitting"]
    last = monitor.recording.epochs[-1]
    gap = last["train_accuracy"] - last["val_accuracy"]
    assert gap >= 0.1 and f"{100 * gap:.0f} points" in check.text
    assert _evidence(check)["validation accuracy"] == f"{100 * last['val_accuracy']:.1f} %"


def test_dead_units_are_named_by_layer(digits):
    model = _mlp(784, 64, 10)
    with tg.no_grad():
        model[1].bias[:40].copy_(tg.full((40,), -1000.0))  # 40 of 64 can never fire
    monitor = _train(model, *digits[:2], lr=0.05, steps=40)
    check = _found(monitor)["dead ReLUs"]
    assert check.layers == ("2",) and _evidence(check)["2"] == "62 %"
    assert monitor.recording.samples[-1]["layers"]["2"]["dead"] == pytest.approx(40 / 64)


def test_saturated_tanhs_are_named_by_layer(digits):
    model = _mlp(784, 64, 10, activation=nn.Tanh)
    with tg.no_grad():
        model[1].weight.mul_(50)
    monitor = _train(model, *digits[:2], lr=1e-3, steps=40)
    check = _found(monitor)["saturation"]
    assert check.layers == ("2",) and "97 %" in check.threshold


def test_gradients_vanish_in_a_deep_sigmoid_network(digits):
    """Every sigmoid multiplies a gradient by at most 1/4, so eight of them leave less than 1/65536."""
    monitor = _train(_mlp(784, *[32] * 8, 10, activation=nn.Sigmoid), *digits[:2], lr=0.1, steps=60)
    check = _found(monitor)["vanishing gradients"]
    assert "1.weight" in check.layers and "17.weight" not in check.layers
    first, last = (monitor.recording.recent()[-1]["parameters"][name] for name in ("1.weight", "17.weight"))
    assert first["grad_norm"] / first["norm"] < 1e-3 * last["grad_norm"] / last["norm"]


def test_gradients_explode_in_a_network_with_large_weights(digits):
    model = _mlp(784, *[64] * 6, 10)
    with tg.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight"):
                parameter.mul_(12)
    monitor = _train(model, *digits[:2], lr=1e-12, steps=20)
    check = _found(monitor)["exploding gradients"]
    assert check.verdict == "problem" and "Clip" in check.advice
    name = check.layers[0]
    sample = monitor.recording.recent()[0]["parameters"][name]
    assert sample["grad_norm"] > 100 * sample["norm"]


def test_a_jump_of_the_gradient_is_found_with_its_step():
    """A line through points on a line, and one batch with a target of a million: d loss / d w is about a million times as long."""
    tg.manual_seed(0)
    model = nn.Linear(2, 1)
    monitor = viz.TrainingMonitor(model, optim.SGD(model.parameters(), lr=1e-9), every=1)
    x = tg.randn(16, 2)
    for step in range(1, 31):
        model.zero_grad()
        loss = ((model(x) - (1e6 if step == 20 else 1.0)) ** 2).mean()
        loss.backward()
        monitor.optimizer.step()
        monitor.step(loss)
    check = _found(monitor)["exploding gradients"]
    assert check.marks["step"] == 20 or "as long as the weights" in check.text


def test_a_loss_that_is_no_number_names_its_step_and_the_broken_weights(digits):
    monitor = _train(_mlp(784, 64, 10), *digits[:2], lr=1e20, steps=20, loss=lambda s, t: (s * s).mean())
    check = _found(monitor)["loss not a number"]
    step = monitor.recording.steps
    assert not math.isfinite(monitor.recording.loss[-1]) and math.isfinite(monitor.recording.loss[-2])
    assert f"at step {step}" in check.text and check.steps == (step, step)
    assert _evidence(check)["loss one step before"] == f"{monitor.recording.loss[-2]:.3g}"


def test_can_overfit_says_yes_to_a_sound_network_and_leaves_it_alone(digits):
    model = models.lenet5()
    model.eval()
    before = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    stream = tg.get_rng_state()
    tried = viz.can_overfit(model, digits[0], digits[1])
    assert tried and tried.examples == 10 and tried.losses[-1] <= 0.01 * tried.losses[0]
    assert all(np.array_equal(before[name], tensor.numpy()) for name, tensor in model.state_dict().items())
    assert not model.training and all(p.grad is None for p in model.parameters())
    after = tg.get_rng_state()
    assert repr(stream) == repr(after)


def test_can_overfit_says_no_where_no_gradient_passes_and_where_labels_contradict(digits):
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(784, 10)

        def forward(self, input):
            return self.body(input.flatten(1)) * 0.0

    assert not viz.can_overfit(Cut(), digits[0], digits[1], steps=20)
    same = tg.ones(10, 1, 28, 28)
    monitor = viz.TrainingMonitor(models.mlp(), classes=10)
    tried = monitor.try_overfit(same, tg.arange(10), steps=30)
    assert not tried and tried.losses[-1] > math.log(10) * 0.9  # one image with ten labels: ln 10 is the best there is
    assert {check.rule: check.verdict for check in monitor.checks()}["cannot overfit ten examples"] == "problem"


def test_what_cannot_be_judged_is_not_known_rather_than_fine():
    model = nn.Linear(2, 1)
    monitor = viz.TrainingMonitor(model, optim.SGD(model.parameters(), lr=0.1))
    loss = model(tg.ones(3, 2)).sum()
    loss.backward()
    monitor.optimizer.step()
    monitor.step(loss)
    verdicts = {check.rule: check.verdict for check in monitor.checks()}
    for rule in (
        "stuck at chance",
        "bad start",
        "overfitting",
        "dead ReLUs",
        "saturation",
        "vanishing gradients",
        "learning rate too low",
    ):
        assert verdicts[rule] == "unknown", rule
    assert not monitor.findings()


def test_every_rule_tells_threshold_and_source_in_its_docstring():
    from tinygrad_cv.viz.training import RULES

    for rule in RULES:
        assert rule.__doc__ and rule.__doc__.startswith(("problem:", "warning:")), rule.__name__
    assert len({rule.__name__ for rule in RULES}) == 11


def test_wrong_calls_are_named(digits):
    images, labels = digits[:2]
    with pytest.raises(ValueError, match="can_overfit: 3 inputs and 2 targets"):
        viz.can_overfit(models.mlp(), images[:3], labels[:2])
    with pytest.raises(ValueError, match="at least 2 examples"):
        viz.can_overfit(models.mlp(), images[:1], labels[:1])
    with pytest.raises(ValueError, match="steps must be at least 1"):
        viz.can_overfit(models.mlp(), images, labels, steps=0)
    with pytest.raises(TypeError, match=r"model must be an nn\.Module, got int"):
        viz.TrainingMonitor(3, 4)
    with pytest.raises(TypeError, match="optimizer must be"):
        viz.TrainingMonitor(models.mlp(), 4)
    with pytest.raises(TypeError, match="every must be a whole number, got str"):
        viz.TrainingMonitor(every="x")
    monitor = viz.TrainingMonitor(nn.Linear(2, 1), every=1)
    for wrong in ("x", None, tg.ones(2), np.ones(3)):
        with pytest.raises(TypeError, match=r"TrainingMonitor.step: loss must be"):
            monitor.step(wrong)
    with pytest.raises(TypeError, match="accuracy must be"):
        monitor.step(1.0, "x")
    assert not monitor.recording.steps
