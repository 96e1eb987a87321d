"""Module: registration, state, modes, hooks, scopes and text; containers; nn.utils."""

import copy
import gc
import pickle
from collections import OrderedDict

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import nn
from tinygrad_cv.nn import functional as F


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):
        return F.relu(self.norm(self.conv(x))) + x


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), Block(4))
        self.head = nn.Linear(4, 3)
        self.scale = nn.Parameter(tg.ones(1))
        self.register_buffer("seen", tg.zeros(1))
        self.register_buffer("scratch", tg.zeros(2), persistent=False)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3))) * self.scale


NAMES = [
    "scale", "features.0.weight", "features.0.bias", "features.1.conv.weight", "features.1.conv.bias", "features.1.norm.weight",
    "features.1.norm.bias", "head.weight", "head.bias",
]  # fmt: skip
BUFFERS = [
    "seen",
    "scratch",
    "features.1.norm.running_mean",
    "features.1.norm.running_var",
    "features.1.norm.num_batches_tracked",
]


# Registration and the tree ----------------------------------------------------------------------------------------------


def test_parameters_buffers_and_modules_are_found_by_dotted_name():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == NAMES
    assert [n for n, _ in net.named_buffers()] == BUFFERS
    assert [n for n, _ in net.named_children()] == ["features", "head"]
    assert [n for n, _ in net.named_modules()] == [
        "",
        "features",
        "features.0",
        "features.1",
        "features.1.conv",
        "features.1.norm",
        "head",
    ]
    assert len(list(net.parameters(recurse=False))) == 1
    assert next(n for n, _ in net.named_parameters(prefix="net")) == "net.scale"
    assert net.get_submodule("features.1.norm") is net.features[1].norm
    assert net.get_submodule("") is net
    assert net.get_parameter("head.weight") is net.head.weight
    assert net.get_buffer("features.1.norm.running_var") is net.features[1].norm.running_var
    with pytest.raises(AttributeError, match=r"'features'.*no child module '7'.*it has 0, 1"):
        net.get_submodule("features.7")
    with pytest.raises(AttributeError, match=r"no parameter 'head\.mass'"):
        net.get_parameter("head.mass")


def test_shared_parts_are_listed_once_but_saved_under_both_names():
    layer = nn.Linear(2, 2)
    pair = nn.Sequential(layer, layer)
    assert len(list(pair.parameters())) == 2
    assert len(list(pair.modules())) == 2
    assert len(list(pair.named_parameters(remove_duplicate=False))) == 4
    assert list(pair.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    tied = nn.Linear(2, 2)
    tied.weight = layer.weight
    assert len(list(nn.ModuleList([layer, tied]).parameters())) == 3


def test_assignment_registers_replaces_and_deletes():
    module = nn.Module()
    module.weight = None
    module.weight = nn.Parameter(tg.zeros(2))
    assert list(module._parameters) == ["weight"] and module.weight is module._parameters["weight"]
    with pytest.raises(TypeError, match=r"weight is a registered parameter.*under no_grad"):
        module.weight = tg.ones(2)
    module.weight = None
    assert list(module.parameters()) == [] and module.weight is None
    module.weight = nn.Linear(1, 1)  # another kind under the name takes the place
    assert list(module._parameters) == [] and list(module._modules) == ["weight"]
    with pytest.raises(TypeError, match="registered module"):
        module.weight = 3
    del module.weight
    assert not hasattr(module, "weight") and list(module.children()) == []
    module.register_buffer("count", tg.zeros(1))
    module.count = tg.ones(1)
    assert module.get_buffer("count").item() == 1
    with pytest.raises(TypeError, match="registered buffer"):
        module.count = 5


@pytest.mark.parametrize(
    "act, error, words",
    [
        (lambda m: m.register_parameter("w", tg.zeros(1)), TypeError, "expected an nn.Parameter or None, got Tensor"),
        (lambda m: m.register_parameter("a.b", None), KeyError, "dot"),
        (lambda m: m.register_parameter("", None), KeyError, "empty"),
        (lambda m: m.register_parameter("forward", None), KeyError, "has an attribute of that name"),
        (lambda m: m.register_buffer("w", [1]), TypeError, "expected a Tensor"),
        (lambda m: m.add_module("w", tg.relu), TypeError, "expected a Module"),
        (lambda m: m.train("yes"), ValueError, "True or False"),
        (lambda m: m.missing, AttributeError, "'Module' object has no attribute 'missing'"),
        (lambda m: m(1), NotImplementedError, "has no forward"),
        (lambda m: m.to(tg.int64), TypeError, "floating dtypes"),
    ],
)
def test_misuse_raises_with_a_reason(act, error, words):
    with pytest.raises(error, match=words):
        act(nn.Module())


@pytest.mark.parametrize(
    "assign",
    [
        lambda s: setattr(s, "layer", nn.Linear(1, 1)),
        lambda s: setattr(s, "w", nn.Parameter(tg.ones(1))),
        lambda s: s.register_buffer("b", tg.ones(1)),
        lambda s: list(s.parameters()),
    ],
)
def test_a_forgotten_super_init_is_named(assign):
    class Forgetful(nn.Module):
        def __init__(self):
            assign(self)

    with pytest.raises(AttributeError, match=r"Forgetful.__init__\(\) must call super\(\).__init__\(\)"):
        Forgetful()


# Parameter --------------------------------------------------------------------------------------------------------------


def test_parameter_is_a_leaf_that_shares_memory_and_its_results_are_plain_tensors():
    source = tg.zeros(3)
    p = nn.Parameter(source)
    assert p.requires_grad and p.is_leaf and isinstance(p, tg.Tensor) and p.data_ptr() == source.data_ptr()
    assert (
        type(p + 1) is tg.Tensor and type(p.detach()) is tg.Tensor and type(p[0]) is tg.Tensor and type(p.clone()) is tg.Tensor
    )
    assert repr(p) == "Parameter([0., 0., 0.], requires_grad=True)"
    assert not nn.Parameter(tg.ones(2), requires_grad=False).requires_grad
    twin = copy.deepcopy(p)
    assert type(twin) is nn.Parameter and twin.requires_grad and twin.data_ptr() != p.data_ptr()
    with pytest.raises(TypeError, match="requires_grad"):
        nn.Parameter(tg.tensor([1, 2]))
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(p)
    result = (p * 2).sum()
    result.backward()
    assert p.grad.tolist() == [2, 2, 2]


def test_parameter_of_a_computed_tensor_starts_a_new_history():
    x = tg.ones(2, requires_grad=True)
    p = nn.Parameter(x * 3)
    assert p.is_leaf and p.tolist() == [3, 3]


def test_parameters_know_their_place():
    net = Net()
    assert net.head.weight.name == "head.weight"
    assert net.features[1].conv.bias.name == "features.1.conv.bias"


# Modes and dtypes -------------------------------------------------------------------------------------------------------


def test_train_and_eval_reach_every_module():
    net = Net()
    assert all(m.training for m in net.modules())
    assert net.eval() is net and not any(m.training for m in net.modules())
    net.features.train()
    assert net.features[1].norm.training and not net.head.training


def test_requires_grad_freezes():
    net = Net()
    net.features.requires_grad_(False)
    net(tg.ones(2, 1, 6, 6)).sum().backward()
    assert net.head.weight.grad is not None and net.features[0].weight.grad is None


def test_zero_grad_drops_or_fills():
    net = Net()
    net(tg.ones(2, 1, 6, 6)).sum().backward()
    kept = net.head.bias.grad
    net.zero_grad(set_to_none=False)
    assert net.head.bias.grad is kept and not kept.any() and net.scale.grad.item() == 0
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_apply_visits_children_first():
    seen = []
    Net().apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Conv2d", "Conv2d", "BatchNorm2d", "Block", "Sequential", "Linear", "Net"]


def test_casting_changes_floats_only_and_keeps_tied_parameters_tied():
    net = Net()
    net.tied = net.head
    net(tg.ones(2, 1, 6, 6)).sum().backward()
    assert net.double() is net
    assert {p.dtype for p in net.parameters()} == {tg.float64} and net.head.weight.grad.dtype == tg.float64
    assert net.features[1].norm.running_mean.dtype == tg.float64 and net.features[1].norm.num_batches_tracked.dtype == tg.int64
    assert net.tied.weight is net.head.weight
    assert net(tg.ones(2, 1, 6, 6, dtype=tg.float64)).dtype == tg.float64
    assert net.to("cpu", tg.float32).head.weight.dtype == tg.float32 and net.half().head.weight.dtype == tg.float16
    with pytest.raises(TypeError, match="unexpected arguments"):
        net.to(colour="red")


# State ------------------------------------------------------------------------------------------------------------------


def test_state_dict_shares_memory_leaves_out_transient_buffers_and_round_trips():
    net, other = Net(), Net()
    state = net.state_dict()
    assert list(state) == [NAMES[0], "seen", *NAMES[1:7], *BUFFERS[2:], *NAMES[7:]]
    assert state["scale"].data_ptr() == net.scale.data_ptr() and not state["scale"].requires_grad
    assert net.state_dict(keep_vars=True)["scale"] is net.scale
    assert next(iter(net.state_dict(prefix="net."))) == "net.scale"
    net(tg.randn(2, 1, 6, 6))
    result = other.load_state_dict(net.state_dict())
    assert result.missing_keys == [] and result.unexpected_keys == []
    for (name, a), b in zip(net.state_dict().items(), other.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=name)
    assert other.features[1].norm.num_batches_tracked.item() == 1
    with tg.no_grad():
        net.scale.fill_(7.0) if hasattr(net.scale, "fill_") else net.scale.mul_(7.0)
    assert other.scale.item() == 1


def test_loading_lists_every_problem_at_once_and_changes_nothing():
    net = Net()
    before = {n: t.numpy().copy() for n, t in net.state_dict().items()}
    state = {n: t.numpy() + 1 for n, t in net.state_dict().items()}
    del state["scale"], state["head.bias"]
    state["head.weight"] = np.zeros((3, 5), np.float32)
    state["features.0.bias"] = "four numbers"
    state["tail.weight"] = np.zeros(1)
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict(state)
    text = str(caught.value)
    assert "does not fit Net; nothing was loaded" in text
    for part in (
        "missing: scale, head.bias",
        "unexpected: tail.weight",
        "head.weight has (3, 5) in the state, (3, 4) in the module",
        "features.0.bias is a str",
    ):
        assert part in text
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])
    with pytest.raises(RuntimeError, match="wrong shape"):  # a wrong shape is no matter of strictness
        net.load_state_dict(state, strict=False)
    with pytest.raises(TypeError, match="expected a dict"):
        net.load_state_dict([1])


def test_loading_without_strict_reports_what_it_skipped():
    net = Net()
    result = net.load_state_dict({"scale": tg.tensor([5.0]), "extra": tg.zeros(1)}, strict=False)
    assert net.scale.item() == 5 and "head.bias" in result.missing_keys and result.unexpected_keys == ["extra"]


def test_loading_converts_dtype_or_assigns():
    layer = nn.Linear(2, 2)
    layer.load_state_dict({"weight": np.ones((2, 2)), "bias": np.zeros(2)})
    assert layer.weight.dtype == tg.float32 and layer.weight.tolist() == [[1, 1], [1, 1]]
    given = tg.ones(2, 2, dtype=tg.float64)
    layer.load_state_dict({"weight": given, "bias": tg.zeros(2, dtype=tg.float64)}, assign=True)
    assert (
        type(layer.weight) is nn.Parameter and layer.weight.dtype == tg.float64 and layer.weight.data_ptr() == given.data_ptr()
    )


def test_loading_makes_a_graph_that_saved_the_old_values_raise():
    layer = nn.Linear(2, 2)
    x = tg.ones(1, 2, requires_grad=True)
    out = layer(x).sum()
    layer.load_state_dict(nn.Linear(2, 2).state_dict())
    with pytest.raises(RuntimeError, match="in-place write"):
        out.backward()


def test_deepcopy_is_independent():
    net = Net()
    twin = copy.deepcopy(net)
    assert [n for n, _ in twin.named_parameters()] == NAMES
    assert twin.head.weight is twin.head._parameters["weight"] is not net.head.weight
    twin.load_state_dict({n: t.numpy() + 1 for n, t in net.state_dict().items()})
    assert twin.scale.item() == 2 and net.scale.item() == 1
    x = tg.ones(2, 1, 6, 6)
    assert not np.array_equal(twin(x).detach().numpy(), net(x).detach().numpy())


# Calls: scopes and hooks ------------------------------------------------------------------------------------------------


def test_operators_record_the_module_they_ran_in():
    class Scopes(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Linear(2, 2))
            self.layers = nn.ModuleList([nn.Linear(2, 2)])
            self.layers.append(nn.ReLU())

        def forward(self, x):
            self.outs = [self.features(x), self.layers[0](x), self.layers[1:][0](x), x * 2]
            return self.outs[-1]

    net = Scopes()
    net(tg.ones(1, 2, requires_grad=True))
    assert [o.grad_fn.scope for o in net.outs] == ["Scopes.features.0", "Scopes.layers.0", "Scopes.layers.1", "Scopes"]
    assert (net.features[0].weight * 2).grad_fn.scope == ""


def test_the_scope_is_restored_after_an_error():
    class Fails(nn.Module):
        def forward(self, x):
            raise KeyError("on purpose")

    with pytest.raises(KeyError, match="on purpose"):
        nn.Sequential(Fails())(tg.ones(1))
    assert (tg.ones(1, requires_grad=True) * 2).grad_fn.scope == ""


def test_forward_hooks_see_and_replace_arguments_and_output():
    layer, log = nn.Linear(2, 2), []
    first = layer.register_forward_pre_hook(lambda m, args: log.append("second") or (args[0] * 2,))
    layer.register_forward_pre_hook(lambda m, args: log.append("first"), prepend=True)
    after = layer.register_forward_hook(lambda m, args, out: log.append(args[0].tolist()) or out * 0)
    assert layer(tg.ones(1, 2)).tolist() == [[0, 0]]
    assert log == ["first", "second", [[2, 2]]]
    first.remove(), after.remove()
    assert layer(tg.ones(1, 2)).tolist() != [[0, 0]] and log[3:] == ["first"]


def test_hooks_with_keyword_arguments():
    class Scaled(nn.Module):
        def forward(self, x, factor=1.0):
            return x * factor

    module, seen = Scaled(), []
    module.register_forward_pre_hook(lambda m, args, kwargs: (args, {"factor": kwargs["factor"] + 1}), with_kwargs=True)
    module.register_forward_hook(lambda m, args, kwargs, out: seen.append(kwargs["factor"]), with_kwargs=True)
    assert module(tg.ones(1), factor=2.0).item() == 3 and seen == [3.0]


def test_an_always_called_hook_runs_after_an_error():
    class Fails(nn.Module):
        def forward(self, x):
            raise KeyError("on purpose")

    module, seen = Fails(), []
    module.register_forward_hook(lambda m, args, out: seen.append(out), always_call=True)
    module.register_forward_hook(lambda m, args, out: seen.append("never"))
    with pytest.raises(KeyError):
        module(tg.ones(1))
    assert seen == [None]


def test_full_backward_hook_sees_all_gradients_at_once_as_in_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x1, x2, w = rng.standard_normal((3, 2)), rng.standard_normal((3, 4)), rng.standard_normal((5, 2, 4))
    found = {}
    for library, layers, make in ((torch, torch.nn, torch.tensor), (tg, nn, tg.tensor)):
        layer = layers.Bilinear(2, 4, 5, bias=False).double()
        layer.load_state_dict({"weight": make(w)})
        a, b = make(x1), make(x2)
        a.requires_grad_(), b.requires_grad_()
        seen = found[library] = []
        layer.register_full_backward_hook(
            lambda m, grad_in, grad_out, seen=seen: seen.append((grad_in, grad_out)) or (grad_in[0] * 2, None)
        )
        (layer(a * 1, b * 1) ** 2).sum().backward()
        seen.append(((a.grad, b.grad), (layer.weight.grad,)))
    for (ours_in, ours_out), (theirs_in, theirs_out) in zip(found[tg], found[torch], strict=True):
        for ours, theirs in zip((*ours_in, *ours_out), (*theirs_in, *theirs_out), strict=True):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-10)


def test_backward_hooks_without_an_input_that_wants_gradients():
    layer, seen = nn.Linear(2, 3), []
    layer.register_full_backward_hook(lambda m, grad_in, grad_out: seen.append((grad_in, grad_out[0].shape)))
    layer.register_full_backward_pre_hook(lambda m, grad_out: (grad_out[0] * 3,))
    layer(tg.ones(1, 2)).sum().backward()
    assert seen == [((None,), (1, 3))] and layer.bias.grad.tolist() == [3, 3, 3]
    layer.register_full_backward_hook(lambda m, grad_in, grad_out: (grad_out[0],))
    with pytest.raises(RuntimeError, match="no input of this call requires grad"):
        layer(tg.ones(1, 2)).sum().backward()


def test_backward_hooks_leave_second_derivatives_and_in_place_layers_right():
    layer = nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True), nn.Linear(2, 1)).double()
    x = tg.randn(3, 2, dtype=tg.float64, requires_grad=True)

    def second():
        (g,) = tg.autograd.grad((layer(x) ** 2).sum(), x, create_graph=True)
        return tg.autograd.grad((g**2).sum(), x)[0].numpy()

    expected = second()
    for module in layer:
        module.register_full_backward_hook(lambda m, grad_in, grad_out: None)
    np.testing.assert_allclose(second(), expected, rtol=1e-12)


def test_hooked_modules_die_without_the_garbage_collector():
    import weakref

    layer = nn.Linear(2, 2)
    layer.register_full_backward_hook(lambda m, grad_in, grad_out: None)
    gc.disable()
    try:
        layer(tg.ones(1, 2, requires_grad=True) * 1).sum().backward()
        watch = weakref.ref(layer)
        del layer
        assert watch() is None
    finally:
        gc.enable()


# Text -------------------------------------------------------------------------------------------------------------------


def test_repr_is_a_readable_tree():
    net = nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 2, 3), rest=nn.Sequential(nn.ReLU(), nn.Dropout(0.1))))
    assert repr(net) == "\n".join([
        "Sequential(",
        "  (conv): Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1))",
        "  (rest): Sequential(",
        "    (0): ReLU()",
        "    (1): Dropout(p=0.1, inplace=False)",
        "  )",
        ")",
    ])  # fmt: skip
    assert repr(nn.Sequential()) == "Sequential()"
    assert "(0): Parameter of shape (2,), float32" in repr(nn.ParameterList([tg.ones(2)]))


# Containers -------------------------------------------------------------------------------------------------------------


def test_sequential_runs_indexes_slices_and_edits():
    a, b, c = nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)
    net = nn.Sequential(a, b, c)
    x = tg.ones(1, 2)
    np.testing.assert_array_equal(net(x).detach().numpy(), c(b(a(x))).detach().numpy())
    assert len(net) == 3 and net[-1] is c and list(net) == [a, b, c]
    assert isinstance(net[:2], nn.Sequential) and list(net[1:]) == [b, c]
    net[1] = nn.Tanh()
    assert isinstance(net[1], nn.Tanh) and list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    del net[1]
    assert list(net) == [a, c] and list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    net.insert(1, b)
    assert list(net) == [a, b, c]
    assert net.append(nn.Sigmoid()) is net and len(net) == 4 and isinstance(net.pop(), nn.Sigmoid) and len(net) == 3
    with pytest.raises(IndexError, match="out of range for 3 modules"):
        net[3]
    named = nn.Sequential({"first": a, "second": c})
    assert named.second is c and [n for n, _ in named.named_children()] == ["first", "second"]
    with pytest.raises(TypeError, match="expected a Module"):
        nn.Sequential(tg.relu)


def test_sequentials_add_up_and_repeat_as_in_pytorch():
    a, b, c = nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)
    first, second = nn.Sequential(a, b), nn.Sequential(OrderedDict(last=c))
    both = first + second
    assert list(both) == [a, b, c] and list(both.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert len(first) == 2 and len(second) == 1
    same = first
    first += second
    assert first is same and list(first) == [a, b, c] and first.extend([nn.Tanh()]) is first and len(first) == 4
    assert list(second * 2) == [c, c] == list(2 * second)
    second *= 3
    assert list(second) == [c, c, c]
    assert list(both.pop(slice(0, 2))) == [a, b] and list(both) == [c] and both.pop(0) is c and len(both) == 0
    del first[1:]
    assert list(first) == [a]
    named = nn.Sequential(OrderedDict(one=a, two=b, three=c))
    del named[0]
    assert [n for n, _ in named.named_children()] == ["0", "1"] and list(named) == [b, c]
    with pytest.raises(ValueError, match="only a Sequential can be added"):
        named + nn.ModuleList([a])
    with pytest.raises(ValueError, match="the factor must be positive"):
        named * 0
    with pytest.raises(TypeError, match="expected an integer"):
        named * 1.5
    with pytest.raises(IndexError, match="out of range"):
        named.insert(5, a)


def test_module_list_and_dict_register():
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    assert len(list(layers.parameters())) == 6 and len(layers[1:]) == 2
    layers += [nn.ReLU()]
    extended = layers + nn.ModuleList([nn.Tanh()])
    assert len(extended) == 5 and len(layers) == 4
    named = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.ReLU()})
    assert "a" in named and list(named) == ["a", "b"] and len(list(named.parameters())) == 2
    named["c"] = nn.Tanh()
    assert isinstance(named.pop("c"), nn.Tanh) and len(named) == 2
    named.update([("d", nn.ReLU())])
    named.clear()
    assert len(named) == 0
    with pytest.raises(KeyError):
        del named["a"]
    with pytest.raises(KeyError, match="has an attribute"):
        named["keys"] = nn.ReLU()


def test_parameter_list_and_dict_register():
    listed = nn.ParameterList([tg.ones(2), nn.Parameter(tg.zeros(3))])
    listed.append(tg.ones(1))
    listed[0] = tg.zeros(4)
    assert [p.shape for p in listed] == [(4,), (3,), (1,)] and all(type(p) is nn.Parameter for p in listed)
    assert len(listed[1:]) == 2 and len(list(listed.parameters())) == 3
    with pytest.raises(IndexError, match="out of range"):
        listed[3]
    named = nn.ParameterDict({"w": tg.ones(2)})
    named["v"] = nn.Parameter(tg.ones(1))
    assert set(named.keys()) == {"w", "v"} and named.pop("v").shape == (1,) and list(named) == ["w"]
    assert list(named.state_dict()) == ["w"]


# functional and utils ---------------------------------------------------------------------------------------------------


def test_functional_is_the_registry():
    assert F.conv2d is tg.ops.get("conv2d").function and "cross_entropy" in dir(F)
    assert F.relu_ is tg.relu_
    with pytest.raises(AttributeError, match="no operator of that name"):
        F.convolute  # noqa: B018
    x = tg.tensor([1.0])
    from tinygrad_cv.extend import Array, Elementwise, Real, elementwise, op

    @op("triple_for_test", domain=elementwise(Real()), formula="3 x")
    class triple_for_test(Elementwise):
        """3 x."""

        def reference(input: Array):
            return input * 3

        def grad_input(upstream):
            return upstream * 3

    assert F.triple_for_test(x).item() == 3
    tg.ops.unregister("triple_for_test")
    with pytest.raises(AttributeError):
        F.triple_for_test  # noqa: B018


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, float("inf")])
def test_clip_grad_norm_is_pytorchs(norm_type):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    grads = [rng.standard_normal(s) for s in ((3, 4), (5,), (2, 2))]
    for limit in (0.5, 100.0):
        ours, theirs = (
            [nn.Parameter(tg.zeros(g.shape, dtype=tg.float64)) for g in grads],
            [torch.zeros(g.shape, dtype=torch.float64) for g in grads],
        )
        for a, b, g in zip(ours, theirs, grads, strict=True):
            a.grad, b.grad = tg.tensor(g), torch.tensor(g)
        total = nn.utils.clip_grad_norm_([*ours, nn.Parameter(tg.zeros(1))], limit, norm_type)
        assert float(total) == pytest.approx(float(torch.nn.utils.clip_grad_norm_(theirs, limit, norm_type)), rel=1e-12)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-12)


def test_clip_grad_norm_refuses_what_is_not_finite_when_asked():
    p = nn.Parameter(tg.zeros(2))
    p.grad = tg.tensor([float("nan"), 1.0])
    with pytest.raises(RuntimeError, match="nan"):
        nn.utils.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    assert p.grad[1].item() == 1
    assert np.isnan(float(nn.utils.clip_grad_norm_(p, 1.0))) and np.isnan(p.grad.numpy()).all()
    assert float(nn.utils.clip_grad_norm_([], 1.0)) == 0


def test_clip_grad_value_limits_every_element():
    p = nn.Parameter(tg.zeros(3))
    p.grad = tg.tensor([-5.0, 0.25, 2.0])
    nn.utils.clip_grad_value_([p], 0.5)
    assert p.grad.tolist() == [-0.5, 0.25, 0.5]


def test_max_norm_shortens_long_rows_only():
    layer = nn.Linear(2, 3)
    layer.load_state_dict({"weight": np.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]), "bias": np.array([9.0, 9.0, 9.0])})
    nn.utils.max_norm_(layer.parameters(), 1.0)
    np.testing.assert_allclose(layer.weight.detach().numpy(), [[0.6, 0.8], [0.3, 0.4], [0, 0]], rtol=1e-6)
    assert layer.bias.tolist() == [9, 9, 9]
    kernel = nn.Parameter(tg.ones(2, 3, 2, 2))
    nn.utils.max_norm_(kernel, 1.0)
    np.testing.assert_allclose((kernel.detach().numpy() ** 2).sum((1, 2, 3)), [1, 1], rtol=1e-6)
    nn.utils.max_norm_(kernel, 1.0, dim=None)
    np.testing.assert_allclose((kernel.detach().numpy() ** 2).sum(), 1, rtol=1e-6)
    with pytest.raises(ValueError, match="negative"):
        nn.utils.max_norm_(kernel, -1.0)


def test_parameters_to_vector_and_back():
    layer = nn.Linear(2, 3)
    vector = nn.utils.parameters_to_vector(layer.parameters())
    np.testing.assert_array_equal(
        vector.detach().numpy(), np.concatenate([layer.weight.detach().numpy().ravel(), layer.bias.detach().numpy()])
    )
    vector.sum().backward()
    assert layer.weight.grad.numpy().all()
    nn.utils.vector_to_parameters(tg.arange(9.0), layer.parameters())
    assert layer.weight.tolist() == [[0, 1], [2, 3], [4, 5]] and layer.bias.tolist() == [6, 7, 8]
    with pytest.raises(ValueError, match="9 elements"):
        nn.utils.vector_to_parameters(tg.zeros(8), layer.parameters())


def test_read_only_memory_is_refused_before_anything_is_written():
    array = np.ones((2, 2), np.float32)
    array.flags.writeable = False
    layer = nn.Linear(2, 2)
    bias = layer.bias.tolist()
    layer.weight = nn.Parameter(tg.from_numpy(array))
    with pytest.raises(RuntimeError, match="read-only memory: weight"):
        layer.load_state_dict({"weight": np.zeros((2, 2)), "bias": np.zeros(2)})
    assert layer.bias.tolist() == bias
    with pytest.raises(RuntimeError, match="read-only"):
        nn.init.zeros_(layer.weight)
    for p in layer.parameters():
        p.grad = tg.ones(p.shape)
    with pytest.raises(RuntimeError, match=r"parameter weight of shape .* is read-only"):
        tg.optim.SGD(layer.parameters()).step()
    assert layer.bias.tolist() == bias
