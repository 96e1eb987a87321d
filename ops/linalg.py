"""Linear algebra on (batches of) matrices, through NumPy and LAPACK."""


class LinAlgError(RuntimeError):
    """A matrix does not allow what was asked of it: it is singular, or not positive definite."""
