"""Where compiled kernels are kept: across processes, without a place to write, without Numba; when sources change."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinygrad_cv.kernels import cache

pytest.importorskip("numba")

WORK = """
import numpy as np, tinygrad_cv as tg
x = np.linspace(-4, 4, 40_000, dtype=np.float32)
y = tg.silu(tg.from_numpy(x)).numpy()
assert np.allclose(y, x / (1 + np.exp(-x)), atol=1e-6)
"""


def run(program: str, home: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh Python. home: its HOME, with no other variable that says where caches go."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TINYGRAD_CV", "XDG_", "NUMBA_", "COVERAGE"))}
    if home is not None:
        kept["HOME"] = str(home)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, env={**kept, **environment}, cwd="/"
    )


def succeed(program: str, home: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    done = run(program, home, **environment)
    assert done.returncode == 0, done.stderr
    return done


def compiled_files(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in folder.glob("*/*.nbc")}


def test_a_second_process_loads_what_the_first_compiled(tmp_path: Path) -> None:
    first = succeed(WORK, TINYGRAD_CV_CACHE=str(tmp_path))
    files = compiled_files(tmp_path)
    assert any(name.startswith("silu-") for name in files)
    (generated,) = tmp_path.glob("*/source/silu_*.py")
    assert "sigmoid" in generated.read_text()
    again = succeed(WORK, TINYGRAD_CV_CACHE=str(tmp_path))
    assert compiled_files(tmp_path) == files
    assert "compiling" not in again.stderr and "Warning" not in first.stderr + again.stderr


def test_without_a_variable_the_cache_is_in_the_platforms_folder(tmp_path: Path) -> None:
    program = "from tinygrad_cv import kernels; print(kernels.cache_info()['path'])"
    if sys.platform == "linux":
        assert succeed(program, tmp_path).stdout.strip() == str(tmp_path / ".cache" / "tinygrad_cv")
    chosen = succeed(program, tmp_path, XDG_CACHE_HOME=str(tmp_path / "xdg"))
    assert chosen.stdout.strip() == str(tmp_path / "xdg" / "tinygrad_cv")


def test_without_a_home_compiled_code_goes_to_temporary_files(tmp_path: Path) -> None:
    done = succeed(WORK, Path(os.devnull), TMPDIR=str(tmp_path))
    (folder,) = tmp_path.glob("tinygrad_cv-*")
    assert compiled_files(folder) and "Warning" not in done.stderr
    if hasattr(os, "getuid"):
        assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX permissions")
def test_a_folder_that_others_may_write_to_is_not_trusted(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    done = succeed(WORK, TINYGRAD_CV_CACHE=str(tmp_path))
    assert "can be written by other users" in done.stderr and not compiled_files(tmp_path)


def test_an_unwritable_cache_costs_one_warning(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    more = (
        WORK
        + "z = tg.gelu(tg.from_numpy(x))\nfrom tinygrad_cv import kernels\nprint(kernels.cache_info(), kernels.clear_cache())"
    )
    done = succeed(more, TINYGRAD_CV_CACHE=str(in_the_way / "cache"))
    assert done.stderr.count("compiled kernels cannot be kept on disk") == 1
    assert done.stdout.strip() == "{'path': None, 'files': 0, 'bytes': 0} 0"


def test_a_disk_that_fills_up_costs_one_warning(tmp_path: Path) -> None:
    program = (
        "import pathlib\nfrom tinygrad_cv.kernels import cache\ncache.directory()\ndef full(*_):\n"
        "    raise OSError(28, 'No space left on device')\npathlib.Path.write_bytes = full\n"
    )
    done = succeed(program + WORK + "z = tg.gelu(tg.from_numpy(x))", TINYGRAD_CV_CACHE=str(tmp_path))
    assert done.stderr.count("RuntimeWarning") == 1 and "No space left" in done.stderr
    assert not list(tmp_path.glob("*/*.part"))


@pytest.mark.parametrize("damage", [b"", b"tinygrad_cv kernel 1\n" + bytes(40), b"\x80\x04garbage"])
def test_a_damaged_entry_is_compiled_anew(damage: bytes, tmp_path: Path) -> None:
    succeed(WORK, TINYGRAD_CV_CACHE=str(tmp_path))
    sizes = {p: p.stat().st_size for p in tmp_path.glob("*/*.nbc")}
    for path in sizes:
        path.write_bytes(damage)
    succeed(WORK, TINYGRAD_CV_CACHE=str(tmp_path))
    assert all(path.stat().st_size > size // 2 for path, size in sizes.items())


def test_processes_that_start_at_once_with_different_types_do_not_mix_up(tmp_path: Path) -> None:
    module = tmp_path / "at_once.py"
    module.write_text(
        "from tinygrad_cv.kernels.jit import kernel\n\n\n@kernel\ndef halve(x, out):\n"
        "    for i in range(x.size):\n        out[i] = x[i] / 2\n"
    )
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport numpy as np\nfrom at_once import halve\n"
        "for kind in ORDER:\n    x = np.arange(1000).astype(kind)\n    out = np.empty(1000)\n    halve(x, out)\n"
        "    assert (out == np.arange(1000) / 2).all(), kind\n"
    )
    kept = {**os.environ, "TINYGRAD_CV_CACHE": str(tmp_path / "cache")}
    orders = (["float32", "int64"], ["int64", "float32"], ["float64", "int32"], ["int32", "float64"])
    for _ in range(2):  # the second round only loads
        crew = [
            subprocess.Popen(
                [sys.executable, "-c", program.replace("ORDER", repr(o))], env=kept, stderr=subprocess.PIPE, text=True
            )
            for o in orders
        ]
        for process in crew:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
    assert len(compiled_files(tmp_path / "cache")) == 4


def test_processes_that_start_at_once_on_an_empty_cache_agree(tmp_path: Path) -> None:
    """Each compiles, or finds, the same kernels; nobody reads half a file, and what is left serves the next process."""
    program = WORK + "import hashlib; print(hashlib.sha256(y.tobytes()).hexdigest())"
    environment = {**os.environ, "TINYGRAD_CV_CACHE": str(tmp_path)}
    crew = [
        subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    answers = set()
    for process in crew:
        answer, errors = process.communicate(timeout=300)
        assert process.returncode == 0 and "Warning" not in errors, errors
        answers.add(answer)
    assert len(answers) == 1
    files = compiled_files(tmp_path)
    assert files and not list(tmp_path.glob("*/*.part"))
    again = succeed(program, TINYGRAD_CV_CACHE=str(tmp_path))
    assert again.stdout in answers and compiled_files(tmp_path) == files


READ_ONLY = """
import os, sys
def watch(event, args):
    wanted = [a for a in args if isinstance(a, (str, os.PathLike))] if event.startswith(("open", "os.")) else []
    writes = event in ("os.mkdir", "os.rename", "os.remove", "os.utime") or event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR)
    if writes and any(os.fspath(a).startswith(FOLDERS) for a in wanted):
        raise OSError(30, "Read-only file system")
sys.addaudithook(watch)
"""


def read_only(*folders: Path) -> str:
    """A program's first lines, after which Python refuses to write in these folders."""
    return READ_ONLY.replace("FOLDERS", repr(tuple(map(str, folders))))


def test_a_folder_that_can_only_be_read_serves_what_it_has(tmp_path: Path) -> None:
    succeed(WORK, TINYGRAD_CV_CACHE=str(tmp_path))
    files = compiled_files(tmp_path)
    quick = "from tinygrad_cv.kernels import jit\njit._SLOW_COMPILE = 0.0\n"
    done = succeed(read_only(tmp_path) + quick + WORK, TINYGRAD_CV_CACHE=str(tmp_path))
    assert done.stderr == "" and compiled_files(tmp_path) == files  # nothing compiled, nothing to warn of
    more = succeed(read_only(tmp_path) + WORK + "z = tg.gelu(tg.from_numpy(x))", TINYGRAD_CV_CACHE=str(tmp_path))
    assert more.stderr.count("compiled kernels cannot be kept on disk") == 1 and compiled_files(tmp_path) == files


def test_an_installation_that_can_only_be_read_and_no_home(tmp_path: Path) -> None:
    """As a system account runs a package that the administrator installed: compiled code goes to a private temporary folder."""
    import tinygrad_cv

    places = [Path(place).resolve() for place in tinygrad_cv.__path__]
    program = read_only(*places, Path("/nonexistent")) + WORK
    done = succeed(program, Path("/nonexistent"), TMPDIR=str(tmp_path), PYTHONDONTWRITEBYTECODE="1")
    (folder,) = tmp_path.glob("tinygrad_cv-*")
    assert compiled_files(folder) and "Warning" not in done.stderr


def test_an_edited_helper_in_another_file_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "main_part.py").write_text(
        "from helper_part import factor\nfrom tinygrad_cv.kernels.jit import kernel\n\n\n"
        "@kernel\ndef scaled(x):\n    return x[0] * factor()\n"
    )
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.dont_write_bytecode = True\nimport numpy as np\n"
        "from main_part import scaled\nprint(scaled(np.ones(1)))"
    )
    for value in (1.5, 2.5):
        (tmp_path / "helper_part.py").write_text(
            f"from tinygrad_cv.kernels.jit import helper\n\n\n@helper\ndef factor():\n    return {value}\n"
        )
        done = succeed(program, TINYGRAD_CV_CACHE=str(tmp_path / "cache"))
        assert float(done.stdout) == value


def test_an_edited_constant_in_another_file_is_noticed(tmp_path: Path) -> None:
    """Reached by name, inside a tuple of helpers, and as an attribute of a module."""
    (tmp_path / "main_part.py").write_text(
        "import other_part\nfrom other_part import RATE, TABLE, ROUTINES\nfrom tinygrad_cv.kernels.jit import kernel\n\n"
        "FIRST = ROUTINES[0]\n\n\n@kernel\ndef scaled(x):\n    return x[0] * RATE + TABLE[0] + other_part.SHIFT + FIRST(x[0])\n"
    )
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.dont_write_bytecode = True\nimport numpy as np\n"
        "from main_part import scaled\nprint(scaled(np.ones(1)))"
    )
    for values in ((1, 0, 0, 0), (2, 0, 0, 0), (2, 10, 0, 0), (2, 10, 100, 0), (2, 10, 100, 1000)):
        rate, entry, shift, more = values
        (tmp_path / "other_part.py").write_text(
            f"import numpy as np\nfrom tinygrad_cv.kernels.jit import helper\n\nRATE, SHIFT = {rate}, {shift}\n"
            f"TABLE = np.array([{entry}.0])\n\n\n@helper\ndef more(x):\n    return {more} * x\n\n\nROUTINES = (more,)\n"
        )
        done = succeed(program, TINYGRAD_CV_CACHE=str(tmp_path / "cache"))
        assert float(done.stdout) == sum(values)


def test_the_key_covers_every_kernel_source_and_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = cache.kernel_sources()
    names = {f"{p.parent.name}/{p.name}" for p in sources}
    assert {"kernels/math32.py", "kernels/jit.py", "cpu/softmax.py", "cpu/optimizer.py"} <= names
    edited = tmp_path / "math32.py"
    original = next(p for p in sources if p.name == "math32.py")
    keys = []
    for text in (original.read_text(), original.read_text() + "\n# edited\n"):
        edited.write_text(text)
        monkeypatch.setattr(cache, "kernel_sources", lambda: [edited if p.name == "math32.py" else p for p in sources])
        keys.append(cache.environment_key.__wrapped__())
    monkeypatch.undo()
    keys.append(cache.environment_key.__wrapped__())
    assert keys[0] == keys[2] != keys[1]
    other = "from tinygrad_cv.kernels import cache; print(cache.environment_key())"
    assert succeed(other).stdout.strip() == keys[0]
    assert succeed(other, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="").stdout.strip() != keys[0]


def test_a_loop_is_compiled_once_for_any_number_of_threads(tmp_path: Path) -> None:
    program = WORK + "from tinygrad_cv import kernels\nwith kernels.serial():\n    tg.silu(tg.from_numpy(x))"
    succeed(program, TINYGRAD_CV_CACHE=str(tmp_path), NUMBA_NUM_THREADS="2")
    compiled = [name.rpartition("-")[0] for name in compiled_files(tmp_path)]
    assert sorted(n for n in compiled if not n.startswith("region")) == ["silu-shared"]
    assert compiled.count("region-parallel") <= 1  # none where another program had the cores


def test_parallel_and_serial_code_of_another_form_do_not_share_an_entry(tmp_path: Path) -> None:
    (tmp_path / "with_result.py").write_text(
        "from tinygrad_cv.kernels.jit import kernel, prange\n\n\n@kernel\ndef ramp(out):\n"
        "    for i in prange(out.size):\n        out[i] = i\n    return out.size\n"
    )
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport numpy as np\nfrom with_result import ramp\n"
        "from tinygrad_cv import use_deterministic_algorithms\nuse_deterministic_algorithms(True)\n"
        "for run in (ramp, ramp.serial):\n    out = np.zeros(1000)\n    assert run(out) == 1000 and (out == np.arange(1000)).all()\n"
    )
    succeed(program, TINYGRAD_CV_CACHE=str(tmp_path / "cache"), NUMBA_NUM_THREADS="2")
    assert sorted(name.split("-")[1] for name in compiled_files(tmp_path / "cache")) == ["parallel", "serial"]


def test_a_users_own_numba_functions_are_left_alone(tmp_path: Path) -> None:
    program = (
        "import numba\nbefore = numba.config.CACHE_DIR\n" + WORK + "assert numba.config.CACHE_DIR == before\n"
        "@numba.njit\ndef f(a):\n    return a / 2\nassert f(3) == 1.5 and f.stats.cache_path is None"
    )
    succeed(program, TINYGRAD_CV_CACHE=str(tmp_path))


def test_a_slow_compilation_says_so_once(tmp_path: Path) -> None:
    program = "from tinygrad_cv.kernels import jit\njit._SLOW_COMPILE = 0.0\n" + WORK
    first = succeed(program, TINYGRAD_CV_CACHE=str(tmp_path))
    said = "tinygrad_cv: compiling {} (first use; cached afterwards)"
    assert said.format("silu") in first.stderr and set(first.stderr.splitlines()) <= {
        said.format("silu"),
        said.format("region"),
    }
    assert succeed(program, TINYGRAD_CV_CACHE=str(tmp_path)).stderr == ""


def test_cache_info_clear_cache_and_warmup(tmp_path: Path) -> None:
    program = (
        "from tinygrad_cv import kernels\nseen = []\n"
        "print(kernels.warmup(['silu', 'gt'], lambda *step: seen.append(step)))\nprint(seen)\n"
        "info = kernels.cache_info()\nprint(info['files'] > 0, info['bytes'] > 1000)\n"
        "print(kernels.clear_cache() >= info['bytes'], kernels.cache_info()['files'])\n"
    ) + WORK  # and kernels in memory still work
    lines = succeed(program, TINYGRAD_CV_CACHE=str(tmp_path)).stdout.splitlines()
    assert lines[0] == "['silu', 'gt']" and lines[1] == "[('silu', 0, 2), ('gt', 1, 2)]"
    assert lines[2:] == ["True True", "True 0"]


BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name == "numba" or name.startswith("numba."):
            raise ImportError("numba is blocked")
sys.meta_path.insert(0, Blocker())
"""
TRAINING = """
import numpy as np, tinygrad_cv as tg
x = tg.tensor(np.linspace(-4, 4, 40_000, dtype=np.float32), requires_grad=True)
y = tg.silu(x)
y = y + tg.gelu(x)
tg.cross_entropy(y.reshape(400, 100), tg.arange(400) % 100).backward()
assert x.grad.shape == (40_000,)
"""


def test_without_numba_one_warning_and_the_same_results(tmp_path: Path) -> None:
    done = succeed(BLOCKER + WORK + TRAINING, TINYGRAD_CV_CACHE=str(tmp_path))
    assert done.stderr.count("Numba could not be imported") == 1 and "numba is blocked" in done.stderr
    assert done.stderr.count("RuntimeWarning") == 1
    program = BLOCKER + "from tinygrad_cv import kernels\nprint(kernels.warmup(['silu']), kernels.thread_info()['layer'])"
    assert succeed(program, TINYGRAD_CV_CACHE=str(tmp_path)).stdout.strip() == "[] None"


def test_the_jit_can_be_switched_off(tmp_path: Path) -> None:
    done = succeed(
        WORK + TRAINING + "import sys\nassert 'numba' not in sys.modules", TINYGRAD_CV_CACHE=str(tmp_path), TINYGRAD_CV_JIT="0"
    )
    assert done.stderr == "" and not list(tmp_path.iterdir())


def test_importing_the_package_imports_no_numba() -> None:
    succeed(
        "import sys, tinygrad_cv, tinygrad_cv.kernels as k; k.get_num_threads(); k.cache_info(); assert 'numba' not in sys.modules"
    )
