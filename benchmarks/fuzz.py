"""A coverage-guided run over what reads bytes from outside: file readers and the expression parser. Needs `pip install atheris`.

    python benchmarks/fuzz.py --seconds 600              every target in turn, so many seconds altogether
    python benchmarks/fuzz.py idx expression --seconds 60 --folder fuzz

libFuzzer (Serebryany, "Continuous fuzzing with libFuzzer and AddressSanitizer", SecDev 2016) mutates inputs so that they reach new
branches of the instrumented modules, starting from valid ones. A target may raise the errors that its function promises; anything else,
a call of more than a minute or 2 GiB is a crash: it is kept in the folder with its traceback, and the run goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MODULES = {
    "idx": ["tinygrad_cv.data.idx"],
    "cifar": ["tinygrad_cv.data.cifar"],
    "image": ["tinygrad_cv.data.datasets"],
    "weights": ["tinygrad_cv.files"],
    "checkpoint": ["tinygrad_cv.files", "tinygrad_cv.train.checkpoint"],
    "expression": ["tinygrad_cv.expressions", "tinygrad_cv.expression_parser"],
}
Target = tuple[Callable[[bytes], Any], tuple[type[BaseException], ...], list[bytes]]


@contextmanager
def _as_file(data: bytes, suffix: str = "") -> Iterator[str]:
    """A file of these bytes, in memory where the system has such a folder."""
    path = os.path.join(_SCRATCH, f"input{suffix}")
    with open(path, "wb") as file:
        file.write(data)
    yield path


_SCRATCH = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None, prefix="fuzz-")


def _written(write: Callable[[str], Any], suffix: str = "") -> bytes:
    path = Path(_SCRATCH) / f"seed{suffix}"
    write(str(path))
    return path.read_bytes()


def idx() -> Target:
    """`read_idx` on files, gzipped or not."""
    import gzip

    import numpy as np

    from tinygrad_cv.data.datasets import DatasetError
    from tinygrad_cv.data.idx import read_idx, write_idx

    plain = [_written(lambda p, a=a: write_idx(p, a)) for a in (np.zeros((2, 3), np.uint8), np.ones(4), np.zeros((), np.int16))]
    return lambda data: _read(read_idx, data), (DatasetError,), [*plain, gzip.compress(plain[0], mtime=0)]


def _read(function: Callable[[str], Any], data: bytes, suffix: str = "") -> Any:
    with _as_file(data, suffix) as path:
        return function(path)


def cifar() -> Target:
    """`read_cifar`, with one and two label bytes as the first byte says."""
    from tinygrad_cv.data.cifar import read_cifar
    from tinygrad_cv.data.datasets import DatasetError

    def one(data: bytes) -> None:
        _read(lambda path: read_cifar(path, 1 + (data[:1] > b"\x7f")), data[1:])

    return one, (DatasetError,), [b"\0\1" + bytes(3072), b"\xff\1\1" + bytes(3072), b"\0" + bytes(10)]


def image() -> Target:
    """`read_image` on what the plain readers and Pillow take, or refuse."""
    import numpy as np

    from tinygrad_cv.data.datasets import DatasetError, read_image

    seeds = [b"P5 2 2 255\n" + bytes(4), b"P6 1 2 255\n" + bytes(6)]
    try:
        from PIL import Image

        for kind in ("PNG", "BMP", "GIF", "JPEG"):
            file = io.BytesIO()
            Image.fromarray(np.zeros((3, 2, 3), np.uint8)).save(file, kind)
            seeds.append(file.getvalue())
    except ImportError:
        pass
    return lambda data: _read(lambda path: read_image(path, (4, 4)), data, ".png"), (DatasetError,), seeds


def weights() -> Target:
    """`load` of safetensors files: plain weights and nested objects."""
    import numpy as np

    from tinygrad_cv.files import CheckpointError, load, save

    seeds = []
    for value in (
        {"a": np.zeros((2, 3), np.float32), "b": np.arange(3)},
        {"epoch": 3, "model": {"w": np.ones(2)}, "l": [1, "x", None]},
    ):
        file = io.BytesIO()
        save(value, file)
        seeds.append(file.getvalue())
    return lambda data: load(io.BytesIO(data)), (CheckpointError,), seeds


def checkpoint() -> Target:
    """`load_state` of a training run's checkpoint."""
    import numpy as np

    from tinygrad_cv.files import CheckpointError
    from tinygrad_cv.train.checkpoint import load_state, save_state

    seed = _written(lambda path: save_state({"model": {"w": np.ones(2)}, "epoch": 1, "history": []}, path))
    return lambda data: _read(load_state, data), (CheckpointError,), [seed]


def expression() -> Target:
    """`parse` of any text, and the value of what it accepts."""
    from tinygrad_cv.expressions import ExpressionError, parse

    def one(data: bytes) -> None:
        parsed = parse(data.decode(errors="replace")[:2000])
        if len(parsed.variables) <= 8:
            parsed.evaluate(dict.fromkeys(parsed.variables, 0.5))

    texts = [
        "a * b + c",
        "y = tanh(w*x + b); (y - 1)**2 / 2",
        "max(x, -2) if_ x",
        "softplus(x, beta=2.0)",
        "-x ** -2e-3 % 3 // 1",
        "ln(pi)",
    ]
    return one, (ExpressionError,), [t.encode() for t in texts]


TARGETS: dict[str, Callable[[], Target]] = {
    "idx": idx, "cifar": cifar, "image": image, "weights": weights, "checkpoint": checkpoint, "expression": expression,
}  # fmt: skip


def fuzz(name: str, folder: Path, seconds: int) -> None:
    """Runs one target in this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=MODULES[name]):
        run, allowed, seeds = TARGETS[name]()
    corpus, crashes = folder / name / "corpus", folder / name / "crashes"
    for place in (corpus, crashes):
        place.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(seeds):
        (corpus / f"seed-{i}").write_bytes(seed)
    known = {p.name for p in crashes.glob("*.txt")}

    def one(data: bytes) -> None:
        try:
            run(data)
        except allowed:
            pass
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            mark = hashlib.sha1(f"{type(error).__name__} {last.filename} {last.lineno}".encode()).hexdigest()[:12]
            if f"{mark}.txt" not in known:
                known.add(f"{mark}.txt")
                (crashes / f"{mark}.bin").write_bytes(data)
                (crashes / f"{mark}.txt").write_text(f"{data!r}\n\n{traceback.format_exc()}")

    options = [
        f"-max_total_time={seconds}",
        "-timeout=60",
        "-rss_limit_mb=2048",
        "-max_len=8192",
        f"-artifact_prefix={crashes}/",
        "-seed=1",
    ]
    atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", str(corpus)], one)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=600, help="altogether (default: 600)")
    parser.add_argument("--folder", type=Path, default=Path("fuzz"), help="corpora and crashes (default: fuzz)")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        fuzz(options.inside, options.folder, options.seconds)
        return 0
    try:
        import atheris  # noqa: F401
    except ImportError as error:
        print(f"fuzz: atheris is missing ({error}); pip install atheris", file=sys.stderr)
        return 2
    unknown = sorted(set(options.targets) - set(TARGETS))
    if unknown:
        parser.error(f"unknown targets {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    names = options.targets or list(TARGETS)
    found = 0
    for name in names:
        start = time.monotonic()
        command = [
            sys.executable,
            __file__,
            "--inside",
            name,
            "--folder",
            str(options.folder),
            "--seconds",
            str(options.seconds // len(names)),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        runs = re.findall(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
        covered = re.findall(r"cov: (\d+)", done.stderr)
        crashes = sorted((options.folder / name / "crashes").glob("*"))
        kept = [p for p in crashes if p.suffix != ".bin"]
        found += len(kept)
        row = {
            "target": name, "seconds": round(time.monotonic() - start), "inputs": int(runs[-1]) if runs else None,
            "branches": int(covered[-1]) if covered else None, "crashes": [p.name for p in kept],
        }  # fmt: skip
        print(json.dumps(row), flush=True)
        if not runs:
            print(done.stderr[-1500:], file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
