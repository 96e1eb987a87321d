"""Parallel kernels under every threading layer: several Python threads at once, forked children, data loaders after use."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

pytest.importorskip("numba")


def _has_tbb() -> bool:
    return importlib.util.find_spec("numba.np.ufunc.tbbpool") is not None and importlib.util.find_spec("tbb") is not None


LAYERS = ["omp", "workqueue", pytest.param("tbb", marks=pytest.mark.skipif(not _has_tbb(), reason="TBB is not installed"))]

WORK = """
import threading
import numpy as np, tinygrad_cv as tg
from tinygrad_cv import kernels, nn
tg.use_deterministic_algorithms(True)  # parallel kernels even where other programs want the cores
rng = np.random.default_rng(0)
image = rng.standard_normal((8, 4, 32, 32)).astype(np.float32)
weight = rng.standard_normal((8, 4, 3, 3)).astype(np.float32)
def compute():
    x, w = tg.tensor(image, requires_grad=True), tg.tensor(weight, requires_grad=True)
    y = nn.functional.max_pool2d(tg.conv2d(x, w, padding=1).silu(), 2)
    y.log_softmax(1).mean().backward()
    return [y.detach().numpy(), x.grad.numpy(), w.grad.numpy()]
def same(results):
    return all(np.array_equal(a, b) for a, b in zip(results, first))
first = compute()
"""


def run(program: str, layer: str) -> str:
    kept = {k: v for k, v in os.environ.items() if k not in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")}
    environment = {**kept, "NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", WORK + program], capture_output=True, text=True, timeout=300, env=environment, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("layer", LAYERS)
def test_four_python_threads_at_once(layer: str) -> None:
    program = """
right = []
def work():
    right.append(all(same(compute()) for _ in range(8)))
crew = [threading.Thread(target=work) for _ in range(4)]
for thread in crew:
    thread.start()
for thread in crew:
    thread.join()
print(kernels.thread_info()["layer"], right)
"""
    assert run(program, layer).strip() == f"{layer} [True, True, True, True]"


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_after_use(layer: str) -> None:
    program = """
import os, warnings
warnings.simplefilter("ignore")  # Python warns of forking with threads
child = os.fork()
if child == 0:
    os._exit(0 if same(compute()) and tg.get_num_threads() == 1 else 3)
_, status = os.waitpid(child, 0)
print(status, same(compute()))
"""
    assert run(program, layer).strip() == "0 True"


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_worker_processes_of_multiprocessing_after_use(layer: str) -> None:
    """As a data loader of the user's own does it: forked workers that compute, while the parent goes on."""
    program = """
import multiprocessing, warnings
warnings.simplefilter("ignore")
def check(_):
    return same(compute())
with multiprocessing.get_context("fork").Pool(2) as pool:
    answers = pool.map_async(check, range(4))
    here = same(compute())
    print(here, answers.get(timeout=120))
"""
    assert run(program, layer).strip() == "True [True, True, True, True]"


def test_thread_counts_give_the_same_bits() -> None:
    program = """
for n in (1, 2):
    tg.set_num_threads(n)
    print(same(compute()))
with kernels.serial():
    print(same(compute()))
"""
    assert run(program, "default").split() == ["True"] * 3


def test_a_containers_limit_of_processor_time_counts_as_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    from tinygrad_cv.kernels import threads

    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "limit", lambda: 8)
    for quota, expected in ((None, 8), (0.5, 1), (2.0, 2), (2.5, 3), (64.0, 8)):
        monkeypatch.setattr(threads, "cpu_quota", lambda quota=quota: quota)
        monkeypatch.setattr(threads.shared, "default", None)
        monkeypatch.setattr(threads.shared, "requested", None)
        assert threads.get_num_threads() == expected
