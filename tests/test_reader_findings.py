"""What coverage-guided runs over the readers (benchmarks/fuzz.py) found, kept from coming back."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tinygrad_cv.data.datasets import DatasetError
from tinygrad_cv.data.idx import read_idx


@pytest.mark.parametrize(
    "sizes", [[0xFFFFFFFF] * 7 + [0, 48], [0] + [1] * 70], ids=["huge sizes beside an empty axis", "more axes than NumPy has"]
)
def test_idx_header_that_no_array_can_have(tmp_path: Path, sizes: list[int]) -> None:
    file = tmp_path / "images"
    file.write_bytes(struct.pack(f">4B{len(sizes)}I", 0, 0, 0x0B, len(sizes), *sizes))
    with pytest.raises(DatasetError, match="no array has the shape"):
        read_idx(file)
