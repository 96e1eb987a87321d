"""CPU kernels. Modules that import Numba are loaded at an operator's first use, by path; gemm.py is the one seam to BLAS."""
