"""Where compiled kernels are kept between processes.

    <root>/<version>-<environment>/<kernel>-<variant>-<key>.nbc       compiled code, one file for each kernel and signature
    <root>/<version>-<environment>/source/<operator>-<key>.py         generated kernels, for reading

root: the environment variable TINYGRAD_CV_CACHE, else the platform's cache folder, else a private folder among the temporary
files. environment: a hash of everything that compiled code depends on besides the kernel: Numba, Python, the processor and
all sources under kernels/ and ops/cpu/. key: a hash of the kernel's own source file, its signature and options.

Numba's own cache is not used: its index does not see edits in helper modules, ignores compiler flags, and two processes that
compile different signatures of one function at the same time can leave one's code under the other's name. Here a file is named
by what is in it, written under another name and moved into place, and checked when read; so any number of processes
may start at once. Code is unpickled only from folders that nobody else may write to. A folder that can only be read, as an image of a
machine may bring along, serves what is in it; what is missing there goes to the next place, or is compiled by every process.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from .._version import __version__

_MAGIC = b"tinygrad_cv kernel 1\n"
_STALE_DAYS = 60
_warned = False
_problem: Exception | None = None  # why the first choice of a folder cannot be written


def warn_once(problem: object) -> None:
    """Says, once in a process, that compiled kernels are not kept."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"compiled kernels cannot be kept on disk ({problem}): every process compiles anew; point TINYGRAD_CV_CACHE to a "
            "folder that can be written",
            RuntimeWarning,
            stacklevel=3,
        )


def _candidates() -> Iterator[Path]:
    chosen = os.environ.get("TINYGRAD_CV_CACHE")
    if chosen:
        yield Path(chosen).expanduser() if not chosen.startswith("~") or "HOME" in os.environ else Path(chosen)
        return
    xdg = os.environ.get("XDG_CACHE_HOME")
    if xdg and os.path.isabs(xdg):
        yield Path(xdg) / "tinygrad_cv"
    else:
        home = os.path.expanduser("~")
        if os.path.isabs(home):
            if sys.platform == "darwin":
                yield Path(home) / "Library" / "Caches" / "tinygrad_cv"
            elif sys.platform == "win32":
                yield Path(os.environ.get("LOCALAPPDATA") or Path(home) / "AppData" / "Local") / "tinygrad_cv" / "cache"
            else:
                yield Path(home) / ".cache" / "tinygrad_cv"
    import tempfile

    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    yield Path(tempfile.gettempdir()) / f"tinygrad_cv-{user}"


def _trusted(folder: Path) -> bool:
    """Whether nobody but the user and the administrator may write to `folder`. OSError if it is not there."""
    if not hasattr(os, "getuid"):
        return folder.is_dir()
    info = os.stat(folder)
    return info.st_uid in (os.getuid(), 0) and not info.st_mode & stat.S_IWOTH


def _usable(folder: Path) -> None:
    """Makes `folder`, private to the user, and tries it; raises OSError where that fails or somebody else could write there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _trusted(folder):
        raise PermissionError(f"{folder} can be written by other users")
    probe = folder / f".probe-{os.urandom(6).hex()}"
    probe.write_bytes(b"")
    probe.unlink()


@functools.lru_cache(maxsize=1)
def root() -> Path | None:
    """The cache folder of this process, or None where no place can be written."""
    global _problem
    for folder in _candidates():
        try:
            _usable(folder)
            return folder
        except OSError as error:
            _problem = _problem or error
    return None


def kernel_sources() -> list[Path]:
    """All files whose text may end up in compiled code: kernels/ and ops/cpu/."""
    here = Path(__file__).resolve().parent
    folders = [here]
    ops = sys.modules.get("tinygrad_cv.ops")
    if ops is not None and ops.__file__:
        folders.append(Path(ops.__file__).resolve().parent / "cpu")
    return sorted((p for folder in folders for p in folder.glob("*.py")), key=lambda p: (p.parent.name, p.name))


@functools.lru_cache(maxsize=1)
def environment_key() -> str:
    """A hash of Numba, LLVM, Python, the processor and the sources of all kernels."""
    import llvmlite
    import llvmlite.binding
    import numba

    digest = hashlib.sha256()
    config: Any = numba.config
    features = config.CPU_FEATURES or llvmlite.binding.get_host_cpu_features().flatten()
    processor = config.CPU_NAME or llvmlite.binding.get_host_cpu_name()
    vectors = os.environ.get("TINYGRAD_CV_VECTOR", "")  # the width that `vector` was told to use
    facts = (__version__, numba.__version__, llvmlite.__version__, sys.version, sys.platform, processor, features, vectors)
    digest.update(repr(facts).encode())
    for path in kernel_sources():
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _subfolder() -> str:
    return f"{__version__}-{environment_key()}"


@functools.lru_cache(maxsize=1)
def _places() -> tuple[Path, ...]:
    """Where compiled code for this version may lie: the folder of this process, then others that it can only read."""
    places = [own] if (own := directory()) is not None else []
    for top in _candidates():
        with suppress(OSError):
            folder = top / _subfolder()
            if folder not in places and _trusted(top) and _trusted(folder):
                places.append(folder)
    return tuple(places)


@functools.lru_cache(maxsize=1)
def directory() -> Path | None:
    """The folder for this version, made if need be; folders of other versions that nobody used for 60 days are removed."""
    top = root()
    if top is None:
        return None
    folder = top / _subfolder()
    try:
        fresh = not folder.exists()
        (folder / "source").mkdir(mode=0o700, parents=True, exist_ok=True)
        os.utime(folder)
    except OSError as error:
        warn_once(error)
        return None
    if fresh:
        _remove_stale(top)
    return folder


def _remove_stale(top: Path) -> None:
    import shutil

    limit = time.time() - _STALE_DAYS * 86400
    for folder in top.glob("*-*"):
        with suppress(OSError):
            if folder.stat().st_mtime < limit and (folder / "source").is_dir():
                shutil.rmtree(folder, ignore_errors=True)


def write(path: Path, content: bytes) -> None:
    """Writes a file so that readers see all of it or nothing. A failure costs one warning."""
    partial = path.with_name(f"{path.name}.{os.urandom(6).hex()}.part")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        if not path.exists():  # on Windows another process may hold the finished file open: then all is well
            warn_once(error)


def store(name: str, payload: bytes) -> None:
    """Keeps compiled code under `name`, with a digest in front. Costs one warning where that is impossible."""
    folder = directory()
    if folder is None:
        warn_once(_problem)
    else:
        write(folder / name, _MAGIC + hashlib.sha256(payload).digest() + payload)


def load(name: str) -> bytes | None:
    """Compiled code as stored, or None where the file is missing or damaged."""
    start = len(_MAGIC) + 32
    for folder in _places():
        try:
            content = (folder / name).read_bytes()
        except OSError:
            continue
        payload = content[start:]
        if content[:start] == _MAGIC + hashlib.sha256(payload).digest():
            return payload
    return None


def cache_info() -> dict[str, Any]:
    """path: the cache folder (None if there is no place for one); files, bytes: of compiled code, all versions together."""
    top = root()
    files = sorted(top.glob("*/*.nbc")) if top is not None else []
    sizes = []
    for path in files:
        with suppress(OSError):
            sizes.append(path.stat().st_size)
    return {"path": None if top is None else str(top), "files": len(sizes), "bytes": sum(sizes)}


def clear_cache() -> int:
    """Removes compiled and generated kernels of all versions from disk; returns the number of bytes freed.

    Kernels that this process has loaded stay usable.
    """
    import shutil

    top = root()
    freed = 0
    if top is not None:
        for folder in top.glob("*-*"):
            if (folder / "source").is_dir():
                freed += sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
                shutil.rmtree(folder, ignore_errors=True)
        directory.cache_clear()
        _places.cache_clear()
    return freed
