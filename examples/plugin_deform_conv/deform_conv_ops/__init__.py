"""Deformable convolution for tinygrad_cv, which finds this package by its entry point."""

from tinygrad_cv.extend import require_api

require_api(1)

from . import convolution, sampling  # noqa: E402, F401
