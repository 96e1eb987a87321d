"""Weights files: round trips, atomic writes, and every kind of damage."""

import io
import json
import os
import pickle
import struct

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv.files import CheckpointError, load_with_metadata, write_atomically
from tinygrad_cv.train import load_state, save_state


def test_round_trip_keeps_dtype_shape_and_value(tmp_path):
    tensors = {
        "a": tg.randn(2, 3),
        "b": tg.tensor(4.0, dtype=tg.float64),
        "empty": tg.zeros(0, 3),
        "ints": tg.arange(5),
        "mask": tg.tensor([True, False]),
        "view": tg.randn(4, 3).T,
    }
    tg.save(tensors, tmp_path / "w.safetensors", {"note": "äöü", "n": 3})
    back, metadata = load_with_metadata(tmp_path / "w.safetensors")
    assert metadata == {"note": "äöü", "n": 3} and set(back) == set(tensors)
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype and back[name].shape == tensor.shape
        assert np.array_equal(back[name].numpy(), tensor.numpy())
    back["a"].add_(1)  # loaded tensors can be written


def test_other_libraries_read_it(tmp_path):
    from safetensors.numpy import load_file

    tg.save({"w": tg.ones(2)}, tmp_path / "w.safetensors")
    assert load_file(tmp_path / "w.safetensors")["w"].tolist() == [1, 1]


def _valid(tmp_path):
    tg.save({"w": tg.arange(6).reshape(2, 3), "v": tg.ones(3)}, tmp_path / "ok.safetensors")
    return (tmp_path / "ok.safetensors").read_bytes()


def _with_header(header, body=b"\0" * 24):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


DAMAGE = {
    "empty": lambda ok: b"",
    "truncated header": lambda ok: ok[:20],
    "truncated data": lambda ok: ok[:-1],
    "trailing bytes": lambda ok: ok + b"\0",
    "oversized header": lambda ok: struct.pack("<Q", 1 << 62) + ok[8:],
    "header longer than the file": lambda ok: struct.pack("<Q", len(ok)) + ok[8:],
    "header is no JSON": lambda ok: ok[:8] + b"#" * 10 + ok[18:],
    "deeply nested header": lambda ok: struct.pack("<Q", 200_000) + b"[" * 200_000,
    "offsets overlap": lambda ok: _with_header(
        {
            "a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
            "b": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]},
        }
    ),
    "offset outside": lambda ok: _with_header({"a": {"dtype": "F32", "shape": [6], "data_offsets": [0, 999]}}),
    "shape does not fit": lambda ok: _with_header({"a": {"dtype": "F32", "shape": [7], "data_offsets": [0, 24]}}),
    "unknown dtype": lambda ok: _with_header({"a": {"dtype": "Q9", "shape": [6], "data_offsets": [0, 24]}}),
    "bfloat16": lambda ok: _with_header({"a": {"dtype": "BF16", "shape": [12], "data_offsets": [0, 24]}}),
    "pickle": lambda ok: pickle.dumps({"w": 1}, protocol=2),
    "zip (a .pt file)": lambda ok: b"PK\x03\x04" + ok,
    "npy": lambda ok: b"\x93NUMPY" + ok,
    "random bytes": lambda ok: np.random.default_rng(0).bytes(500),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_file_gives_one_named_error(tmp_path, kind):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(DAMAGE[kind](_valid(tmp_path)))
    with pytest.raises(CheckpointError, match=r"broken\.safetensors"):
        tg.load(path)


@pytest.mark.parametrize("seed", range(60))
def test_a_flipped_byte_in_the_header_never_escapes(tmp_path, seed):
    ok = bytearray(_valid(tmp_path))
    rng = np.random.default_rng(seed)
    (header,) = struct.unpack("<Q", ok[:8])
    ok[int(rng.integers(0, 8 + header))] ^= int(rng.integers(1, 256))
    path = tmp_path / "flipped.safetensors"
    path.write_bytes(ok)
    try:
        tensors = tg.load(path)
    except CheckpointError:
        return
    assert all(isinstance(t, tg.Tensor) for t in tensors.values())


def test_a_malicious_pickle_is_refused_unopened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    for name in ("w.pt", "w.pkl", "w.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb(), protocol=4))
        with pytest.raises(CheckpointError):
            tg.load(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_missing_file_and_directory_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        tg.load(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        tg.load(tmp_path)


def test_save_refuses_what_is_no_tensor_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "w.safetensors"
    tg.save({"w": tg.ones(1)}, path)
    with pytest.raises(TypeError, match="/x is a object"):
        tg.save({"w": tg.zeros(1), "x": object()}, path)
    with pytest.raises(TypeError, match=r"save its state_dict\(\), not the Linear"):
        tg.save(tg.nn.Linear(2, 2), path)
    with pytest.raises(TypeError, match="metadata goes with a mapping"):
        tg.save({"w": tg.zeros(1), "x": 3}, path, {"note": 1})
    with pytest.raises(ValueError, match="JSON"):
        tg.save({"w": tg.zeros(1)}, path, {"loss": float("nan")})
    assert tg.load(path)["w"].item() == 1 and os.listdir(tmp_path) == ["w.safetensors"]


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "f"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match=f"cannot write {path}: No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["f"]


def test_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write"):
        tg.save({"w": tg.ones(1)}, tmp_path / "file" / "w.safetensors")


def test_states_keep_nested_structure(tmp_path):
    state = {
        "epoch": 3,
        "groups": [{"lr": 0.1, "params": [0, 1]}, {"lr": 1e-9, "params": []}],
        "state": {0: {"momentum": tg.ones(2)}, 1: {"momentum": tg.zeros(3)}},
        "best": float("inf"),
        "none": None,
        "text": "x",
        "flags": {"a": True},
    }
    save_state(state, tmp_path / "s.safetensors")
    back = load_state(tmp_path / "s.safetensors")
    assert back["state"][0]["momentum"].tolist() == [1, 1] and back["state"][1]["momentum"].tolist() == [0, 0, 0]
    assert {k: v for k, v in back.items() if k != "state"} == {k: v for k, v in state.items() if k != "state"}
    with pytest.raises(TypeError, match="/x is a object"):
        save_state({"x": object()}, tmp_path / "t.safetensors")
    tg.save({"w": tg.ones(1)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        load_state(tmp_path / "w.safetensors")


def test_nested_objects_come_back_as_they_were(tmp_path):
    model = tg.nn.Linear(2, 3)
    optimizer = tg.optim.Adam(model.parameters())
    model(tg.ones(1, 2)).sum().backward()
    optimizer.step()
    saved = {
        "epoch": 3, "model": model.state_dict(), "optimizer": optimizer.state_dict(), "best": float("inf"), "names": ("a", None),
        "a/b": tg.ones(1), "a": {"b": tg.zeros(2)}, 7: [True, 1.5],
    }  # fmt: skip
    tg.save(saved, tmp_path / "state.pt")
    loaded = tg.load(tmp_path / "state.pt", map_location=tg.device("cpu"), weights_only=True)
    assert {k: loaded[k] for k in ("epoch", "best", "names", 7)} == {
        "epoch": 3,
        "best": float("inf"),
        "names": ("a", None),
        7: [True, 1.5],
    }
    assert loaded["a/b"].tolist() == [1.0] and loaded["a"]["b"].tolist() == [0.0, 0.0]
    other = tg.nn.Linear(2, 3)
    other.load_state_dict(loaded["model"])
    assert np.array_equal(other.weight.detach().numpy(), model.weight.detach().numpy())
    again = tg.optim.Adam(other.parameters())
    again.load_state_dict(loaded["optimizer"])
    state = again.state_dict()["state"][0]
    assert state["step"] == 1 and np.array_equal(
        state["exp_avg"].numpy(), optimizer.state_dict()["state"][0]["exp_avg"].numpy()
    )


def test_file_objects_are_written_and_read():
    buffer = io.BytesIO()
    tg.save({"w": tg.arange(3)}, buffer)
    buffer.seek(0)
    assert tg.load(buffer, map_location="cpu", weights_only=False)["w"].tolist() == [0, 1, 2]
    with pytest.raises(tg.CheckpointError, match="truncated"):
        tg.load(io.BytesIO(b"abc"))


def test_load_refuses_what_asks_for_what_is_not_there(tmp_path):
    tg.save({"w": tg.ones(1)}, tmp_path / "w.pt")
    for options, error, message in [
        ({"map_location": "cuda"}, RuntimeError, "cuda"),
        ({"map_location": "gpu"}, ValueError, "unknown device"),
        ({"map_location": lambda storage, place: storage}, TypeError, "files name no device"),
        ({"pickle_module": io}, TypeError, "nothing is ever unpickled"),
        ({"mmap": True}, ValueError, "mmap"),
    ]:
        with pytest.raises(error, match=message):
            tg.load(tmp_path / "w.pt", **options)
