"""Learning-rate schedules: against PyTorch step by step, against their formulas, and through a saved state."""

import json
import math

import pytest

import tinygrad_cv as tg
from tinygrad_cv import nn, optim
from tinygrad_cv.optim import lr_scheduler as schedules


def ours(lrs=(0.1, 0.02), **kwargs):
    return optim.SGD([{"params": [nn.Parameter(tg.ones(1))], "lr": lr} for lr in lrs], **kwargs)


def rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


def trace(optimizer, scheduler, steps=23):
    found = [rates(optimizer)]
    for _ in range(steps):
        scheduler.step()
        found.append(rates(optimizer))
    return found


SCHEDULES = [
    ("StepLR", {"step_size": 4, "gamma": 0.3}),
    ("MultiStepLR", {"milestones": [3, 7, 7, 12], "gamma": 0.5}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("LambdaLR", {"lr_lambda": lambda t: 1 / (1 + t)}),
    ("LambdaLR", {"lr_lambda": [lambda t: 0.9**t, lambda t: 1.0 + t]}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.2, "end_factor": 0.7, "total_iters": 9}),
    ("ConstantLR", {"factor": 0.25, "total_iters": 6}),
    ("PolynomialLR", {"total_iters": 11, "power": 2.0}),
    ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.001}),
    ("CosineAnnealingLR", {"T_max": 30}),
    ("CosineAnnealingWarmRestarts", {"T_0": 4, "T_mult": 2, "eta_min": 0.003}),
    ("CosineAnnealingWarmRestarts", {"T_0": 5}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 24}),
    ("OneCycleLR", {"max_lr": [0.5, 0.1], "epochs": 4, "steps_per_epoch": 6, "pct_start": 0.25, "anneal_strategy": "linear"}),
    (
        "OneCycleLR",
        {"max_lr": 0.5, "total_steps": 24, "three_phase": True, "base_momentum": [0.8, 0.7], "max_momentum": [0.9, 0.95]},
    ),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 24, "pct_start": 0.4, "three_phase": True, "anneal_strategy": "linear"}),
    ("MultiplicativeLR", {"lr_lambda": lambda t: 0.9 if t % 2 else 0.8}),
    ("MultiplicativeLR", {"lr_lambda": [lambda t: 0.95, lambda t: t / (1 + t)]}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 4}),
    (
        "CyclicLR",
        {"base_lr": [0.01, 0.02], "max_lr": [0.1, 0.3], "step_size_up": 2, "step_size_down": 5, "mode": "triangular2"},
    ),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3, "mode": "exp_range", "gamma": 0.97, "base_momentum": 0.6}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3, "scale_fn": lambda c: 1 / c, "cycle_momentum": False}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3, "scale_fn": lambda t: 0.9**t, "scale_mode": "iterations"}),
]


@pytest.mark.parametrize("name, kwargs", SCHEDULES)
def test_schedule_is_pytorchs(name, kwargs):
    torch = pytest.importorskip("torch")
    mine = ours(momentum=0.9)
    theirs = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.ones(1))], "lr": lr} for lr in (0.1, 0.02)], momentum=0.9)
    scheduler, expected = getattr(schedules, name)(mine, **kwargs), getattr(torch.optim.lr_scheduler, name)(theirs, **kwargs)
    for t in range(24):
        assert rates(mine) == pytest.approx([g["lr"] for g in theirs.param_groups], rel=1e-9, abs=1e-15), t
        assert scheduler.get_last_lr() == rates(mine)
        assert [g["momentum"] for g in mine.param_groups] == pytest.approx(
            [g["momentum"] for g in theirs.param_groups], rel=1e-12
        )
        theirs.step()
        if t < 23:
            scheduler.step(), expected.step()


@pytest.mark.parametrize("name, kwargs", [s for s in SCHEDULES if s[0] not in ("OneCycleLR", "MultiplicativeLR")])
def test_closed_form_agrees_with_stepping(name, kwargs):
    stepped, jumped = ours(), ours()
    a, b = getattr(schedules, name)(stepped, **kwargs), getattr(schedules, name)(jumped, **kwargs)
    for t in range(1, 20):
        a.step()
        b.step(t)
        assert rates(jumped) == pytest.approx(rates(stepped), rel=1e-9, abs=1e-15)


def test_inverse_time_and_warmup_follow_their_formulas():
    optimizer = ours()
    for t, (first, second) in enumerate(trace(optimizer, schedules.InverseTimeLR(optimizer, 0.5))):
        assert (first, second) == pytest.approx((0.1 / (1 + 0.5 * t), 0.02 / (1 + 0.5 * t)), rel=1e-12)
    for steps in (1, 2, 5):
        optimizer = ours()
        for t, (first, _) in enumerate(trace(optimizer, schedules.WarmupLR(optimizer, steps), 8)):
            assert first == pytest.approx(0.1 * min(1, (t + 1) / steps), rel=1e-12)


@pytest.mark.parametrize("kwargs", [
    {"patience": 1}, {"patience": 0, "factor": 0.5, "cooldown": 2},
    {"mode": "max", "patience": 1, "threshold": 0.3, "threshold_mode": "abs"},
    {"patience": 0, "min_lr": [0.01, 0.001]}, {"mode": "max", "patience": 2, "eps": 0.005},
])  # fmt: skip
def test_plateau_is_pytorchs(kwargs):
    torch = pytest.importorskip("torch")
    mine, theirs = ours(), torch.optim.SGD([{"params": [torch.nn.Parameter(torch.ones(1))], "lr": lr} for lr in (0.1, 0.02)])
    scheduler, expected = (
        schedules.ReduceLROnPlateau(mine, **kwargs),
        torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **kwargs),
    )
    for metric in (1.0, 0.9, 0.95, 0.93, 0.91, 0.5, 0.5, 0.5, 0.6, 0.49999, 0.7, 2.0, 2.0, 2.0, float("nan"), 0.1, 0.1):
        scheduler.step(tg.tensor(metric, dtype=tg.float64)), expected.step(metric)
        assert rates(mine) == pytest.approx([g["lr"] for g in theirs.param_groups], rel=1e-12)
        assert scheduler.num_bad_epochs == expected.num_bad_epochs


def chain(module, optimizer):
    return module.ChainedScheduler([module.LinearLR(optimizer, 0.1, total_iters=4), module.ExponentialLR(optimizer, 0.9)])


def sequence(module, optimizer):
    parts = [
        module.LinearLR(optimizer, 0.1, total_iters=4),
        module.CosineAnnealingLR(optimizer, 8),
        module.ExponentialLR(optimizer, 0.8),
    ]
    return module.SequentialLR(optimizer, parts, milestones=[4, 12])


@pytest.mark.parametrize("combine", [chain, sequence])
def test_combined_schedules_are_pytorchs(combine):
    torch = pytest.importorskip("torch")
    mine, theirs = ours(), torch.optim.SGD([{"params": [torch.nn.Parameter(torch.ones(1))], "lr": lr} for lr in (0.1, 0.02)])
    scheduler, expected = combine(schedules, mine), combine(torch.optim.lr_scheduler, theirs)
    for t in range(20):
        assert rates(mine) == pytest.approx([g["lr"] for g in theirs.param_groups], rel=1e-9), t
        assert scheduler.get_last_lr() == pytest.approx(rates(mine))
        theirs.step()
        scheduler.step(), expected.step()


@pytest.mark.parametrize("make", [
    *[lambda o, n=n, k=k: getattr(schedules, n)(o, **k) for n, k in SCHEDULES],
    lambda o: schedules.InverseTimeLR(o, 0.5), lambda o: schedules.WarmupLR(o, 5),
    lambda o: chain(schedules, o), lambda o: sequence(schedules, o),
])  # fmt: skip
def test_a_saved_schedule_continues_exactly(make):
    optimizer = ours(momentum=0.9)
    scheduler = make(optimizer)
    for _ in range(6):
        scheduler.step()
    state = json.loads(json.dumps(scheduler.state_dict()))
    groups = json.loads(json.dumps(optimizer.state_dict()["param_groups"]))
    later = trace(optimizer, scheduler, 12)
    other = ours(momentum=0.9)
    resumed = make(other)
    other.load_state_dict({"state": {}, "param_groups": groups})
    resumed.load_state_dict(state)
    assert resumed.get_last_lr() == rates(other)
    assert trace(other, resumed, 12) == later


def test_a_saved_plateau_continues_exactly():
    optimizer = ours()
    scheduler = schedules.ReduceLROnPlateau(optimizer, patience=1)
    for metric in (1.0, 1.0):
        scheduler.step(metric)
    resumed = schedules.ReduceLROnPlateau(ours())
    resumed.load_state_dict(scheduler.state_dict())
    scheduler.step(1.0), resumed.step(1.0)
    assert rates(resumed.optimizer) == rates(optimizer) == pytest.approx([0.01, 0.002])


def test_a_rate_changed_by_hand_is_kept_in_the_chain():
    optimizer = ours((0.1,))
    scheduler = schedules.ExponentialLR(optimizer, 0.5)
    optimizer.param_groups[0]["lr"] = 4.0
    scheduler.step()
    assert rates(optimizer) == [2.0]


def test_resuming_by_last_epoch_needs_the_initial_rate():
    optimizer = ours((0.1,))
    with pytest.raises(KeyError, match="initial_lr"):
        schedules.StepLR(optimizer, 3, last_epoch=5)
    schedules.StepLR(optimizer, 3)
    assert schedules.StepLR(optimizer, 3, last_epoch=5).last_epoch == 6


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda o: schedules.StepLR("sgd", 3), TypeError, "expected an Optimizer, got str"),
        (lambda o: schedules.StepLR(o, 0), ValueError, "step_size"),
        (lambda o: schedules.LambdaLR(o, [math.exp]), ValueError, "expected 2 functions"),
        (lambda o: schedules.LinearLR(o, start_factor=0), ValueError, "start_factor"),
        (lambda o: schedules.LinearLR(o, end_factor=2), ValueError, "end_factor"),
        (lambda o: schedules.WarmupLR(o, 0), ValueError, "warmup_steps"),
        (lambda o: schedules.ConstantLR(o, 2), ValueError, "factor"),
        (lambda o: schedules.InverseTimeLR(o, -1), ValueError, "decay"),
        (lambda o: schedules.CosineAnnealingLR(o, 0), ValueError, "T_max"),
        (lambda o: schedules.CosineAnnealingWarmRestarts(o, 3, 0), ValueError, "T_mult"),
        (lambda o: schedules.OneCycleLR(o, 0.1), ValueError, "total_steps"),
        (lambda o: schedules.OneCycleLR(o, 0.1, 10, anneal_strategy="step"), ValueError, "anneal_strategy"),
        (lambda o: schedules.OneCycleLR(o, [0.1], 10), ValueError, "expected 2 values"),
        (lambda o: schedules.OneCycleLR(optim.Adagrad([nn.Parameter(tg.ones(1))]), 0.1, 10), ValueError, "cycle_momentum"),
        (lambda o: schedules.ReduceLROnPlateau(o, factor=1), ValueError, "factor"),
        (lambda o: schedules.ReduceLROnPlateau(o, mode="least"), ValueError, "mode"),
        (lambda o: schedules.ReduceLROnPlateau(o, min_lr=[0]), ValueError, "min_lr"),
        (lambda o: schedules.ChainedScheduler([]), ValueError, "at least one"),
        (
            lambda o: schedules.ChainedScheduler([schedules.StepLR(o, 1), schedules.StepLR(ours(), 1)]),
            ValueError,
            "another optimizer",
        ),
        (lambda o: schedules.SequentialLR(o, [schedules.StepLR(o, 1)], [3]), ValueError, "0 milestones"),
        (
            lambda o: schedules.SequentialLR(o, [schedules.StepLR(o, 1), schedules.ReduceLROnPlateau(o)], [3]),
            ValueError,
            "metric",
        ),
        (lambda o: schedules.StepLR(o, 1).load_state_dict({"T_max": 3}), ValueError, "unknown entries"),
    ],
)
def test_wrong_settings_raise_by_name(make, error, words):
    with pytest.raises(error, match=words):
        make(ours())


def test_one_cycle_ends():
    optimizer = ours((0.1,), momentum=0.9)
    scheduler = schedules.OneCycleLR(optimizer, 0.1, total_steps=3)
    for _ in range(3):
        scheduler.step()
    with pytest.raises(ValueError, match="schedule of 3 steps"):
        scheduler.step()


def test_one_cycle_moves_beta1_of_adam():
    optimizer = optim.Adam([nn.Parameter(tg.ones(1))], betas=(0.9, 0.99))
    schedules.OneCycleLR(optimizer, 0.1, total_steps=10)
    assert optimizer.param_groups[0]["betas"] == (pytest.approx(0.95), 0.99)


def test_cycles_move_beta1_and_refuse_what_makes_no_sense():
    optimizer = optim.Adam([nn.Parameter(tg.ones(1))])
    scheduler = schedules.CyclicLR(optimizer, 0.1, 0.5, step_size_up=2, base_momentum=0.8, max_momentum=0.9)
    assert [optimizer.param_groups[0]["betas"][0] for _ in range(5) if scheduler.step() is None] == pytest.approx(
        [0.85, 0.8, 0.85, 0.9, 0.85]
    )
    for options, message in [
        ({"mode": "square"}, "'triangular', 'triangular2' or 'exp_range'"),
        ({"scale_mode": "turn"}, "'cycle' or 'iterations'"),
        ({"step_size_up": 0}, "step sizes must be positive"),
        ({"base_momentum": [0.1, 0.2]}, "base_momentum: expected 1 values"),
    ]:
        with pytest.raises(ValueError, match=message):
            schedules.CyclicLR(optimizer, 0.1, 0.5, **options)
    with pytest.raises(ValueError, match="cycle_momentum needs"):
        schedules.CyclicLR(optim.Adagrad([nn.Parameter(tg.ones(1))]), 0.1, 0.5)
    with pytest.raises(ValueError, match="expected 1 functions"):
        schedules.MultiplicativeLR(optimizer, [abs, abs])
