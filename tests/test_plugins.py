"""Operators from other packages: found through entry points, isolated when broken, tested by the same kit."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_packages import install, run

GOOD = """
    import numpy as np
    from tinygrad_cv.extend import Array, Elementwise, Real, elementwise, op

    @op("plugin_swish", domain=elementwise(Real(), beta=Real(0.5, 1.5)), formula="input / (1 + e^(-beta input))")
    class plugin_swish(Elementwise):
        '''input * sigmoid(beta * input).'''

        def reference(input: Array, beta: float = 1.0):
            return input / (1 + np.exp(-input * np.asarray(beta, input.dtype)))

        def grad_input(upstream, input, beta):
            gate = (input * beta).sigmoid()
            return upstream * (gate + input * beta * gate * (1 - gate))
"""
RAISING = """
    from tinygrad_cv.extend import Array, Elementwise, Real, elementwise, op

    @op("half_made", domain=elementwise(Real()), formula="input")
    class half_made(Elementwise):
        '''Registered before the module fails.'''

        def reference(input: Array):
            return input.copy()

        def grad_input(upstream):
            return upstream

    import a_module_that_does_not_exist
"""
DUPLICATE = """
    from tinygrad_cv.extend import Array, Elementwise, Real, elementwise, op

    @op("exp", domain=elementwise(Real()), formula="input")
    class exp(Elementwise):
        '''Takes a name that is taken.'''

        def reference(input: Array):
            return input.copy()

        def grad_input(upstream):
            return upstream
"""
BY_CALL = """
    def register():
        from tinygrad_cv.extend import Array, Elementwise, Real, elementwise, op

        @op("plugin_double", domain=elementwise(Real()), formula="2 input", override=False)
        class plugin_double(Elementwise):
            '''Twice input.'''

            def reference(input: Array):
                return input + input

            def grad_input(upstream):
                return upstream + upstream
"""


def test_a_plugins_operator_is_like_a_built_in_one(tmp_path: Path) -> None:
    install(tmp_path, "swish-ops", GOOD)
    out = run(tmp_path, """
        import tinygrad_cv as tg
        assert "swish_ops" not in sys.modules, "plugins wait until something asks for them"
        x = tg.tensor([1.0, -2.0], requires_grad=True)
        assert tg.exp(x).requires_grad and "swish_ops" not in sys.modules
        y = x.plugin_swish(beta=2.0)
        y.sum().backward()
        print(tg.plugin_swish(x).shape, y.grad_fn.name(), x.grad is not None)
        row = next(r for r in tg.ops.list_ops() if r["name"] == "plugin_swish")
        print(row["provider"], row["kind"])
        from tinygrad_cv.testing import check_op
        result = check_op("plugin_swish")
        print(result.examples, result.checks["second derivative"] > 0)
    """)  # fmt: skip
    assert out.splitlines() == ["(2,) plugin_swish True", "swish-ops elementwise", "20 True"]


def test_the_command_line_kit_checks_it_too(tmp_path: Path) -> None:
    install(tmp_path, "swish-ops", GOOD)
    out = run(tmp_path, """
        from tinygrad_cv.cli import main
        assert main(["check", "plugin_swish", "exp", "--examples", "3"]) == 0
    """)  # fmt: skip
    assert "ok      swish_ops.plugin_swish" in out and "2 operators, 6 examples" in out and out.endswith("all ok")


def test_an_entry_point_may_name_a_function(tmp_path: Path) -> None:
    install(tmp_path, "double-ops", BY_CALL, "double_ops:register")
    assert run(tmp_path, "import tinygrad_cv as tg; print(tg.plugin_double(tg.ones(1)).tolist())") == "[2.0]"


CAUGHT = """
    import warnings
    import tinygrad_cv as tg
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        names = [row["name"] for row in tg.ops.list_ops()]
        tg.ops.list_ops()
        assert not hasattr(tg, "nothing_has_this_name")
    for w in caught:
        print(w.category.__name__, str(w.message))
    assert len(caught) == 1, "one warning, once"
    assert "half_made" not in names, "what a failing plugin registered is taken back"
    assert tg.exp(tg.zeros(1)).tolist() == [1.0], "built-in operators still work"
"""


def test_a_plugin_that_raises_is_skipped_with_one_warning(tmp_path: Path) -> None:
    install(tmp_path, "broken-ops", RAISING)
    install(tmp_path, "swish-ops", GOOD)
    out = run(tmp_path, CAUGHT + "    assert 'plugin_swish' in names, 'the good plugin beside it works'\n")
    assert out.startswith("RuntimeWarning") and "'broken_ops' of package 'broken-ops' was skipped" in out
    assert "ModuleNotFoundError" in out and "a_module_that_does_not_exist" in out


def test_a_plugin_that_takes_a_taken_name_is_skipped_and_both_owners_are_named(tmp_path: Path) -> None:
    install(tmp_path, "rival-ops", DUPLICATE)
    out = run(tmp_path, CAUGHT)
    assert "'rival_ops' of package 'rival-ops' was skipped" in out
    assert "'exp' is registered by tinygrad_cv and again by rival-ops; pass override=True" in out


def test_a_failed_plugin_is_tried_again_on_request(tmp_path: Path) -> None:
    install(tmp_path, "broken-ops", RAISING)
    out = run(tmp_path, f"""
        import types, warnings
        import tinygrad_cv as tg
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tg.ops.list_ops()
        assert not hasattr(tg, "half_made")
        sys.modules["a_module_that_does_not_exist"] = types.ModuleType("now it does")
        tg.ops.discover(reload=True)
        print(tg.half_made(tg.ones(1)).tolist(), tg.ops.get("half_made").provider, {str(tmp_path)!r} in sys.path)
    """)  # fmt: skip
    assert out == "[1.0] broken-ops True"


def test_the_kit_needs_five_lines(tmp_path: Path) -> None:
    pytest.importorskip("hypothesis")
    install(tmp_path, "swish-ops", GOOD)
    test = tmp_path / "test_mine.py"
    test.write_text("from tinygrad_cv.testing import op_test\n\ntest_plugin_swish = op_test('plugin_swish', max_examples=10)\n")
    out = run(tmp_path, f"""
        import os
        os.chdir({str(tmp_path)!r})
        import pytest
        sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", {str(test)!r}]))
    """)  # fmt: skip
    assert "1 passed" in out


def test_extend_gives_all_it_names_and_imports_numba_only_for_kernels(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    out = run(tmp_path, """
        import tinygrad_cv.extend as extend
        from tinygrad_cv.extend import (
            API_VERSION, Array, Booleans, Composite, Elementwise, Integers, OneOf, Op, Real, Tensor, call, elementwise, op, require_api,
        )
        heavy = {"numba", "hypothesis", "pytest"}
        assert not heavy & set(sys.modules) and set(extend.__all__) <= set(dir(extend))
        from tinygrad_cv.extend import kernel
        assert "numba" in sys.modules
        print(all(getattr(extend, name) is not None for name in extend.__all__), len(extend.__all__) == len(set(extend.__all__)))
    """)  # fmt: skip
    assert out == "True True"


def test_without_numba_a_plugin_with_kernels_computes_by_its_references(tmp_path: Path) -> None:
    kernels = GOOD.replace('formula="', 'kernels={"cpu": "kernel_of_swish:absent"}, formula="')
    install(tmp_path, "swish-ops", kernels)
    (tmp_path / "kernel_of_swish.py").write_text("from tinygrad_cv.extend import kernel\n")
    out = run(tmp_path, """
        import warnings
        sys.modules["numba"] = None
        import tinygrad_cv as tg
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            print(tg.plugin_swish(tg.zeros(1)).tolist(), len(caught), "Numba could not be imported" in str(caught[0].message))
    """)  # fmt: skip
    assert out == "[0.0] 1 True"


def test_versions_of_the_api_are_kept_or_refused() -> None:
    from tinygrad_cv import extend

    for version in range(extend.OLDEST_API_VERSION, extend.API_VERSION + 1):
        extend.require_api(version)
    with pytest.raises(
        extend.ApiVersionError, match=r"built for version 0 of the plugin API, .* has version .*: upgrade the package$"
    ):
        extend.require_api(extend.OLDEST_API_VERSION - 1)
    with pytest.raises(extend.ApiVersionError, match=r"upgrade tinygrad_cv$"):
        extend.require_api(extend.API_VERSION + 1)
    for value in (True, "1", 1.0, None):
        with pytest.raises(TypeError, match="require_api: expected an integer"):
            extend.require_api(value)  # type: ignore[arg-type]
    with pytest.raises(ImportError, match="gone_by_now"):
        from tinygrad_cv.extend import gone_by_now  # type: ignore[attr-defined]  # noqa: F401


def test_version_1_of_the_api_is_what_it_was() -> None:
    """What version 1 promises. A name may be added here; taking one away needs a new version."""
    from tinygrad_cv import extend

    promised = {
        "API_VERSION", "OLDEST_API_VERSION", "REDUCTION", "ApiVersionError", "Array", "Booleans", "Call", "Composite", "Domain", "Draw",
        "Elementwise", "Integers", "OneOf", "Op", "Operator", "Real", "Tensor", "call", "choose", "elementwise", "empty", "get", "helper",
        "kernel", "no_grad", "op", "plain", "prange", "replayable", "require_api", "run_shares", "share_count", "span", "unregister",
    }  # fmt: skip
    assert promised <= set(extend.__all__)
