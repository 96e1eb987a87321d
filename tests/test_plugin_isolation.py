"""What goes wrong in an operator package is said once, by its name, and everything else goes on working."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from plugin_packages import install, run

PREFACE = """
    import numpy as np
    from tinygrad_cv.extend import Array, Elementwise, Op, Real, call, elementwise, op
"""
GOOD = PREFACE + """
    @op("plugin_good", domain=elementwise(Real()), formula="3 input")
    class plugin_good(Elementwise):
        '''Three times input.'''

        def reference(input: Array):
            return input * np.asarray(3, input.dtype)

        def grad_input(upstream):
            return upstream * 3
"""  # fmt: skip
CAUGHT = """
    import os, time, threading, warnings
    os.environ["TINYGRAD_CV_PLUGIN_TIMEOUT"] = "1"
    import tinygrad_cv as tg
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        {asked}
    assert time.perf_counter() - start < 100
    print(*(w.message for w in caught), sep="\\n")
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    tg.plugin_good(x.exp() * 0).sum().backward()
    assert x.grad.tolist() == [0.0, 0.0] and len(tg.ops.list_ops()) > 100
"""


def skipped(site: Path, package: str, text: str, asked: str = "tg.ops.list_ops()") -> str:
    """The warning about a plugin, beside which a good one and the built-in operators work."""
    install(site, package, text)
    install(site, "zz-good-ops", GOOD)
    (line,) = run(site, CAUGHT.format(asked=asked)).splitlines()
    module = package.replace("-", "_")
    assert line.startswith(f"the operator plugin {module!r} of package {package!r} was skipped: ")
    return line


@pytest.mark.parametrize(
    "how",
    [
        "import time; time.sleep(1000)",
        "import threading; threading.Event().wait()",
        "import os\n    while True:\n        try:\n            os.read(os.pipe()[0], 1)\n        except Exception:\n            pass",
        "while True:\n        pass",
    ],
    ids=["sleep", "lock", "pipe, tried again", "loop"],
)
def test_one_that_hangs_is_given_up(tmp_path: Path, how: str) -> None:
    line = skipped(tmp_path, "slow-ops", f"{PREFACE}\n    {how}\n")
    assert "it takes longer than 1 s to import; TINYGRAD_CV_PLUGIN_TIMEOUT sets the limit" in line


def test_one_that_hangs_in_another_thread_is_given_up(tmp_path: Path) -> None:
    asked = "thread = threading.Thread(target=tg.ops.list_ops); thread.start(); thread.join()"
    assert "it takes longer than 1 s" in skipped(tmp_path, "slow-ops", "while True:\n    pass\n", asked)


def test_one_that_cannot_be_interrupted_is_named_on_standard_error(tmp_path: Path) -> None:
    """In a thread other than the main one, Python cannot end a call that waits: it is given up when the call returns."""
    install(tmp_path, "stuck-ops", "import time\ntime.sleep(4)\n")
    out = run(tmp_path, """
        import os, sys, threading, warnings
        os.environ["TINYGRAD_CV_PLUGIN_TIMEOUT"] = "0.5"
        sys.stderr = sys.stdout
        import tinygrad_cv as tg
        import tinygrad_cv.discovery
        tinygrad_cv.discovery._GRACE = 1
        warnings.simplefilter("ignore")
        thread = threading.Thread(target=tg.ops.discover)
        thread.start(); thread.join()
        print(tg.registry.failed_plugins())
    """)  # fmt: skip
    first, last = out.splitlines()
    assert (
        "plugin 'stuck_ops' of package 'stuck-ops' takes longer than 0.5 s to import and is in a call that Python cannot"
        in first
    )
    assert (
        first.endswith("to start without it: TINYGRAD_CV_SKIP_PLUGINS=stuck-ops") and "'stuck-ops:stuck_ops': 'it takes" in last
    )


def test_the_limit_leaves_no_trace(tmp_path: Path) -> None:
    """A plugin that is quick enough changes no signal handler, and one that was too slow is tried again on request."""
    install(tmp_path, "slow-ops", "import os, time\ntime.sleep(float(os.environ['SLOW']))\n" + textwrap.dedent(GOOD))
    out = run(tmp_path, """
        import os, signal, time, warnings
        os.environ.update(TINYGRAD_CV_PLUGIN_TIMEOUT="1", SLOW="60")
        import tinygrad_cv as tg
        before = signal.getsignal(signal.SIGURG)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert not hasattr(tg, "plugin_good") and len(caught) == 1
        os.environ.update(TINYGRAD_CV_PLUGIN_TIMEOUT="0", SLOW="1.5")
        tg.ops.discover(reload=True)
        time.sleep(1.2)
        print(tg.plugin_good(tg.ones(1)).tolist(), signal.getsignal(signal.SIGURG) is before, tg.registry.failed_plugins())
        os.environ["TINYGRAD_CV_PLUGIN_TIMEOUT"] = "soon"
        try:
            tg.ops.discover(reload=True)
        except ValueError as error:
            print(error)
    """)  # fmt: skip
    assert out.splitlines() == [
        "[3.0] True {}", "TINYGRAD_CV_PLUGIN_TIMEOUT must be a number of seconds, 0 for no limit; got 'soon'",
    ]  # fmt: skip


def test_one_that_exits_is_skipped(tmp_path: Path) -> None:
    line = skipped(tmp_path, "leaving-ops", "import sys\nsys.exit('no licence')\n")
    assert "SystemExit: no licence" in line and line.endswith("leaving_ops.py, line 2)")


def test_one_for_another_version_of_the_api_is_told_which_side_to_upgrade(tmp_path: Path) -> None:
    later = "from tinygrad_cv.extend import require_api\nrequire_api(99)\nfrom tinygrad_cv.extend import not_there_yet\n"
    line = skipped(tmp_path, "later-ops", later)
    assert (
        "ApiVersionError: built for version 99 of the plugin API, and tinygrad_cv" in line and ": upgrade tinygrad_cv" in line
    )


def test_one_that_wants_a_name_that_is_not_there_is_told_the_version(tmp_path: Path) -> None:
    line = skipped(tmp_path, "old-ops", "from tinygrad_cv.extend import gone_by_now\n")
    assert "cannot import name 'gone_by_now' from 'tinygrad_cv.extend'" in line
    assert "this tinygrad_cv has version 1 of the plugin API, and the plugin does not say which it was built for" in line


def test_one_that_fails_halfway_loads_whole_on_request(tmp_path: Path) -> None:
    """Modules of the package that had been imported register their operators again."""
    package = tmp_path / "half_ops"
    package.mkdir()
    (package / "first.py").write_text(textwrap.dedent(GOOD))
    (package / "__init__.py").write_text("import os\nfrom . import first\nos.environ['READY']\n")
    info = tmp_path / "half_ops-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: half-ops\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tinygrad_cv.ops]\nall = half_ops\n")
    out = run(tmp_path, """
        import os, warnings
        import tinygrad_cv as tg
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert not hasattr(tg, "plugin_good") and "KeyError: 'READY'" in str(caught[0].message)
        os.environ["READY"] = "1"
        tg.ops.discover(reload=True)
        print(tg.plugin_good(tg.ones(1)).tolist(), tg.ops.get("plugin_good").provider)
    """)  # fmt: skip
    assert out == "[3.0] half-ops"


def test_where_warnings_are_errors_the_good_ones_are_loaded_all_the_same(tmp_path: Path) -> None:
    install(tmp_path, "aa-broken-ops", "1 / 0\n")
    install(tmp_path, "zz-good-ops", GOOD)
    out = run(tmp_path, """
        import tinygrad_cv as tg
        try:
            tg.ops.list_ops()
        except RuntimeWarning as warning:
            print("ZeroDivisionError" in str(warning), tg.plugin_good(tg.ones(1)).tolist())
    """)  # fmt: skip
    assert out == "True [3.0]"


def test_plugins_can_be_left_alone(tmp_path: Path) -> None:
    install(tmp_path, "broken-ops", "1 / 0\n")
    install(tmp_path, "good-ops", GOOD)
    for skip, found in (("broken-ops, other", True), ("broken_ops", True), ("*", False)):
        out = run(tmp_path, f"""
            import os
            os.environ["TINYGRAD_CV_SKIP_PLUGINS"] = {skip!r}
            import tinygrad_cv as tg
            print(hasattr(tg, "plugin_good"), hasattr(tg, "exp"))
        """)  # fmt: skip
        assert out == f"{found} True"


def test_a_plugin_that_builds_on_another_does_not_take_its_operators(tmp_path: Path) -> None:
    """Whichever is loaded first, an operator belongs to the package that declares it, and stays when the other fails."""
    install(tmp_path, "aa-building-ops", "import zz_good_ops\n1 / 0\n")
    install(tmp_path, "zz-good-ops", GOOD)
    out = run(tmp_path, """
        import warnings
        import tinygrad_cv as tg
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            print(tg.ops.get("plugin_good").provider, len(caught), tg.plugin_good(tg.ones(1)).tolist())
    """)  # fmt: skip
    assert out == "zz-good-ops 1 [3.0]"


WRONG = PREFACE + """
    @op("plugin_wrong", domain=elementwise(Real()), formula="3 input")
    class plugin_wrong(Elementwise):
        '''Three times input.'''

        def reference(input: Array):
            return input * np.asarray(3, input.dtype)

        def grad_input(upstream):
            return RULE
"""  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "got"),
    [
        ("upstream.double() * 3", "shape (2, 3), float64"),
        ("(upstream * 3).sum()", "shape (), float32"),
        ("3", "a int"),
    ],
)
def test_a_gradient_of_a_wrong_shape_or_type_names_the_package(tmp_path: Path, rule: str, got: str) -> None:
    install(tmp_path, "wrong-ops", WRONG.replace("RULE", rule))
    out = run(tmp_path, """
        import tinygrad_cv as tg
        x = tg.ones(2, 3, requires_grad=True)
        try:
            x.plugin_wrong().sum().backward()
        except RuntimeError as error:
            print(error)
        assert x.grad is None
        x.exp().sum().backward()
        assert x.grad is not None
    """)  # fmt: skip
    assert out.startswith(
        "plugin_wrong (from wrong-ops): its backward rule must return for `input` a Tensor of shape (2, 3), float32; got " + got
    )


def test_gradients_of_wrong_values_are_found_by_the_check_which_names_the_package(tmp_path: Path) -> None:
    install(tmp_path, "wrong-ops", WRONG.replace("RULE", "upstream * 3.003"))
    out = run(tmp_path, """
        from tinygrad_cv.cli import main
        assert main(["check", "wrong_ops"]) == 1
    """)  # fmt: skip
    assert "FAILED  wrong_ops.plugin_wrong" in out and "plugin_wrong (wrong-ops), check_gradient" in out


KERNEL = PREFACE + """
    def number(draw):
        return call(draw.real((3,)))

    @op("plugin_kernel", domain=number, formula="3 input", kernels={"cpu": "PATH"})
    class plugin_kernel(Op):
        '''Three times input.'''

        def reference(input: Array):
            return input * 3

        def grad_input(upstream):
            return upstream * 3

    from tinygrad_cv.extend import kernel, prange

    @kernel
    def broken(x, out):
        for i in prange(x.size):
            out[i] = x[i].no_such_thing

    def uncompilable(input):
        broken(input, np.empty_like(input))

    def raising(input):
        raise KeyError("a bug")
"""  # fmt: skip


@pytest.mark.parametrize(
    ("function", "problem", "holds"),
    [
        (
            "kernel_ops:uncompilable",
            ", cpu: kernel broken: the cpu kernel does not compile for (float32[3] C, float32[3] C)",
            "no_such_thing",
        ),
        ("kernel_ops:absent", ": its cpu kernel kernel_ops:absent cannot be imported: AttributeError", "absent"),
        ("nowhere:f", ": its cpu kernel nowhere:f cannot be imported: ModuleNotFoundError", "nowhere"),
    ],
    ids=["does not compile", "no such function", "no such module"],
)
def test_a_kernel_that_does_not_compile_is_named_and_can_be_done_without(
    tmp_path: Path, function: str, problem: str, holds: str
) -> None:
    pytest.importorskip("numba")
    install(tmp_path, "kernel-ops", KERNEL.replace("PATH", function))
    out = run(tmp_path, """
        import tinygrad_cv as tg
        from tinygrad_cv.kernels import KernelCompileError
        x = tg.ones(3)
        for _ in range(2):
            try:
                tg.plugin_kernel(x)
            except KernelCompileError as error:
                message = str(error)
        print(message)
        assert tg.conv1d(tg.ones(1, 1, 8), tg.ones(1, 1, 3)).tolist() == [[[3.0] * 6]]
        with tg.kernels.disabled():
            assert tg.plugin_kernel(x).tolist() == [3.0] * 3
        from tinygrad_cv.testing import check_op
        result = check_op("plugin_kernel", raise_exception=False)
        assert not result.passed and "kernel-ops" in result.failure
    """)  # fmt: skip
    assert out.startswith(f"plugin_kernel (from kernel-ops){problem}") and holds in out
    assert out.endswith("TINYGRAD_CV_JIT=0 or `with tg.kernels.disabled():` computes with the NumPy references instead")


def test_an_error_in_a_plugins_kernel_says_whose_it_is(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    install(tmp_path, "kernel-ops", KERNEL.replace("PATH", "kernel_ops:raising"))
    out = run(tmp_path, """
        import tinygrad_cv as tg
        try:
            tg.plugin_kernel(tg.ones(3))
        except KeyError as error:
            print(error, error.__notes__)
    """)  # fmt: skip
    assert out == "'a bug' [\"raised by the cpu kernel of operator 'plugin_kernel' (from kernel-ops)\"]"
