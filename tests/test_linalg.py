"""Matrix products, einsum and factorisations against NumPy, PyTorch and their defining equations."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_cv as tg


def random(*shape, seed=0):
    """Normal numbers in float64."""
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def leaf(array):
    """A float64 leaf that wants a gradient."""
    return tg.tensor(np.array(array, np.float64), requires_grad=True)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 4), (4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)),
        ((3, 4), (2, 4, 5)),
        ((6, 1, 3, 4), (2, 4, 5)), ((4,), (2, 4, 5)), ((2, 3, 4), (4,)), ((0, 4), (4, 5)), ((3, 0), (0, 5)),
        ((2, 0, 3, 4), (4, 5)),
    ],
)  # fmt: skip
def test_matmul_and_its_gradients_agree_with_pytorch(a, b):
    torch = pytest.importorskip("torch")
    x, y = random(*a), random(*b, seed=1)
    ours, theirs = (leaf(x), leaf(y)), tuple(torch.tensor(v, requires_grad=True) for v in (x, y))
    out, expected = ours[0] @ ours[1], theirs[0] @ theirs[1]
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy())
    upstream = random(*out.shape, seed=2)
    out.backward(tg.tensor(upstream))
    expected.backward(torch.tensor(upstream))
    for mine, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.grad.numpy(), their.grad.numpy())


def test_matmul_of_integers_and_strided_operands():
    assert (tg.tensor([[1, 2], [3, 4]]) @ tg.tensor([5, 6])).tolist() == [17, 39]
    x = random(6, 8).astype(np.float32)
    y = random(8, 6, seed=1).astype(np.float32)
    got = tg.tensor(x)[::2, ::-1] @ tg.tensor(y).mT.mT[:, 1::2]
    np.testing.assert_allclose(got.numpy(), x[::2, ::-1] @ y[:, 1::2], rtol=1e-5)
    stretched = tg.ones(1, 8).expand(6, 8) @ tg.tensor(y)
    np.testing.assert_allclose(stretched.numpy(), np.ones((6, 8), np.float32) @ y, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: tg.zeros(2, 3) @ tg.zeros(4, 5), ValueError,
         r"matmul: shapes \(2, 3\) and \(4, 5\) do not fit: axis -1 of `input` has size 3, axis -2 of `other` has size 4"),
        (lambda: tg.zeros(2, 3) @ tg.zeros(()), ValueError, "matmul: operands need at least one axis"),
        (lambda: tg.zeros(2, 3, 4) @ tg.zeros(3, 4, 5), ValueError, r"matmul: the leading axes .* do not broadcast: 2 and 3"),
        (lambda: tg.zeros(2, 3) @ tg.zeros(3, 5, dtype=tg.float64), TypeError,
         "matmul: expected one dtype, got input float32, other float64"),
        (lambda: tg.mm(tg.zeros(2, 3), tg.zeros(3)), ValueError, r"mm: expected input \(n, k\), mat2 \(k, m\)"),
        (lambda: tg.bmm(tg.zeros(2, 3, 4), tg.zeros(3, 4, 5)), ValueError, "bmm: expected"),
        (lambda: tg.dot(tg.zeros(2), tg.zeros(3)), ValueError, "dot: expected"),
        (lambda: tg.linear(tg.zeros(2, 3), tg.zeros(4, 5)), ValueError,
         r"linear: input of shape \(2, 3\) does not fit weight of shape \(4, 5\)"),
        (lambda: tg.linear(tg.zeros(2, 3), tg.zeros(4, 3), tg.zeros(3)), ValueError,
         r"linear: bias has shape \(3,\), expected \(4,\)"),
        (lambda: tg.einsum("ij,jk->il", tg.zeros(2, 3), tg.zeros(3, 4)), ValueError, "einsum: .*no operand has the label 'l'"),
        (lambda: tg.einsum("ij,jk", tg.zeros(2, 3), tg.zeros(4, 4)), ValueError, "einsum: .*label 'j' has sizes 3 and 4"),
        (lambda: tg.einsum("ij", tg.zeros(2, 3), tg.zeros(3)), ValueError, "einsum: .*1 terms but 2 operands"),
        (lambda: tg.einsum("ijk", tg.zeros(2, 3)), ValueError, "einsum: .*does not name the 2 axes"),
        (lambda: tg.einsum(tg.zeros(2, 3), [0, 52]), ValueError, r"einsum: labels must be integers in \[0, 52\)"),
        (lambda: tg.einsum(tg.zeros(2, 3)), ValueError, "einsum: expected an equation and Tensors"),
        (lambda: tg.tensordot(tg.zeros(2, 3), tg.zeros(4, 5), 1), ValueError, "tensordot: axis 1 of a"),
        (lambda: tg.addmm(tg.zeros(3, 3), tg.zeros(2, 3), tg.zeros(3, 4)), ValueError,
         r"addmm: `input` of shape \(3, 3\) does not broadcast"),
        (lambda: tg.linalg.inv(tg.zeros(2, 3)), ValueError,
         r"linalg.inv: expected square matrices \(..., n, n\), got shape \(2, 3\)"),
        (lambda: tg.linalg.det(tg.zeros(2, 2, dtype=tg.int64)), TypeError, "linalg.det: expected a floating tensor"),
        (lambda: tg.linalg.multi_dot([tg.zeros(2, 3), tg.zeros(4, 5)]), ValueError, "linalg.multi_dot: tensors 0 and 1"),
        (lambda: tg.zeros(3).trace(), ValueError, r"trace: expected a matrix, got shape \(3,\)"),
        (lambda: tg.linalg.matrix_norm(tg.zeros(2, 2), "max"), ValueError, "linalg.matrix_norm: ord must be one of"),
    ],
)  # fmt: skip
def test_errors_name_operator_and_shapes(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_linear_is_one_node_and_three_products():
    x, w, b = leaf(random(5, 3)), leaf(random(4, 3, seed=1)), leaf(random(4, seed=2))
    out = tg.nn.functional.linear(x, w, b) if hasattr(tg.nn, "functional") else tg.linear(x, w, b)
    assert out.grad_fn.name() == "linear"
    assert [p for p, _ in out.grad_fn.next_functions] == [x, w, b]
    upstream = random(5, 4, seed=3)
    out.backward(tg.tensor(upstream))
    np.testing.assert_allclose(out.detach().numpy(), x.detach().numpy() @ w.detach().numpy().T + b.detach().numpy())
    np.testing.assert_allclose(x.grad.numpy(), upstream @ w.detach().numpy())
    np.testing.assert_allclose(w.grad.numpy(), upstream.T @ x.detach().numpy())
    np.testing.assert_allclose(b.grad.numpy(), upstream.sum(0))


def test_addmm_does_not_read_its_input_where_beta_is_zero():
    poisoned = tg.full((2, 4), float("nan"), requires_grad=True)
    out = tg.addmm(poisoned, tg.ones(2, 3), tg.ones(3, 4), beta=0)
    assert out.tolist() == [[3.0] * 4] * 2
    out.sum().backward()
    assert poisoned.grad.tolist() == [[0.0] * 4] * 2


EQUATIONS = [
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)), ("ji,kj", (2, 3), (4, 2)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("bhij,bhjk->bhik", (2, 2, 3, 4), (2, 2, 4, 5)), ("i,j->ij", (2,), (3,)), ("i,j->", (2,), (3,)), ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("iij->j", (3, 3, 2)), ("iii->i", (2, 2, 2)), ("ij->ji", (2, 3)), ("ij->", (2, 3)), ("ij->j", (2, 3)),
    ("...ij,...jk->...ik", (2, 3, 4), (2, 4, 5)),
    ("...ij,jk->...ik", (6, 2, 3, 4), (4, 5)), ("...,...->...", (2, 1, 3), (4, 1)), ("i...->...", (2, 3)), ("...", (2, 3)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)), ("bi,bj,bk->bijk", (2, 3), (2, 4), (2, 5)),
    ("ijk,ilm,njm,nlk,abc->", (2,) * 3, (2,) * 3, (2,) * 3, (2,) * 3, (2,) * 3),
    ("abcd,bd->ac", (2, 3, 4, 5), (3, 5)), ("iji,j->i", (2, 3, 2), (3,)), (",ij->ij", (), (2, 3)),
    ("Ba,aB->a", (2, 3), (3, 2)), ("zBa,a", (2, 2, 3), (3,)),
    ("ij,jk->ik", (2, 1), (3, 4)), ("ij , jk -> ik", (2, 3), (3, 4)), ("ij,ij->ij", (1, 3), (2, 3)),
    ("ij,jk->ik", (0, 3), (3, 4)), ("ij,jk->ik", (2, 0), (0, 4)),
]  # fmt: skip


@pytest.mark.parametrize(("equation", "shapes"), [(e, s) for e, *s in EQUATIONS])
def test_einsum_values_and_gradients_agree_with_pytorch(equation, shapes):
    torch = pytest.importorskip("torch")
    arrays = [random(*s, seed=i) for i, s in enumerate(shapes)]
    ours, theirs = [leaf(a) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    out, expected = tg.einsum(equation, *ours), torch.einsum(equation, *theirs)
    assert out.shape == tuple(expected.shape)
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), atol=1e-12)
    upstream = np.asarray(random(*out.shape, seed=9))
    out.backward(tg.tensor(upstream))
    expected.backward(torch.tensor(upstream))
    for mine, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.grad.numpy(), their.grad.numpy(), atol=1e-12)


@pytest.mark.parametrize(
    "arguments",
    [
        lambda x, y: (x, [0, 1], y, [1, 2], [0, 2]),
        lambda x, y: (x, (30, 1), y, (1, 5)),  # the result in the order of the labels: 5, 30
        lambda x, y: (x, [..., 26], y, [26, 25], [..., 25]),
        lambda x, y: (x, [0, 1], y, [1, 2], []),
        lambda x, y: (x, [7, 3], [3, 7]),
        lambda x, y: (x, [...]),
    ],
)
def test_einsum_takes_labels_as_lists(arguments):
    torch = pytest.importorskip("torch")
    x, y = random(2, 3), random(3, 4)
    ours, theirs = (leaf(x), leaf(y)), tuple(torch.tensor(v, requires_grad=True) for v in (x, y))
    out, expected = tg.einsum(*arguments(*ours)), torch.einsum(*arguments(*theirs))
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy())
    upstream = random(*out.shape, seed=2)
    out.backward(tg.tensor(upstream))
    expected.backward(torch.tensor(upstream))
    for mine, their in zip(ours, theirs, strict=True):
        assert (mine.grad is None) == (their.grad is None)
        if mine.grad is not None:
            np.testing.assert_allclose(mine.grad.numpy(), their.grad.numpy())


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (0, 4)])
def test_linear_with_a_vector_of_weights_gives_a_number_for_each_row(shape):
    x, w, b = leaf(random(*shape)), leaf(random(4)), leaf(0.5)
    out = tg.linear(x, w, b)
    np.testing.assert_allclose(out.detach().numpy(), x.detach().numpy() @ w.detach().numpy() + 0.5)
    upstream = random(*shape[:-1], seed=3)
    out.backward(tg.tensor(upstream))
    np.testing.assert_allclose(x.grad.numpy(), upstream[..., None] * w.detach().numpy())
    np.testing.assert_allclose(w.grad.numpy(), upstream.reshape(-1) @ x.detach().numpy().reshape(-1, 4), atol=1e-12)
    np.testing.assert_allclose(b.grad.numpy(), upstream.sum())
    assert tg.linear(x, w).shape == shape[:-1]
    with pytest.raises(ValueError, match=r"linear: bias has shape \(1,\), expected \(\)"):
        tg.linear(x, w, leaf([1.0]))


def test_einsum_takes_a_list_and_shares_no_memory():
    x, y = tg.ones(2, 3), tg.ones(3)
    assert tg.einsum("ij,j->i", [x, y]).tolist() == [3, 3]
    copy = tg.einsum("ij->ij", x)
    copy += 1
    assert x.tolist() == [[1.0] * 3] * 2


def test_tensordot_inner_kron_and_cross_agree_with_numpy():
    a, b = random(2, 3, 4), random(4, 3, 5, seed=1)
    np.testing.assert_allclose(
        tg.tensordot(tg.tensor(a), tg.tensor(b), ([1, 2], [1, 0])).numpy(), np.tensordot(a, b, ([1, 2], [1, 0]))
    )
    np.testing.assert_allclose(tg.tensordot(tg.tensor(a), tg.tensor(b), 1).numpy(), np.tensordot(a, b, 1))
    np.testing.assert_allclose(tg.tensordot(tg.tensor(a), tg.tensor(b), 0).numpy(), np.tensordot(a, b, 0))
    np.testing.assert_allclose(tg.inner(tg.tensor(a), tg.tensor(b[..., :4])).numpy(), np.inner(a, b[..., :4]))
    np.testing.assert_allclose(tg.kron(tg.tensor(a), tg.tensor(b[0])).numpy(), np.kron(a, b[0]))
    np.testing.assert_allclose(tg.linalg.cross(tg.tensor(a[0]), tg.tensor(a[1]), dim=0).numpy(), np.cross(a[0], a[1], axis=0))


def test_diagonal_is_a_writable_view():
    x = tg.zeros(3, 4)
    x.diagonal(1).copy_(tg.tensor([1.0, 2.0, 3.0])) if hasattr(x, "copy_") else x.diagonal(1).add_(tg.tensor([1.0, 2.0, 3.0]))
    assert x.tolist() == [[0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 3]]
    assert tg.tensor([1.0, 2.0]).diag(-1).tolist() == [[0, 0, 0], [1, 0, 0], [0, 2, 0]]
    assert x.diag(1).tolist() == [1, 2, 3] and tg.ones(2, 3).trace().item() == 2


def test_the_namespace_finds_its_operators():
    assert tg.linalg.norm.operator.name == "linalg.norm" and "svd" in dir(tg.linalg)
    with pytest.raises(AttributeError, match=r"tinygrad_cv\.linalg"):
        tg.linalg.no_such_operator  # noqa: B018
    assert issubclass(tg.linalg.LinAlgError, RuntimeError)


@pytest.mark.parametrize("name", ["inv", "solve", "cholesky", "slogdet gradient"])
def test_singular_matrices_raise_by_name(name):
    singular = tg.tensor([[1.0, 2.0], [2.0, 4.0]], requires_grad=True)
    with pytest.raises(tg.linalg.LinAlgError, match=r"linalg\..*\(shape \(2, 2\)"):
        if name == "inv":
            tg.linalg.inv(singular)
        elif name == "solve":
            tg.linalg.solve(singular, tg.ones(2))
        elif name == "cholesky":
            tg.linalg.cholesky(tg.tensor([[1.0, 2.0], [2.0, 1.0]]))
        else:
            tg.linalg.slogdet(singular).logabsdet.backward()


def test_the_gradient_of_a_determinant_is_its_cofactors_at_every_rank():
    for matrix, cofactors in (
        ([[1.0, 2.0], [2.0, 4.0]], [[4, -2], [-2, 1]]),
        ([[2.0, 0.0], [0.0, 0.0]], [[0, 0], [0, 2]]),
        (np.zeros((3, 3)), np.zeros((3, 3))),
        ([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]], [[-3, 6, -3], [6, -12, 6], [-3, 6, -3]]),
    ):
        x = leaf(matrix)
        tg.linalg.det(x).backward()
        np.testing.assert_allclose(x.grad.numpy(), cofactors, atol=1e-12)


def test_factorisations_rebuild_their_matrix():
    for n, m in ((4, 3), (3, 4), (3, 3)):
        A = tg.tensor(random(2, n, m))
        for full in (True, False):
            U, S, Vh = tg.linalg.svd(A, full_matrices=full)
            k = min(n, m)
            np.testing.assert_allclose((U[..., :k] * S.unsqueeze(-2) @ Vh[..., :k, :]).numpy(), A.numpy(), atol=1e-12)
            assert U.shape == (2, n, n if full else k) and Vh.shape == (2, m if full else k, m)
        Q, R = tg.linalg.qr(A)
        np.testing.assert_allclose((Q @ R).numpy(), A.numpy(), atol=1e-12)
        P = tg.linalg.pinv(A)
        np.testing.assert_allclose((A @ P @ A).numpy(), A.numpy(), atol=1e-12)
    B = A @ A.mT
    L = tg.linalg.cholesky(B)
    np.testing.assert_allclose((L @ L.mT).numpy(), B.numpy(), atol=1e-12)
    values, vectors = tg.linalg.eigh(B)
    np.testing.assert_allclose((vectors * values.unsqueeze(-2) @ vectors.mT).numpy(), B.numpy(), atol=1e-12)
    np.testing.assert_allclose((tg.linalg.inv(B) @ B).numpy(), np.broadcast_to(np.eye(3), (2, 3, 3)), atol=1e-8)
    sign, logabsdet = tg.linalg.slogdet(B)
    np.testing.assert_allclose((sign * logabsdet.exp()).numpy(), tg.linalg.det(B).numpy())


def test_the_extra_columns_of_a_full_svd_have_no_gradient():
    A = leaf(random(4, 2))
    _, S, Vh = tg.linalg.svd(A)
    (S.sum() + Vh.sum()).backward()
    assert np.isfinite(A.grad.numpy()).all()
    with pytest.raises(RuntimeError, match=r"linalg.svd: .*use full_matrices=False"):
        tg.linalg.svd(A).U.sum().backward()


def test_symmetric_factorisations_have_symmetric_gradients():
    torch = pytest.importorskip("torch")
    base = random(3, 3)
    matrix = base @ base.T + np.eye(3)
    upstream = random(3, 3, seed=1)
    for ours, theirs in (
        (lambda a: tg.linalg.cholesky(a), lambda a: torch.linalg.cholesky(a)),
        (lambda a: tg.linalg.eigh(a)[1] ** 2, lambda a: torch.linalg.eigh(a)[1] ** 2),
        (lambda a: tg.linalg.eigvalsh(a).diag(), lambda a: torch.linalg.eigvalsh(a).diag()),
    ):
        x, y = leaf(matrix), torch.tensor(matrix, requires_grad=True)
        ours(x).backward(tg.tensor(upstream))
        theirs(y).backward(torch.tensor(upstream))
        np.testing.assert_allclose(x.grad.numpy(), x.grad.numpy().T, atol=1e-12)
        symmetric = (y.grad + y.grad.mT) / 2
        np.testing.assert_allclose(x.grad.numpy(), symmetric.numpy(), atol=1e-9)


@pytest.mark.parametrize("upper", [False, True])
def test_symmetric_factorisations_read_the_named_triangle(upper):
    torch = pytest.importorskip("torch")
    base = random(2, 3, 3)
    matrix = base @ base.swapaxes(-1, -2) + np.eye(3)
    matrix[1] += np.tril(random(3, 3, seed=2), -1) if upper else np.triu(random(3, 3, seed=2), 1)  # the first stays symmetric
    triangle = "U" if upper else "L"
    for ours, theirs in (
        (lambda a: tg.linalg.cholesky(a, upper=upper), lambda a: torch.linalg.cholesky(a, upper=upper)),
        (lambda a: tg.linalg.eigh(a, triangle)[1] ** 2, lambda a: torch.linalg.eigh(a, triangle)[1] ** 2),
        (lambda a: tg.linalg.eigvalsh(a, triangle).diag_embed(), lambda a: torch.linalg.eigvalsh(a, triangle).diag_embed()),
    ):
        upstream = random(2, 3, 3, seed=1)
        x, y = leaf(matrix), torch.tensor(matrix, requires_grad=True)
        out, expected = ours(x), theirs(y)
        np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), atol=1e-12)
        out.backward(tg.tensor(upstream))
        expected.backward(torch.tensor(upstream))
        np.testing.assert_allclose(x.grad.numpy(), ((y.grad + y.grad.mT) / 2).numpy(), atol=1e-9)
    with pytest.raises(ValueError, match=r"^linalg.eigvalsh: UPLO must be 'L' or 'U', got 'X'"):
        tg.linalg.eigvalsh(tg.eye(2), "X")


@pytest.mark.parametrize("some", [True, False])
def test_the_older_svd_returns_v_not_its_transpose(some):
    torch = pytest.importorskip("torch")
    matrix = random(4, 3)
    ours, theirs = tg.svd(tg.tensor(matrix), some), torch.svd(torch.tensor(matrix), some)
    assert ours._fields == ("U", "S", "V")
    for mine, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.abs(mine.numpy()), np.abs(expected.numpy()), atol=1e-12)
    np.testing.assert_allclose((ours.U[:, :3] * ours.S @ ours.V.mT).numpy(), matrix, atol=1e-12)
    plain = tg.tensor(matrix).svd(compute_uv=False)
    assert [t.shape for t in plain] == [(4, 4), (3,), (3, 3)] and not plain.U.any() and not plain.V.any()


def test_logdet_of_negative_and_vanishing_determinants():
    determinants = tg.tensor([[[2.0, 0.0], [0.0, 3.0]], [[0.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    np.testing.assert_allclose(determinants.logdet().numpy(), [np.log(6), np.nan, -np.inf], rtol=1e-6)


@pytest.mark.parametrize("left", [True, False])
def test_solve_solves_and_differentiates_as_pytorch(left):
    torch = pytest.importorskip("torch")
    cases = [((3, 3), (3, 3)), ((2, 3, 3), (3, 3)), ((3, 3), (2, 3, 3)), ((2, 1, 3, 3), (4, 3, 3))]
    if left:
        cases += [((3, 3), (3,)), ((2, 3, 3), (2, 3))]
    for a, b in cases:
        A, B = random(*a) + 3 * np.eye(3), random(*b, seed=1)
        ours, theirs = (leaf(A), leaf(B)), tuple(torch.tensor(v, requires_grad=True) for v in (A, B))
        X, Y = tg.linalg.solve(*ours, left=left), torch.linalg.solve(*theirs, left=left)
        np.testing.assert_allclose(X.detach().numpy(), Y.detach().numpy(), atol=1e-12)
        upstream = random(*X.shape, seed=2)
        X.backward(tg.tensor(upstream))
        Y.backward(torch.tensor(upstream))
        for mine, their in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine.grad.numpy(), their.grad.numpy(), atol=1e-10)


def test_multi_dot_takes_the_cheapest_order():
    from tinygrad_cv.ops import matrix

    # (10x100)(100x5)(5x50): 7,500 multiplications from the left, 75,000 from the right (Cormen et al., 15.2)
    assert matrix._cheapest_order([10, 100, 5, 50])[0][2] == 1
    arrays = [random(3), random(3, 40, seed=1), random(40, 2, seed=2), random(2, seed=3)]
    got = tg.linalg.multi_dot([tg.tensor(a) for a in arrays])
    np.testing.assert_allclose(got.item(), arrays[0] @ arrays[1] @ arrays[2] @ arrays[3])


def test_norms_agree_with_numpy():
    A = random(2, 3, 4)
    for order in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        got = tg.linalg.matrix_norm(tg.tensor(A), order, (0, 2), keepdim=True).numpy()
        np.testing.assert_allclose(got, np.linalg.norm(A, order, (0, 2), keepdims=True))
        np.testing.assert_allclose(tg.linalg.norm(tg.tensor(A[0]), order).item(), np.linalg.norm(A[0], order))
    for order in (None, 0, 1, 2, 3, np.inf, -np.inf, -1):
        np.testing.assert_allclose(tg.linalg.norm(tg.tensor(A), order, 1).numpy(), np.linalg.norm(A, order, 1))
    np.testing.assert_allclose(tg.linalg.norm(tg.tensor(A)).item(), np.sqrt((A**2).sum()))
    assert tg.linalg.vector_norm(tg.ones(3), dtype=tg.float64).dtype == tg.float64


def test_matrix_power_rank_and_pinv():
    A = random(3, 3) + 2 * np.eye(3)
    for n in (-2, -1, 0, 1, 5):
        np.testing.assert_allclose(tg.matrix_power(tg.tensor(A), n).numpy(), np.linalg.matrix_power(A, n), atol=1e-10)
    assert tg.linalg.matrix_rank(tg.tensor([[1.0, 2.0], [2.0, 4.0]])).item() == 1
    assert tg.linalg.matrix_rank(tg.zeros(2, 3, 3)).tolist() == [0, 0]
    assert tg.linalg.matrix_rank(tg.tensor(np.diag([1.0, 0.1, 1e-3])), atol=0.01).item() == 2
    np.testing.assert_allclose(
        tg.linalg.pinv(tg.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=tg.float64)).numpy(), np.array([[1, 2], [2, 4]]) / 25
    )


def test_costs_of_products_count_multiplications_and_additions():
    cost = {name: tg.ops.get(name).cost for name in ("matmul", "linear", "linear_weight_grad", "mm", "bmm")}
    assert cost["matmul"]((3, 4), (4, 5)) == cost["mm"]((3, 4), (4, 5)) == (120, 4 * (12 + 20 + 15))
    assert cost["matmul"]((7, 1, 3, 4), (2, 4, 5)) == (14 * 120, 4 * (84 + 40 + 210))
    assert cost["matmul"]((4,), (4,)) == (8, 4 * 9)
    assert cost["bmm"]((2, 3, 4), (2, 4, 5)) == (240, 4 * (24 + 40 + 30))
    assert cost["linear"]((3, 4), (5, 4), (5,)) == (135, 4 * (12 + 20 + 15 + 5))
    assert cost["linear_weight_grad"]((3, 5), (3, 4)) == (120, 4 * (15 + 12 + 20))


def test_hermitian_is_checked_and_gives_the_symmetric_pseudo_inverse():
    base = random(3, 2)
    matrix = base @ base.T
    assert tg.linalg.matrix_rank(tg.tensor(matrix), hermitian=True).item() == 2
    np.testing.assert_allclose(
        tg.linalg.pinv(tg.tensor(matrix), rtol=1e-9, hermitian=True).numpy(), np.linalg.pinv(matrix, 1e-9), atol=1e-9
    )
    for function in (tg.linalg.matrix_rank, tg.linalg.pinv):
        with pytest.raises(ValueError, match=r"^linalg\.\w+: expected symmetric matrices for hermitian=True.*A.tril\(\)"):
            function(tg.tensor([[2.0, 1.0], [0.0, 2.0]]), hermitian=True)
