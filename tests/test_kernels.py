"""CPU kernels against NumPy, PyTorch and their own serial twins: values, special values, threads, forks, errors."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import kernels, nn
from tinygrad_cv.extend import Array, Elementwise, Real, elementwise, op
from tinygrad_cv.kernels import crowding, launch, threads
from tinygrad_cv.kernels.formula import translate
from tinygrad_cv.kernels.loops import Program, broadcast_layout, make
from tinygrad_cv.registry import get, operators, unregister

numba = pytest.importorskip("numba")
from tinygrad_cv.kernels.jit import REDUCTION, Kernel, helper, kernel, prange  # noqa: E402
from tinygrad_cv.kernels.shares import plain, run_shares, span  # noqa: E402

SIZES = (1, 1023, 1024, 1025, 2049, 100_000)
two_threads = pytest.mark.skipif(kernels.get_num_threads() < 2, reason="needs two threads")


@helper
def cube(x):
    return x * x * x


@kernel
def cubes(x, out):
    for i in prange(x.size):
        out[i] = cube(x[i])


@kernel(fastmath=REDUCTION)
def total(x):
    s = x.dtype.type(0)
    for i in range(x.size):
        s += x[i]
    return s


@kernel(fastmath=REDUCTION)
def row_sums(x, out, shares, share):
    for r in range(*span(len(x), shares, share)):
        total = x.dtype.type(0)
        for j in range(x.shape[1]):
            total += x[r, j] * x[r, j]
        out[r] = total


@kernel
def quotient(x, y):
    return x[0] / y[0]


@kernel
def broken(x):
    return x.no_such_thing


@kernel
def failing(x):
    if x[0] > 0:
        raise ValueError("positive")
    return x[0]


@pytest.fixture
def every_size(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sends arrays of every size to kernels, float64 ones too."""
    monkeypatch.setattr(launch, "smallest", 1)
    for operator in operators():
        operator.forget_kernels()
    yield
    monkeypatch.undo()
    for operator in operators():
        operator.forget_kernels()


# The decorator --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_a_kernel_and_its_serial_twin_agree_bit_for_bit(size: int) -> None:
    x = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    parallel, serial = np.empty_like(x), np.empty_like(x)
    cubes(x, parallel)
    cubes.serial(x, serial)
    assert np.array_equal(parallel, serial)
    assert np.array_equal(serial, x * x * x)


@pytest.mark.parametrize("size", SIZES)
def test_a_reordered_sum_is_accurate(size: int) -> None:
    x = np.random.default_rng(size).uniform(0.5, 1.5, size).astype(np.float32)
    exact = x.astype(np.float64).sum()
    assert total(x) == pytest.approx(exact, rel=1e-5)
    with kernels.serial():
        assert total(x) == pytest.approx(exact, rel=1e-5)


def test_reordered_sums_keep_nan_and_infinity() -> None:
    x = np.ones(3000, np.float32)
    x[1500] = np.inf
    assert total(x) == np.inf
    x[100] = np.nan
    assert np.isnan(total(x))


def test_division_by_zero_is_numpys() -> None:
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    assert quotient(one, zero) == np.inf
    assert np.isnan(quotient(zero, zero))


def test_one_compiled_form_serves_one_thread_and_several() -> None:
    x, out = np.ones(5000), np.empty(5000)
    made = Kernel(cubes.function, frozenset(), "cubes_again")
    before = kernels.get_num_threads()
    try:
        tg.set_num_threads(1)
        made(x, out)
        compiled = made.compiled()
        assert set(compiled) == {"shared"}
    finally:
        tg.set_num_threads(before)
    with kernels.serial():
        made(x, out)
    made(x, out)
    assert made.compiled() == compiled and np.array_equal(out, np.ones(5000))


def test_a_failing_compile_names_kernel_device_and_arguments() -> None:
    with pytest.raises(
        RuntimeError, match=r"^broken: the cpu kernel does not compile for \(float32\[2, 3\] C\)\n[\s\S]*no_such_thing"
    ):
        broken(np.zeros((2, 3), np.float32))


def test_an_error_raised_inside_a_kernel_passes_through() -> None:
    assert failing(np.array([-1.0])) == -1.0
    with pytest.raises(ValueError, match="positive"):
        failing(np.array([1.0]))


def test_what_a_kernel_may_be() -> None:
    captured = 3

    def closure(x):
        return x[0] * captured

    with pytest.raises(TypeError, match="closure: a kernel must be a module-level function"):
        kernel(closure)
    with pytest.raises(ValueError, match="got nnan"):
        kernel(fastmath={"nnan"})(total.function)
    with pytest.raises(TypeError, match="expected a function"):
        kernel("total")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"cubes: with reordered sums[\s\S]*run_shares"):
        kernel(fastmath=REDUCTION)(cubes.function)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shares_give_the_bits_of_one_share(dtype: str) -> None:
    x = np.random.default_rng(0).standard_normal((37, 1003)).astype(dtype)
    frozen = x.copy()
    frozen.flags.writeable = False
    results = []
    for shares in (1, 2, 5, 40):
        for context in (contextlib.nullcontext(), kernels.serial()):
            out = np.empty(37, dtype)
            with context:
                run_shares(row_sums, shares, plain(frozen, x.shape), out, shares)
            results.append(out)
    np.testing.assert_allclose(results[0], (x.astype(np.longdouble) ** 2).sum(1), rtol=1e-5 if dtype == "float32" else 1e-13)
    assert all(np.array_equal(results[0], out) for out in results)


# Threads --------------------------------------------------------------------------------------------------------------


def test_thread_counts_are_checked() -> None:
    most = threads.limit()
    with pytest.raises(ValueError, match=f"set_num_threads: expected 1 to {most} threads, got 0"):
        tg.set_num_threads(0)
    with pytest.raises(ValueError, match="NUMBA_NUM_THREADS"):
        tg.set_num_threads(most + 1)
    with pytest.raises(TypeError, match="expected an int, got float"):
        tg.set_num_threads(1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected an int, got bool"):
        tg.set_num_threads(True)
    before = tg.get_num_threads()
    tg.set_num_threads(1)
    assert tg.get_num_threads() == 1
    tg.set_num_threads(before)


def run_python(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=300, env={**kept, **environment}
    )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({"NUMBA_NUM_THREADS": "3", "OMP_NUM_THREADS": "2"}, 3), ({"NUMBA_NUM_THREADS": "4"}, 4), ({"OMP_NUM_THREADS": "1"}, 1)],
)
def test_the_environment_sets_the_number_of_threads(environment: dict[str, str], expected: int) -> None:
    program = (
        "import sys, tinygrad_cv as tg; n = tg.get_num_threads(); tg.set_num_threads(1); m = tg.get_num_threads()\n"
        "assert 'numba' not in sys.modules; print(n, m)"
    )
    assert run_python(program, **environment).stdout.split() == [str(expected), "1"]


SILU = """
import numpy as np, tinygrad_cv as tg
from tinygrad_cv import kernels, nn
x = np.linspace(-4, 4, 60_000, dtype=np.float32)
def silu():
    return tg.silu(tg.from_numpy(x)).numpy()
first = silu()
assert np.allclose(first, x / (1 + np.exp(-x)), atol=1e-6)
"""


@two_threads
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_computes_the_same_with_serial_twins() -> None:
    program = SILU + (
        "import os, warnings\nwarnings.simplefilter('ignore')\nassert kernels.thread_info()['layer'] is not None\nchild = os.fork()\n"
        "if child == 0:\n"
        "    same = np.array_equal(silu(), first) and tg.get_num_threads() == 1\n    os._exit(0 if same else 3)\n"
        "_, status = os.waitpid(child, 0)\nassert np.array_equal(silu(), first)\nprint('status', status)"
    )
    done = run_python(program)
    assert done.stdout.strip() == "status 0", done.stderr


@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_three_python_threads_at_once(layer: str) -> None:
    program = SILU + (
        "import threading\nok = []\ndef work():\n    ok.append(all(np.array_equal(silu(), first) for _ in range(30)))\n"
        "crew = [threading.Thread(target=work) for _ in range(3)]\n[t.start() for t in crew]\n[t.join() for t in crew]\nprint(ok)"
    )
    done = run_python(program, NUMBA_THREADING_LAYER=layer)
    assert done.stdout.strip() == "[True, True, True]", done.stderr


@two_threads
def test_a_new_python_thread_uses_the_thread_count_that_was_set() -> None:
    most = tg.get_num_threads()
    x, out = np.ones(50_000, np.float32), np.empty(50_000, np.float32)
    seen = []

    def work() -> None:
        cubes(x, out)
        seen.append(threads.local.serial)

    try:
        for n in (1, 2):
            tg.set_num_threads(n)
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
    finally:
        tg.set_num_threads(most)
    assert seen == [True, False]


# The functions of scalar expressions ----------------------------------------------------------------------------------

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e-40, -1e-40, 3e38, -3e38, 1e10, -1e10, 0.5, -0.5]


def loop_of(name: str, operands: int, dtype: str = "float32") -> Kernel:
    arguments = ", ".join(f"p{i}_" for i in range(operands))
    program = Program(f"test_{name}", "tests", tuple(f"p{i}" for i in range(operands)), (), (f"{name}({arguments})",), (name,))
    return make(program, "F" * operands, dtype)


def check_specials(got: np.ndarray, exact: np.ndarray) -> None:
    """NaN where the exact value is NaN; infinities and zeros with their signs."""
    with np.errstate(over="ignore"):
        rounded = exact.astype(np.float32)
    assert np.array_equal(np.isnan(got), np.isnan(exact))
    infinite = np.isinf(exact)
    assert np.array_equal(got[infinite], rounded[infinite])
    zero = exact == 0
    assert np.array_equal(np.signbit(got[zero]), np.signbit(exact[zero])) and not got[zero].any()


@pytest.mark.parametrize(("name", "exact"), [("pow", np.power), ("atan2", np.arctan2), ("hypot", np.hypot), ("fmod", np.fmod)])
def test_functions_of_two_numbers(name: str, exact: np.ufunc) -> None:
    specials = np.float32([0, -0.0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, np.inf, -np.inf, np.nan])
    a, b = (m.ravel() for m in np.meshgrid(specials, specials))
    rng = np.random.default_rng(2)
    x = np.concatenate([a, rng.uniform(-9, 9, 5000).astype(np.float32), rng.uniform(0, 9, 5000).astype(np.float32)])
    y = np.concatenate([b, rng.integers(-7, 8, 5000).astype(np.float32), rng.uniform(-7, 7, 5000).astype(np.float32)])
    got = np.empty_like(x)
    loop_of(name, 2).serial(got, x, y)
    with np.errstate(all="ignore"):
        wanted = exact(x.astype(np.float64), y.astype(np.float64))
    check_specials(got, wanted)
    np.testing.assert_allclose(got, wanted.astype(np.float32), rtol=1.2e-7)


EXACT = {
    "exp": np.exp, "log1p": np.log1p, "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "tanh": np.tanh, "erf": np.vectorize(math.erf),
    "acosh": np.arccosh, "normal_cdf": lambda x: 0.5 * np.vectorize(math.erfc)(x / -math.sqrt(2)), "maximum": np.maximum, "sign": np.sign,
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_float64_functions_are_the_c_librarys(name: str) -> None:
    exact = EXACT[name]
    x = np.concatenate([SPECIAL, np.linspace(-5, 5, 1001)])
    arrays = [x] if name != "maximum" else [x, x[::-1].copy()]
    got = np.empty_like(x)
    loop_of(name, len(arrays), "float64").serial(got, *arrays)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(got, exact(*arrays), rtol=1e-14, atol=0)


# Scalar expressions ---------------------------------------------------------------------------------------------------


def test_every_scalar_expression_is_in_the_language() -> None:
    wrong = []
    for operator in operators(plugins=False):
        if isinstance(operator.scalar, str):
            try:
                translate(operator.scalar, {p: p for p in operator.signature.parameters})
            except ValueError as error:
                wrong.append(f"{operator.name}: {error}")
    assert not wrong


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("foo(x)", "'foo' is not a function"), ("x + y", "'y' is neither a parameter"), ("x if", "no Python expression"),
        ("x[0]", r"x\[0\]"),
        ("x // 2", "only \\+ - \\* / \\*\\*"), ("maximum(x)", "takes 2 arguments"), ("exp(x, axis=0)", "only plain calls"),
    ],
)  # fmt: skip
def test_an_expression_outside_the_language_is_refused_by_name(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        translate(text, {"x": "x_"})


def test_numbers_take_the_working_dtype() -> None:
    assert translate("0.5 * x if x > 1 else -inf", {"x": "x_"}).text == "where((x_ > F(1.0)), (F(0.5) * x_), (-F(np.inf)))"


def test_an_operator_whose_expression_is_not_understood_warns_and_uses_its_reference() -> None:
    @op("half_of", domain=elementwise(Real()), formula="input / 2", method=False)
    class half_of(Elementwise):
        """input / 2."""

        scalar = "halved(input)"

        def reference(input: Array) -> np.ndarray:
            return input / 2

        def grad_input(upstream):
            return upstream / 2

    try:
        with pytest.warns(RuntimeWarning, match=r"operator 'half_of': no kernel can be derived .*'halved'"):
            out = tg.half_of(tg.ones(100_000))
        assert (out.numpy() == 0.5).all()
    finally:
        unregister("half_of")


@pytest.mark.parametrize(
    ("shape", "operand", "expected"),
    [
        ((8, 3, 4, 5), (1, 3, 1, 1), ("M", 3, 24)), ((8, 3, 4, 5), (3, 1, 1), ("M", 3, 24)), ((6, 7), (7,), ("T", 7, 6)),
        ((6, 7), (6, 1), ("M", 6, 6)), ((2, 6, 7), (6, 7), ("T", 42, 2)), ((2, 6, 7), (2, 1, 7), None), ((6, 7), (1, 1), None),
    ],
)  # fmt: skip
def test_how_operands_broadcast(shape: tuple[int, ...], operand: tuple[int, ...], expected: object) -> None:
    assert broadcast_layout(shape, operand) == expected


# Derived kernels ------------------------------------------------------------------------------------------------------

DERIVED = {
    "mul": {}, "relu": {}, "sigmoid": {}, "softplus": {}, "where": {}, "leaky_relu": {"negative_slope": 0.1},
    "gelu": {"approximate": "tanh"}, "threshold_backward": {"threshold": 0.25}, "gt": {}, "addcdiv": {"value": 0.5},
}  # fmt: skip


def operands_of(name: str, shape: tuple[int, ...], dtype: str) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    count = len(get(name).tensor_params)
    arrays = [rng.uniform(0.2, 2, shape).astype(dtype) * rng.choice([-1, 1], shape).astype(dtype) for _ in range(count)]
    if name == "where":
        arrays[0] = arrays[0] > 0
    return arrays


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", DERIVED)
def test_derived_kernels_agree_with_their_references(name: str, dtype: str, every_size: None) -> None:
    operator = get(name)
    run = operator.kernel("cpu")
    assert run is not None
    for size in SIZES:
        arrays = operands_of(name, (size,), dtype)
        kept = [a.copy() for a in arrays]
        expected = operator.reference(*arrays, **DERIVED[name])
        got = run(*arrays, **DERIVED[name])
        with kernels.serial():
            alone = run(*arrays, **DERIVED[name])
        assert got.dtype == expected.dtype and got.shape == expected.shape
        relative, absolute = (2e-6, 1e-7) if dtype == "float32" else (1e-13, 1e-15)
        np.testing.assert_allclose(got, expected, rtol=relative, atol=absolute)
        assert np.array_equal(got, alone)
        assert all(np.array_equal(a, b) for a, b in zip(arrays, kept, strict=True))


@pytest.mark.parametrize(
    "other",
    [(), (1,), (1, 1, 1, 1), (5, 1, 1), (1, 5, 1, 1), (7,), (6, 7), (4, 1, 1, 1), (4, 5, 6, 7)],
)
def test_broadcast_operands(other: tuple[int, ...], every_size: None) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((4, 5, 6, 7)).astype(np.float32), rng.standard_normal(other).astype(np.float32)
    run = get("mul").kernel("cpu")
    assert np.array_equal(run(a, b), a * b)
    assert np.array_equal(run(b, a), a * b)


def test_numbers_and_expanded_operands(every_size: None) -> None:
    a = np.random.default_rng(4).standard_normal((30, 40)).astype(np.float32)
    run = get("mul").kernel("cpu")
    assert np.array_equal(run(a, 3), a * np.float32(3))
    assert np.array_equal(run(2.5, a), a * np.float32(2.5))
    assert np.array_equal(run(np.broadcast_to(np.float32(7), a.shape), a), a * np.float32(7))


def test_what_derived_kernels_leave_to_the_reference(every_size: None) -> None:
    run = get("mul").kernel("cpu")
    a = np.ones((4, 6), np.float32)
    assert run(a, a.astype(np.float64)) is NotImplemented  # mixed dtypes
    assert run(a.astype(np.int64), a.astype(np.int64)) is NotImplemented
    assert run(a.T, a.T) is NotImplemented  # cheap, not contiguous
    assert run(a[:1], a[:, :1]) is NotImplemented  # no operand has the shape of the result
    assert get("gelu").kernel("cpu")(a.T) is not NotImplemented  # dear enough to copy


def test_small_arrays_do_not_load_numba() -> None:
    program = (
        "import sys, numpy as np, tinygrad_cv as tg\nx = tg.tensor([1.0, 2.0], requires_grad=True)\n"
        "(tg.gelu(x) * 2 + x.exp()).sum().backward()\nassert 'numba' not in sys.modules"
    )
    done = run_python(program)
    assert done.returncode == 0, done.stderr


def test_tensors_use_kernels_and_disabled_ones_do_not() -> None:
    x = tg.tensor(np.linspace(-3, 3, 70_000, dtype=np.float32))
    fast = tg.gelu(x).numpy()
    with kernels.disabled():
        assert get("gelu").kernel("cpu") is None
        slow = tg.gelu(x).numpy()
    assert get("gelu").kernel("cpu") is not None
    np.testing.assert_allclose(fast, slow, atol=1e-6)


# Fused backward rules -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("gelu", ("tanh",)), ("silu", (False,)), ("softplus", (1.0, 20.0)), ("leaky_relu", (0.1, False)),
        ("hardtanh", (-1.0, 1.0, False)), ("atan2", ()), ("reciprocal", ()), ("mish", (False,)),
    ],
)  # fmt: skip
def test_a_fused_rule_gives_what_the_rule_gives(name: str, attributes: tuple[object, ...], every_size: None) -> None:
    operator = get(name)
    fused = kernels.fused_gradient(operator, 0, attributes)
    assert fused is not None
    rng = np.random.default_rng(6)
    for size in (1, 1025, 40_000):
        inputs = [
            tg.tensor(rng.uniform(0.2, 2, size) * rng.choice([-1, 1], size), requires_grad=True) for _ in operator.tensor_params
        ]
        named = dict(zip(operator.attr_params, attributes, strict=True))
        out = operator(*inputs, **{k: v for k, v in named.items() if k != "inplace"})
        upstream = tg.tensor(rng.standard_normal(size), dtype=out.dtype)
        (expected, *_) = tg.autograd.grad(out, inputs, upstream, create_graph=True)
        saved = {"upstream": [upstream], "in": inputs, "out": [out]}
        got = fused([saved[kind][i].detach().numpy() for kind, i in fused.needs])
        np.testing.assert_allclose(got, expected.detach().numpy(), rtol=3e-6, atol=1e-6)


def test_rules_that_cannot_or_need_not_be_fused() -> None:
    assert kernels.fused_gradient(get("mul"), 0, ()) is None  # one operator: its own kernel does that
    assert kernels.fused_gradient(get("sum"), 0, (None, False, None)) is None
    with kernels.disabled():
        assert kernels.fused_gradient(get("silu"), 0, (False,)) is None


# Softmax and cross-entropy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(10,), (1, 1), (64, 10), (5, 13, 3), (17, 1025), (3, 2049)])
def test_softmax_kernels(shape: tuple[int, ...], dtype: str) -> None:
    from tinygrad_cv.ops.cpu import softmax as module

    x = (np.random.default_rng(7).standard_normal(shape) * 5).astype(dtype)
    for dim in range(len(shape)):
        wide = x.astype(np.longdouble)
        powers = np.exp(wide - wide.max(dim, keepdims=True))
        exact = powers / powers.sum(dim, keepdims=True)
        relative = 3e-6 if dtype == "float32" else 1e-14
        np.testing.assert_allclose(module.softmax(x, dim), exact.astype(dtype), rtol=relative)
        np.testing.assert_allclose(module.log_softmax(x, dim), np.log(exact).astype(dtype), rtol=relative, atol=relative)


def test_softmax_kernels_at_the_edges() -> None:
    from tinygrad_cv.ops.cpu import softmax as module

    x = np.float32([[1e30, -1e30, 0], [-np.inf, 0, 0], [np.nan, 0, 1], [np.inf, 0, 1], [-np.inf] * 3])
    got = module.softmax(x, 1)
    assert got[0].tolist() == [1, 0, 0] and got[1].tolist() == [0, 0.5, 0.5] and np.isnan(got[2:]).all()
    assert module.softmax(np.zeros((0, 3), np.float32), 1) is NotImplemented
    assert module.softmax(np.zeros((2, 3), np.float16), 1) is NotImplemented


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(4,), (33, 10), (4, 5, 3), (40, 1000)])
def test_cross_entropy_kernels_against_torch(shape: tuple[int, ...], weighted: bool, reduction: str, smoothing: float) -> None:
    torch = pytest.importorskip("torch")
    from tinygrad_cv.ops.cpu import softmax as module

    rng = np.random.default_rng(8)
    axis = min(len(shape) - 1, 1)
    scores = rng.standard_normal(shape) * 3
    target = np.asarray(rng.integers(0, shape[axis], shape[:axis] + shape[axis + 1 :]))
    if target.size > 1:
        target.flat[0] = -7
    weight = rng.uniform(0.5, 2, shape[axis]) if weighted else None
    x = torch.tensor(scores, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(
        x, torch.tensor(target), None if weight is None else torch.tensor(weight), ignore_index=-7, reduction=reduction,
        label_smoothing=smoothing,
    )  # fmt: skip
    upstream = rng.standard_normal(loss.shape)
    loss.backward(torch.tensor(upstream))
    settings = (weight, -7, reduction, smoothing)
    got, probabilities = module.softmax_cross_entropy(scores, target, *settings)
    np.testing.assert_allclose(got, loss.detach().numpy(), rtol=1e-12, atol=1e-13)
    grad = module.softmax_cross_entropy_backward(np.asarray(upstream), probabilities, target, *settings)
    np.testing.assert_allclose(grad, x.grad.numpy(), rtol=1e-10, atol=1e-14)
    narrow = None if weight is None else weight.astype(np.float32)
    got32, _ = module.softmax_cross_entropy(scores.astype(np.float32), target, narrow, *settings[1:])
    np.testing.assert_allclose(got32, got, rtol=1e-5, atol=1e-6)


# Optimizer updates ----------------------------------------------------------------------------------------------------

UPDATES = {
    "sgd": ("SGD", {"lr": 0.1}, 0, lambda o, v, g, s, t: o.sgd_plain_update(v, g, 0.1, 0.01, False)),
    "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.2}, 1,
                 lambda o, v, g, s, t: o.sgd_update(v, g, *s, 0.1, 0.9, 0.2, 0.01, False, False, t == 1)),
    "nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}, 1,
                 lambda o, v, g, s, t: o.sgd_update(v, g, *s, 0.1, 0.9, 0, 0.01, True, False, t == 1)),
    "adam": ("Adam", {"lr": 0.01}, 2, lambda o, v, g, s, t: o.adam_update(v, g, *s, 0.01, 0.9, 0.999, 1e-8, 0.01, False, False, t)),
    "adamw": ("AdamW", {"lr": 0.01}, 2, lambda o, v, g, s, t: o.adam_update(v, g, *s, 0.01, 0.9, 0.999, 1e-8, 0.01, True, False, t)),
    "amsgrad": ("Adam", {"lr": 0.01, "amsgrad": True}, 3,
                lambda o, v, g, s, t: o.adam_amsgrad_update(v, g, *s, 0.01, 0.9, 0.999, 1e-8, 0.01, False, False, t)),
    "adagrad": ("Adagrad", {"lr": 0.01, "lr_decay": 0.1}, 1,
                lambda o, v, g, s, t: o.adagrad_update(v, g, *s, 0.01, 0.1, 0.01, 1e-10, False, t)),
    "rmsprop": ("RMSprop", {"lr": 0.01}, 1, lambda o, v, g, s, t: o.rmsprop_update(v, g, *s, 0.01, 0.99, 1e-8, 0.01, False)),
    "rmsprop all": ("RMSprop", {"lr": 0.01, "momentum": 0.7, "centered": True}, 3,
                    lambda o, v, g, s, t: o.rmsprop_centered_momentum_update(v, g, *s, 0.01, 0.99, 1e-8, 0.01, 0.7, False)),
    "adadelta": ("Adadelta", {"lr": 0.5}, 2, lambda o, v, g, s, t: o.adadelta_update(v, g, *s, 0.5, 0.9, 1e-6, 0.01, False)),
}  # fmt: skip


@pytest.mark.parametrize("name", UPDATES)
def test_optimizer_kernels_against_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    from tinygrad_cv.ops.cpu import optimizer as module

    rule, settings, states, update = UPDATES[name]
    for size in (7, 20_001):
        rng = np.random.default_rng(9)
        value = rng.standard_normal(size)
        parameter = torch.nn.Parameter(torch.tensor(value))
        optimizer = getattr(torch.optim, rule)([parameter], weight_decay=0.01, **settings)
        arrays = [np.zeros(size) for _ in range(states)]
        for step in range(1, 5):
            grad = rng.standard_normal(size)
            kept = grad.copy()
            parameter.grad = torch.tensor(grad)
            optimizer.step()
            update(module, value, grad, arrays, step)
            assert np.array_equal(grad, kept)
        np.testing.assert_allclose(value, parameter.detach().numpy(), rtol=1e-12, atol=1e-13)


# ---- crowded machines ------------------------------------------------------------------------------------------------------


def _network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.GELU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, stride=2), nn.GroupNorm(4, 16),
        nn.SiLU(), nn.AvgPool2d(2), nn.Flatten(), nn.LayerNorm(144), nn.Linear(144, 300), nn.Tanh(), nn.Linear(300, 10),
    )  # fmt: skip


def test_a_training_run_has_the_same_bits_on_serial_twins():
    def weights(context):
        tg.manual_seed(0)
        model = _network()
        optimizer = tg.optim.Adam(model.parameters(), lr=1e-2)
        images, labels = tg.randn(32, 3, 28, 28), tg.randint(0, 10, (32,))
        with context:
            for _ in range(3):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(images), labels).backward()
                optimizer.step()
        return [p.numpy(force=True).copy() for p in model.parameters()]

    for parallel, serial in zip(weights(contextlib.nullcontext()), weights(kernels.serial()), strict=True):
        assert np.array_equal(parallel, serial)


ROWS_OF_SUMS = {
    "softmax": lambda x: tg.softmax(x, -1),
    "log_softmax": lambda x: tg.log_softmax(x, -1),
    "cross_entropy": lambda x: nn.functional.cross_entropy(x, tg.arange(len(x)) % x.shape[1], label_smoothing=0.1),
    "layer_norm": lambda x: nn.functional.layer_norm(x, x.shape[1:]),
    "group_norm": lambda x: nn.functional.group_norm(x.reshape(24, 16, -1), 4),
    "batch_norm": lambda x: nn.functional.batch_norm(x.reshape(24, 16, -1), None, None, training=True),
    "sum": lambda x: x.sum(),
    "sum of channels": lambda x: x.reshape(24, 16, -1).sum((0, 2)),
    "sum of columns": lambda x: x.sum(0),
    "mean of rows": lambda x: x.mean(-1, keepdim=True),
    "sum_to_size": lambda x: x.reshape(24, 16, 10, 20).sum_to_size(16, 1, 1),
    "batch_norm of columns": lambda x: nn.functional.batch_norm(x, None, None, training=True),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "dim"),
    [
        ((50_000,), None), ((19, 3000), 1), ((19, 3000), (0, 1)), ((6000, 50), 0), ((9, 6, 30, 31), (0, 2, 3)), ((9, 6, 30, 31), (2, 3)),
        ((9, 6, 30, 31), (0, 1)), ((9, 6, 30, 31), 1), ((3, 1, 19000), (0, 2)), ((1, 40000, 1), (0, 2)), ((20, 19001, 1), (0, 2)),
    ],
)  # fmt: skip
def test_sums_of_large_arrays_are_exact_to_rounding(shape: tuple[int, ...], dim, dtype: str) -> None:
    x = (np.random.default_rng(0).random(shape) + 100).astype(dtype)
    exact = x.astype(np.longdouble).sum(dim)
    found = tg.from_numpy(x).sum(dim)
    assert found.dtype == np.dtype(dtype) and found.shape == exact.shape
    np.testing.assert_allclose(found.numpy(), exact, rtol=1e-6 if dtype == "float32" else 1e-14)
    kept = tg.from_numpy(x).mean(dim, keepdim=True)
    np.testing.assert_allclose(
        kept.numpy(), x.astype(np.longdouble).mean(dim, keepdims=True), rtol=1e-6 if dtype == "float32" else 1e-14
    )
    assert kept.shape == x.sum(dim, keepdims=True).shape
    x.flat[1] = np.nan
    x.flat[2] = np.inf
    np.testing.assert_array_equal(np.isnan(tg.from_numpy(x).sum(dim).numpy()), np.isnan(x.sum(dim)))


@two_threads
@pytest.mark.parametrize("dtype", [tg.float32, tg.float64])
@pytest.mark.parametrize("name", ROWS_OF_SUMS)
def test_sums_have_the_same_bits_at_any_number_of_threads(name: str, dtype) -> None:
    tg.manual_seed(0)
    x, upstream = tg.randn(96, 800, dtype=dtype), None
    results = []
    most = tg.get_num_threads()
    for threads_used, context in ((most, contextlib.nullcontext()), (most, kernels.serial()), (1, contextlib.nullcontext())):
        tg.set_num_threads(threads_used)
        try:
            with context:
                leaf = x.clone().requires_grad_()
                out = ROWS_OF_SUMS[name](leaf)
                upstream = tg.randn_like(out) if upstream is None else upstream
                out.backward(upstream)
        finally:
            tg.set_num_threads(most)
        results.append((out.numpy(force=True), leaf.grad.numpy()))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("size", [4, 9, 20, 40])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_where_the_result_lies_changes_no_bit(dtype: str, size: int) -> None:
    from tinygrad_cv.ops.cpu import softmax

    rng = np.random.default_rng(0)
    buffer, labels, losses = np.empty(600, dtype), np.zeros(1, np.int64), np.empty(1, dtype)
    x = buffer[:size].reshape(1, size)
    for values in rng.standard_normal((20, size)).astype(dtype):
        found: dict[str, set[bytes]] = {"softmax": set(), "cross_entropy": set()}
        for gap in range(0, 300, 5):
            x[...] = values
            out = buffer[size + gap : 2 * size + gap].reshape(1, size)
            softmax.softmax_rows.serial(x, out, 1, 0)
            found["softmax"].add(out.tobytes())
            softmax.cross_entropy_rows.serial(x, labels, losses, False, -100, 0.0, losses, out, 1, 0)
            found["cross_entropy"].add(out.tobytes() + losses.tobytes())
        assert {name: len(results) for name, results in found.items()} == {"softmax": 1, "cross_entropy": 1}


def test_kernels_go_serial_while_other_programs_hold_the_cores_and_come_back():
    watch = crowding.Crowding()
    waited = iter([0, 1_000_000, 19_000_000, 19_000_000, 19_000_000])
    watch._waiting_time = lambda: next(waited, 19_000_000)
    assert not watch.crowded(100.0)  # the first look knows no past
    assert not watch.crowded(100.021)  # 1 of 21 ms waiting
    assert not watch.crowded(100.03)  # not looked yet
    assert watch.crowded(100.045)  # 18 of 24 ms waiting
    assert watch.crowded(100.1) and watch.crowded(100.3)
    assert not watch.crowded(100.5)


def test_crowding_is_left_alone_where_nobody_tells_and_when_determinism_is_asked_for():
    watch = crowding.Crowding()
    watch._waiting_time = lambda: None
    assert not watch.crowded(1.0) and watch.next_look == float("inf")
    watch = crowding.Crowding()
    waited = iter([0, 10**9])
    watch._waiting_time = lambda: next(waited)
    tg.use_deterministic_algorithms(True)
    try:
        assert not watch.crowded(1.0) and not watch.crowded(1.03)
    finally:
        tg.use_deterministic_algorithms(False)
