"""Optimizers: PyTorch's trajectories, groups, state, the flat block of memory, warnings and errors; penalties."""

import copy
import json
import warnings

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import nn, optim

SHAPES = [(3, 4), (5,), (2, 2, 3), (), (64, 80)]  # with the last, more than 4096 elements: the kernels serve
CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("Adam", {"lr": 0.1, "amsgrad": True}),
    ("AdamW", {"lr": 0.1}),
    ("AdamW", {"lr": 0.1, "amsgrad": True, "weight_decay": 0.3}),
    ("Adagrad", {}),
    (
        "Adagrad",
        {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3, "maximize": True},
    ),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.1, "alpha": 0.8, "eps": 1e-3, "weight_decay": 0.1, "momentum": 0.9}),
    ("RMSprop", {"centered": True, "maximize": True}),
    ("RMSprop", {"centered": True, "momentum": 0.5}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
]


def values(shapes=SHAPES, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s) for s in shapes]


def parameters(arrays, dtype=tg.float64):
    return [nn.Parameter(tg.tensor(a, dtype=dtype)) for a in arrays]


def set_gradients(params, seed, skip=()):
    rng = np.random.default_rng(seed)
    for i, p in enumerate(params):
        g = rng.standard_normal(p.shape)
        p.grad = None if i in skip else tg.tensor(g, dtype=p.dtype)


def snapshot(params):
    return [p.detach().numpy().copy() for p in params]


def same(a, b, rtol=1e-10):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-13)


# Against PyTorch ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skipping", [False, True], ids=["all", "some without gradient"])
@pytest.mark.parametrize("shapes", [SHAPES, SHAPES[:4]], ids=["kernel", "numpy"])
@pytest.mark.parametrize("name, kwargs", CASES)
def test_trajectory_is_pytorchs(name, kwargs, shapes, skipping):
    torch = pytest.importorskip("torch")
    arrays = values(shapes)
    theirs, ours = [torch.nn.Parameter(torch.tensor(a)) for a in arrays], parameters(arrays)
    expected, optimizer = getattr(torch.optim, name)(theirs, **kwargs), getattr(optim, name)(ours, **kwargs)
    for step in range(25):
        skip = (step % 3,) if skipping and step % 4 == 1 else ()
        set_gradients(ours, step, skip)
        for a, b in zip(theirs, ours, strict=True):
            a.grad = None if b.grad is None else torch.tensor(b.grad.numpy().copy())
        expected.step()
        optimizer.step()
    same(snapshot(ours), [p.detach().numpy() for p in theirs])


def test_groups_have_their_own_settings_which_can_change():
    torch = pytest.importorskip("torch")
    arrays = values()
    theirs, ours = [torch.nn.Parameter(torch.tensor(a)) for a in arrays], parameters(arrays)
    made = []
    for library, params in ((torch.optim, theirs), (optim, ours)):
        optimizer = library.SGD([{"params": params[:2], "lr": 0.5}, {"params": params[2:4]}], lr=0.1, momentum=0.5)
        optimizer.add_param_group({"params": params[4], "weight_decay": 0.2})
        made.append(optimizer)
    for step in range(6):
        set_gradients(ours, step)
        for a, b in zip(theirs, ours, strict=True):
            a.grad = torch.tensor(b.grad.numpy())
        for optimizer in made:
            if step == 3:
                optimizer.param_groups[1]["lr"] = 0.01
                optimizer.param_groups[0]["momentum"] = 0.0
            optimizer.step()
    same(snapshot(ours), [p.detach().numpy() for p in theirs])


def test_float32_follows_float64_closely():
    arrays = values()
    for name, kwargs in CASES:
        single, double = parameters(arrays, tg.float32), parameters(arrays)
        for params in (single, double):
            optimizer = getattr(optim, name)(params, **kwargs)
            for step in range(5):
                set_gradients(params, step)
                optimizer.step()
        assert all(p.dtype == tg.float32 for p in single)
        for a, b in zip(snapshot(single), snapshot(double), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5, err_msg=name)


def test_kernels_and_numpy_give_one_answer():
    arrays = values()
    for name, kwargs in CASES:
        results = []
        for disabled in (False, True):
            params = parameters(arrays, tg.float32)
            optimizer = getattr(optim, name)(params, **kwargs)

            def run(params=params, optimizer=optimizer):
                for step in range(4):
                    set_gradients(params, step)
                    optimizer.step()

            if disabled:
                with tg.kernels.disabled():
                    run()
            else:
                run()
            results.append(snapshot(params))
        for a, b in zip(*results, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=name)


def test_every_optimizer_finds_the_minimum_of_a_bowl():
    for name, kwargs in [("SGD", {"lr": 0.1}), ("Adam", {"lr": 0.1}), ("AdamW", {"lr": 0.1, "weight_decay": 0}), ("Adagrad", {"lr": 1.0}),
                         ("RMSprop", {"lr": 0.02}), ("Adadelta", {"lr": 20.0})]:  # fmt: skip
        p = nn.Parameter(tg.tensor([3.0, -2.0]))
        optimizer = getattr(optim, name)([p], **kwargs)
        for _ in range(300):
            optimizer.zero_grad()
            ((p - tg.tensor([1.0, 2.0])) ** 2 * tg.tensor([1.0, 3.0])).sum().backward()
            optimizer.step()
        np.testing.assert_allclose(p.detach().numpy(), [1, 2], atol=0.05, err_msg=name)


# The flat block of memory -----------------------------------------------------------------------------------------------


def flat(optimizer):
    return [p for plan in optimizer._plans.values() if plan is not None for p in plan.parameters]


@pytest.mark.parametrize("name, kwargs", CASES)
def test_the_block_changes_no_bit(name, kwargs):
    """Parameters that cannot be moved, because somebody holds their memory, get bit for bit the same updates."""
    arrays = values()
    moved, held = parameters(arrays, tg.float32), parameters(arrays, tg.float32)
    views = [p.detach() for p in held]
    for params in (moved, held):
        optimizer = getattr(optim, name)(params, **kwargs)
        for step in range(6):
            set_gradients(params, step, skip=(1,) if step == 3 else ())
            optimizer.step()
        assert len(flat(optimizer)) == (5 if params is moved else 0)
    for a, b in zip(snapshot(moved), snapshot(held), strict=True):
        np.testing.assert_array_equal(a, b)
    for p, view in zip(held, views, strict=True):
        assert view.data_ptr() == p.data_ptr()


def test_memory_that_others_see_stays_where_it_is():
    array = np.ones((2, 2), np.float32)
    shared = nn.Parameter(tg.from_numpy(array))
    viewed, tied, free1, free2 = (nn.Parameter(tg.ones(2, 2)) for _ in range(4))
    view, twin = viewed[0], nn.Parameter(tied.data)
    numpy_view = free1.detach().numpy()[0]
    params = [shared, viewed, tied, twin, free1, free2, nn.Parameter(tg.ones(3))]
    optimizer = optim.SGD(params, lr=0.5)
    for p in params:
        p.grad = tg.ones(p.shape)
    optimizer.step()
    assert {id(p) for p in flat(optimizer)} == {id(p) for p in params[-2:]}
    assert array.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert view.tolist() == [0.5, 0.5]
    assert tied.tolist() == twin.tolist() == [[0, 0], [0, 0]]  # one memory, updated for each of the two
    assert numpy_view.tolist() == [0.5, 0.5] and free2.tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_replacing_values_memory_dtype_or_state_between_steps_is_safe():
    def replaced(p, i, step):
        with tg.no_grad():
            if step == 2 and i == 0:
                p.data = tg.tensor(p.detach().numpy() * 2)
            elif step == 3:
                p.mul_(0.5)
            elif step == 4 and i in (1, 2):
                p.requires_grad_(not p.requires_grad)

    arrays = values()
    for name, kwargs in CASES:
        moved, held = parameters(arrays, tg.float32), parameters(arrays, tg.float32)
        keep = [p.detach() for p in held]
        for params in (moved, held):
            optimizer = getattr(optim, name)(params, **kwargs)
            for step in range(7):
                set_gradients(params, step)
                optimizer.step()
                for i, p in enumerate(params):
                    replaced(p, i, step)
                if step == 5:
                    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
                if step == 6:
                    optimizer.state.clear()
        assert len(keep) == 5
        same(snapshot(moved), snapshot(held), rtol=1e-6)


def test_a_module_keeps_working_after_its_parameters_moved():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    x = tg.ones(2, 3)

    def step():
        optimizer.zero_grad()
        net(x).sum().backward()
        optimizer.step()

    step()
    assert len(flat(optimizer)) == 4
    twin = copy.deepcopy(net)
    state = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    step()
    for (key, value), before in zip(net.state_dict().items(), state.values(), strict=True):
        assert not np.array_equal(value.numpy(), before), key
        np.testing.assert_array_equal(twin.state_dict()[key].numpy(), before)
    net.load_state_dict(state)
    np.testing.assert_array_equal(net(x).detach().numpy(), twin(x).detach().numpy())
    net.double()
    x = x.double()
    step()
    assert net[0].weight.dtype == tg.float64 and optimizer.state[net[0].weight]["exp_avg"].dtype == tg.float64


def test_two_optimizers_can_share_parameters():
    arrays = values()
    together, alone = parameters(arrays), parameters(arrays)
    first, second = optim.SGD(together, lr=0.1), optim.SGD(together, lr=0.01)
    plain = optim.SGD(alone, lr=0.11)
    for step in range(3):
        for params in (together, alone):
            set_gradients(params, step)
        first.step(), second.step(), plain.step()
    same(snapshot(together), snapshot(alone))


def test_strided_parameters_and_gradients_are_updated():
    p = nn.Parameter(tg.tensor(np.arange(6.0).reshape(2, 3)).T)
    q = nn.Parameter(tg.ones(3, dtype=tg.float64))
    optimizer = optim.SGD([p, q], lr=1.0, momentum=0.5)
    for _ in range(2):
        p.grad = tg.ones(1, 1, dtype=tg.float64).expand(3, 2)
        q.grad = tg.tensor(np.arange(6.0))[::2]
        optimizer.step()
    np.testing.assert_array_equal(p.detach().numpy(), np.arange(6.0).reshape(2, 3).T - 2.5)
    np.testing.assert_array_equal(q.detach().numpy(), 1 - 2.5 * np.arange(6.0)[::2])
    assert p.grad.tolist() == [[1, 1]] * 3


def test_a_step_leaves_gradients_alone():
    params = parameters(values(), tg.float32)
    for name, kwargs in CASES:
        optimizer = getattr(optim, name)(params, **kwargs)
        set_gradients(params, 1)
        before = [p.grad.numpy().copy() for p in params]
        optimizer.step()
        for p, g in zip(params, before, strict=True):
            np.testing.assert_array_equal(p.grad.numpy(), g)


def test_a_graph_that_saved_the_old_parameters_raises():
    layer = nn.Linear(2, 2)
    optimizer = optim.SGD(layer.parameters(), lr=0.1)
    x = tg.ones(1, 2, requires_grad=True)
    stale = layer(x).sum()
    layer(x).sum().backward()
    optimizer.step()
    with pytest.raises(RuntimeError, match="in-place write"):
        stale.backward()


# Closures, gradients, warnings ---------------------------------------------------------------------------------------------


def test_a_closure_is_evaluated_with_gradients_recorded():
    p = nn.Parameter(tg.tensor([4.0]))
    optimizer = optim.SGD([p], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with tg.no_grad():
        assert optimizer.step(closure).item() == 16
    assert p.item() == 2 and optimizer.step() is None


def test_zero_grad_drops_or_fills():
    p = nn.Parameter(tg.ones(2))
    optimizer = optim.SGD([p])
    p.grad = kept = tg.ones(2)
    optimizer.zero_grad(set_to_none=False)
    assert p.grad is kept and kept.tolist() == [0, 0]
    optimizer.zero_grad()
    assert p.grad is None


def test_a_group_without_any_gradient_warns_once_and_names_parameters():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    optimizer = optim.SGD([{"params": net[0].parameters()}, {"params": net[1].parameters()}])
    net[0](tg.ones(1, 2)).sum().backward()
    with pytest.warns(
        RuntimeWarning, match=r"no parameter of group 1 has a gradient.*1\.weight of shape \(1, 3\), parameter 1\.bias"
    ):
        optimizer.step()
    optimizer.step()  # said once
    net[1].requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fresh = optim.SGD([{"params": net[0].parameters()}, {"params": net[1].parameters()}])
        fresh.step()  # a frozen group is no mistake


def test_names_given_with_the_parameters_are_used():
    optimizer = optim.SGD([("encoder.w", nn.Parameter(tg.ones(2)))])
    assert optimizer.param_groups[0]["param_names"] == ["encoder.w"]
    with pytest.warns(RuntimeWarning, match="parameter encoder.w of shape"):
        optimizer.step()


def test_a_wrong_gradient_raises_before_anything_is_written():
    a, b = nn.Parameter(tg.ones(2)), nn.Parameter(tg.ones(3))
    optimizer = optim.SGD([a, b], lr=1.0)
    a.grad, b._grad = tg.ones(2), tg.ones(3, dtype=tg.float64)  # .grad = would refuse it
    with pytest.raises(RuntimeError, match=r"parameter 1 of shape \(3,\) \(float32\) has a gradient of shape \(3,\), float64"):
        optimizer.step()
    assert a.tolist() == [1, 1]


@pytest.mark.parametrize("name, kwargs, setting", [
    ("SGD", {"lr": -1}, "lr"), ("SGD", {"momentum": -0.1}, "momentum"), ("SGD", {"weight_decay": -1}, "weight_decay"),
    ("SGD", {"nesterov": True}, "nesterov"), ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov"),
    ("Adam", {"betas": (1.0, 0.9)}, "betas"), ("Adam", {"eps": -1}, "eps"), ("AdamW", {"betas": (0.9, -0.1)}, "betas"),
    ("Adagrad", {"lr_decay": -1}, "lr_decay"), ("Adagrad", {"initial_accumulator_value": -1}, "initial_accumulator_value"),
    ("RMSprop", {"alpha": -1}, "alpha"), ("RMSprop", {"momentum": -1}, "momentum"), ("Adadelta", {"rho": 1.5}, "rho"),
])  # fmt: skip
def test_invalid_settings_raise_by_name(name, kwargs, setting):
    with pytest.raises(ValueError, match=f"{name}: .*{setting}" if setting != "nesterov" else "nesterov needs momentum"):
        getattr(optim, name)([nn.Parameter(tg.ones(1))], **kwargs)
    with pytest.raises(ValueError, match=setting):
        getattr(optim, name)([{"params": [nn.Parameter(tg.ones(1))], **kwargs}])


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda p: optim.SGD([]), ValueError, "empty parameter list"),
        (lambda p: optim.SGD(p), TypeError, "put it in a list"),
        (lambda p: optim.SGD([p, p]), ValueError, "listed twice"),
        (lambda p: optim.SGD([{"params": [p]}, {"params": p}]), ValueError, "listed twice"),
        (lambda p: optim.SGD([p * 2]), ValueError, "only leaves"),
        (lambda p: optim.SGD([1.0]), TypeError, "parameter 0 is a float"),
        (lambda p: optim.SGD([tg.tensor([1])]), TypeError, "int64"),
        (lambda p: optim.SGD([{"params": {p}}]), TypeError, "must have an order"),
        (lambda p: optim.SGD([{"parameters": [p]}]), TypeError, "'params'"),
        (lambda p: optim.SGD([{"params": [p], "beta": 3}]), ValueError, r"unknown settings \['beta'\]"),
    ],
)
def test_wrong_parameters_raise(make, error, words):
    with pytest.raises(error, match=words):
        make(nn.Parameter(tg.ones(1)))


# State ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, kwargs", CASES)
def test_a_saved_optimizer_continues_bit_for_bit(name, kwargs):
    params = parameters(values(), tg.float32)
    optimizer = getattr(optim, name)(params, **kwargs)
    for step in range(3):
        set_gradients(params, step)
        optimizer.step()
    state = optimizer.state_dict()
    groups = json.loads(json.dumps(state["param_groups"]))  # settings travel as JSON
    arrays = {
        i: {k: v.numpy().copy() if isinstance(v, tg.Tensor) else v for k, v in s.items()} for i, s in state["state"].items()
    }
    twins = parameters(snapshot(params), tg.float32)
    resumed = getattr(optim, name)(twins)
    resumed.load_state_dict({"state": arrays, "param_groups": groups})
    assert resumed.param_groups[0].keys() == optimizer.param_groups[0].keys()
    for step in range(3, 7):
        for each, chosen in ((params, optimizer), (twins, resumed)):
            set_gradients(each, step)
            chosen.step()
    for a, b in zip(snapshot(params), snapshot(twins), strict=True):
        np.testing.assert_array_equal(a, b)


def test_state_is_keyed_by_number_and_named_as_in_pytorch():
    torch = pytest.importorskip("torch")
    for name, kwargs in CASES:
        ours, theirs = nn.Parameter(tg.ones(2)), torch.nn.Parameter(torch.ones(2))
        ours.grad, theirs.grad = tg.ones(2), torch.ones(2)
        made = getattr(optim, name)([ours], **kwargs), getattr(torch.optim, name)([theirs], **kwargs)
        for optimizer in made:
            optimizer.step()
        state, expected = (optimizer.state_dict() for optimizer in made)
        empty = {k for k, v in expected["state"].get(0, {}).items() if v is None}
        assert set(state["state"].get(0, {})) == set(expected["state"].get(0, {})) - empty, name
        assert state["param_groups"][0]["params"] == [0]
        assert set(state["param_groups"][0]) <= set(expected["param_groups"][0]), name


@pytest.mark.parametrize("spoil, words", [
    (lambda s: s["param_groups"].append({"params": []}), r"groups of \[2, 0\] parameters.*groups of \[2\]"),
    (lambda s: s["param_groups"][0]["params"].pop(), r"groups of \[1\]"),
    (lambda s: s["state"][1].update(exp_avg=tg.ones(7)), r"exp_avg of parameter 1 has shape \(7,\), the parameter \(3,\)"),
    (lambda s: s["state"].update({9: {}}), "parameter 9"),
    (lambda s: s["param_groups"][0].pop("betas"), "no betas"),
    (lambda s: s["param_groups"][0].update(lr=-1.0), "invalid lr"),
])  # fmt: skip
def test_a_state_that_does_not_fit_raises_and_changes_nothing(spoil, words):
    params = parameters([np.ones(2), np.ones(3)])
    optimizer = optim.Adam(params)
    set_gradients(params, 0)
    optimizer.step()
    before = optimizer.state_dict()
    spoilt = copy.deepcopy(before)
    spoil(spoilt)
    with pytest.raises(ValueError, match=words):
        optimizer.load_state_dict(spoilt)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert all(after["state"][i][k] is v for i, s in before["state"].items() for k, v in s.items() if isinstance(v, tg.Tensor))


def test_repr_lists_groups_and_settings():
    text = repr(optim.SGD([nn.Parameter(tg.ones(1))], lr=0.5))
    assert text.startswith("SGD (\nParameter Group 0\n") and "    lr: 0.5" in text


# Penalties --------------------------------------------------------------------------------------------------------------------


def test_penalties_are_differentiable_sums():
    w, v = nn.Parameter(tg.tensor([1.0, -2.0, 0.0])), nn.Parameter(tg.tensor([[3.0]]))
    assert optim.l1_penalty([w, v], 0.5).item() == 3
    assert optim.l2_penalty([w, v], 0.5).item() == 7
    assert optim.elastic_net_penalty(iter([w, v]), 0.5, 2.0).item() == 3 + 28
    assert optim.l2_penalty(w).item() == 5 and optim.l1_penalty([]).item() == 0
    optim.elastic_net_penalty([w, v], 0.5, 2.0).backward()
    assert w.grad.tolist() == [4.5, -8.5, 0] and v.grad.tolist() == [[12.5]]
    with pytest.raises(TypeError, match="parameter 0 is a str"):
        optim.l1_penalty(["w"])


def test_l2_penalty_is_sgds_weight_decay_twice():
    a, b = nn.Parameter(tg.tensor([2.0])), nn.Parameter(tg.tensor([2.0]))
    first, second = optim.SGD([a], lr=0.1, weight_decay=0.2), optim.SGD([b], lr=0.1)
    a.grad = tg.zeros(1)
    optim.l2_penalty(b, 0.1).backward()
    first.step(), second.step()
    assert a.item() == pytest.approx(b.item())


OPTIMIZERS = ("SGD", "Adam", "AdamW", "Adagrad", "RMSprop", "Adadelta")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_arguments_are_pytorchs_by_name_order_and_default(name):
    import inspect

    torch = pytest.importorskip("torch")
    ours, theirs = (inspect.signature(getattr(m, name)).parameters for m in (optim, torch.optim))
    assert [(p.name, p.kind, p.default) for p in ours.values()] == [(p.name, p.kind, p.default) for p in theirs.values()]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_choices_of_implementation_change_nothing_or_are_refused(name):
    import inspect

    make = getattr(optim, name)
    known = [flag for flag in ("foreach", "fused") if flag in inspect.signature(make).parameters]
    results = []
    for flags in ({}, *({flag: value} for flag in known for value in (True, False))):
        params = parameters(values())
        optimizer = make(params, **flags)
        set_gradients(params, 1)
        optimizer.step()
        results.append(snapshot(params))
        assert not set(known) & set(optimizer.param_groups[0])
    assert all(np.array_equal(x, y) for other in results[1:] for x, y in zip(results[0], other, strict=True))
    with pytest.raises(ValueError, match=f"{name}: differentiable=True is not supported: .*create_graph=True"):
        make(parameters(values()), differentiable=True)
    if "capturable" in inspect.signature(make).parameters:
        with pytest.raises(ValueError, match=f"{name}: capturable=True is not supported: .*CUDA graphs"):
            make(parameters(values()), capturable=True)
    if "fused" in known:
        with pytest.raises(RuntimeError, match="fused and foreach cannot both be True"):
            make(parameters(values()), foreach=True, fused=True)


def test_choices_of_implementation_may_stand_in_a_group():
    first, second = parameters([np.ones(2), np.ones(2)])
    optimizer = optim.SGD([{"params": [first], "foreach": True}, {"params": [second], "fused": None, "lr": 0.5}])
    assert "foreach" not in optimizer.param_groups[0] and optimizer.param_groups[1]["lr"] == 0.5
    with pytest.raises(ValueError, match="differentiable=True is not supported"):
        optimizer.add_param_group({"params": parameters([np.ones(2)]), "differentiable": True})


def test_adam_with_decoupled_decay_is_adamw():
    a, b = parameters(values()), parameters(values())
    first, second = optim.Adam(a, weight_decay=0.1, decoupled_weight_decay=True), optim.AdamW(b, weight_decay=0.1)
    for seed in range(3):
        set_gradients(a, seed)
        set_gradients(b, seed)
        first.step()
        second.step()
    assert all(np.array_equal(x, y) for x, y in zip(snapshot(a), snapshot(b), strict=True))


def test_step_hooks_run_around_the_step_as_in_pytorch():
    torch = pytest.importorskip("torch")
    logs = []
    for module, leaf in ((tg, nn.Parameter(tg.ones(1))), (torch, torch.nn.Parameter(torch.ones(1)))):
        optimizer, log = module.optim.SGD([leaf], lr=0.5), []

        def before(opt, args, kwargs, leaf=leaf, log=log):
            log.append(("before", leaf.item(), args[0] is opt, len(args), kwargs))

        def after(opt, args, kwargs, leaf=leaf, log=log):
            log.append(("after", leaf.item(), args[0] is opt, len(args), kwargs))

        def replace(opt, args, kwargs, log=log):
            return (opt, lambda: log.append("closure")), {}

        first, second = optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)
        leaf.grad = module.ones(1)
        optimizer.step()
        first.remove()
        third = optimizer.register_step_pre_hook(replace)
        optimizer.step()
        third.remove(), second.remove()
        optimizer.step()
        optimizer.register_step_pre_hook(lambda *_: 3)
        with pytest.raises(RuntimeError, match="must return None or a tuple"):
            optimizer.step()
        logs.append([*log, leaf.item()])
    assert logs[0] == logs[1] and len(logs[0]) == 5
