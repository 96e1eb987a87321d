"""Readers, data sets, loaders and transforms."""

import gzip
import struct

import numpy as np
import pytest

import tinygrad_cv as tg
from tinygrad_cv import data
from tinygrad_cv.data import DatasetError, transforms


@pytest.fixture(scope="module")
def mnist():
    return data.MNIST(train=False)


def test_mnist_is_the_published_set(mnist):
    train = data.MNIST(train=True)
    assert train.images.shape == (60000, 28, 28) and mnist.images.shape == (10000, 28, 28)
    # Digit counts as published with the data set.
    assert np.bincount(mnist.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]


def test_mnist_example_has_channel_first_and_unit_range(mnist):
    image, label = mnist[0]
    assert image.shape == (1, 28, 28) and image.dtype == tg.float32 and label == 7
    assert float(image.min()) == 0 and float(image.max()) == 1
    assert np.allclose(image.numpy() * 255, mnist.images[0])


def test_normalized_training_set_has_mean_zero_and_deviation_one():
    images, _ = data.MNIST(train=True, normalize=True).batch(np.arange(60000))
    assert abs(images.numpy().mean()) < 1e-3 and abs(images.numpy().std() - 1) < 1e-3


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("name", ["a.idx", "a.idx.gz"])
def test_idx_round_trip(tmp_path, dtype, name):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    data.write_idx(tmp_path / name, array)
    back = data.read_idx(tmp_path / name)
    assert back.dtype == array.dtype and np.array_equal(back, array)


def _idx(shape=(2, 3), body=b"\1\2\3\4\5\6", magic=b"\0\0\x08"):
    return magic + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + body


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "not an IDX file"),
        (b"\x89PNG\r\n", "not an IDX file"),
        (_idx(magic=b"\0\0\x77"), "not an IDX file"),
        (_idx(body=b"\1\2\3"), "truncated"),
        (_idx()[:7], "truncated"),
        (_idx(body=b"\1\2\3\4\5\6\7"), "trailing bytes"),
        (_idx(shape=(0xFFFFFFFF, 0xFFFFFFFF)), "claims shape"),
        (gzip.compress(_idx())[:-9], "cannot be read"),
        (gzip.compress(_idx(body=b"\1\2\3")), "truncated"),
    ],
)
def test_damaged_idx_gives_one_named_error(tmp_path, payload, message):
    path = tmp_path / "broken.idx"
    path.write_bytes(payload)
    with pytest.raises(DatasetError, match=message) as caught:
        data.read_idx(path)
    assert "broken.idx" in str(caught.value)


def test_missing_file_is_named(tmp_path):
    for reader in (data.read_idx, data.read_cifar):
        with pytest.raises(DatasetError, match="no such file"):
            reader(tmp_path / "nothing")


def _cifar_records(n, label_bytes=1):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, (n, label_bytes)).astype(np.uint8)
    pixels = rng.integers(0, 256, (n, 3072)).astype(np.uint8)
    return labels, pixels, np.concatenate([labels, pixels], axis=1).tobytes()


def test_cifar10_reads_channel_first_records(tmp_path):
    labels, pixels, payload = _cifar_records(4)
    for i in range(1, 6):
        (tmp_path / f"data_batch_{i}.bin").write_bytes(payload)
    (tmp_path / "test_batch.bin").write_bytes(payload)
    train = data.CIFAR10(tmp_path, train=True)
    assert len(train) == 20 and train.classes[3] == "cat"
    image, label = train[2]
    assert label == labels[2, 0]
    assert np.allclose(image.numpy() * 255, pixels[2].reshape(3, 32, 32))


def test_cifar100_uses_the_fine_label(tmp_path):
    labels, _, payload = _cifar_records(3, label_bytes=2)
    (tmp_path / "train.bin").write_bytes(payload)
    assert data.CIFAR100(tmp_path, train=True).labels.tolist() == labels[:, 1].tolist()


@pytest.mark.parametrize("cut", [1, 3073 * 2 - 1])
def test_damaged_cifar_gives_one_named_error(tmp_path, cut):
    payload = _cifar_records(2)[2]
    (tmp_path / "b.bin").write_bytes(payload[:-cut])
    with pytest.raises(DatasetError, match=r"b\.bin.*whole number"):
        data.read_cifar(tmp_path / "b.bin")


@pytest.mark.parametrize(("label_bytes", "largest", "reader"), [(1, 9, data.CIFAR10), (2, 99, data.CIFAR100)])
def test_a_cifar_label_out_of_range_names_file_record_and_range(tmp_path, label_bytes, largest, reader):
    records = np.zeros((4, label_bytes + 3072), np.uint8)
    records[:, label_bytes - 1] = [0, largest, largest + 1, 255]
    for name in ("test_batch.bin", "test.bin"):
        (tmp_path / name).write_bytes(records.tobytes())
    with pytest.raises(DatasetError) as caught:
        reader(tmp_path, train=False)
    message = str(caught.value)
    assert f"record 2 of 4 has label {largest + 1} (and 1 more); labels must lie in 0..{largest}" in message
    assert str(tmp_path / reader.test_files[0]) in message
    records[2:, label_bytes - 1] = largest
    (tmp_path / "good.bin").write_bytes(records.tobytes())
    assert data.read_cifar(tmp_path / "good.bin", label_bytes)[1].tolist() == [0, largest, largest, largest]
    with pytest.raises(ValueError, match="label_bytes must be 1"):
        data.read_cifar(tmp_path / "good.bin", 3)


def test_label_out_of_range_names_the_example():
    images = np.zeros((3, 2, 2), np.uint8)
    with pytest.raises(DatasetError, match="label 7 of example 1 is out of range for 3 classes"):
        data.datasets.ImageArrays(images, np.array([0, 7, 1]), ("a", "b", "c"))


def test_image_folder(tmp_path):
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    rng = np.random.default_rng(0)
    for name in ("cat", "ant"):
        (tmp_path / name).mkdir()
        for i in range(2):
            image_module.fromarray(rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)).save(tmp_path / name / f"{i}.png")
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    folder = data.ImageFolder(tmp_path, size=(3, 4))
    assert folder.classes == ("ant", "cat") and len(folder) == 4
    image, label = folder[3]
    assert image.shape == (3, 3, 4) and label == 1
    exact, _ = data.ImageFolder(tmp_path)[0]
    assert np.allclose(exact.numpy().transpose(1, 2, 0) * 255, np.asarray(image_module.open(tmp_path / "ant" / "0.png")))
    (tmp_path / "ant" / "0.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(DatasetError, match=r"0\.png.*cannot be read as an image"):
        data.ImageFolder(tmp_path)[0]
    with pytest.raises(DatasetError, match="no images found"):
        data.ImageFolder(tmp_path / "ant")
    with pytest.raises(DatasetError, match="no such folder"):
        data.ImageFolder(tmp_path / "dog")


def test_loader_covers_every_example_once_and_keeps_pairs(mnist):
    part = data.Subset(mnist, range(103))
    seen = []
    for images, labels in data.DataLoader(part, batch_size=10, shuffle=True):
        assert images.shape[1:] == (1, 28, 28)
        for image, label in zip(images.numpy(), labels.numpy(), strict=True):
            match = np.flatnonzero((mnist.images[:103] == np.rint(image[0] * 255).astype(np.uint8)).all(axis=(1, 2)))
            assert len(match) == 1 and mnist.labels[match[0]] == label
            seen.append(match[0])
    assert sorted(seen) == list(range(103))
    assert [len(b[1]) for b in data.DataLoader(part, 10)] == [10] * 10 + [3]
    assert [len(b[1]) for b in data.DataLoader(part, 10, drop_last=True)] == [10] * 10
    assert len(data.DataLoader(part, 10)) == 11 and len(data.DataLoader(part, 10, drop_last=True)) == 10


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_do_not_change_the_batches(workers):
    class Noisy(data.Dataset):
        def __len__(self):
            return 23

        def __getitem__(self, index):
            return tg.rand(2) + index, index

    def batches(n):
        tg.manual_seed(5)
        return [(x.numpy(), y.numpy()) for x, y in data.DataLoader(Noisy(), 4, shuffle=True, num_workers=n)]

    for (x0, y0), (x1, y1) in zip(batches(0), batches(workers), strict=True):
        assert np.array_equal(x0, x1) and np.array_equal(y0, y1)


def test_loader_seed_fixes_the_order_and_epochs_differ():
    numbers = data.TensorDataset(tg.arange(50))

    def order(seed):
        return [int(v) for (b,) in data.DataLoader(numbers, 7, shuffle=True, generator=tg.Generator(seed)) for v in b]

    assert order(1) == order(1) != order(2)
    loader = data.DataLoader(numbers, 50, shuffle=True, generator=tg.Generator(0))
    first, second = (next(iter(loader))[0].tolist() for _ in range(2))
    assert first != second and sorted(first) == sorted(second) == list(range(50))


def test_loader_error_in_a_thread_reaches_the_user():
    class Broken(data.Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, index):
            if index == 5:
                raise DatasetError("example 5 is broken")
            return tg.zeros(1)

    with pytest.raises(DatasetError, match="example 5"):
        list(data.DataLoader(Broken(), 2, num_workers=2))


def test_loader_refuses_bad_settings_and_ragged_examples():
    numbers = data.TensorDataset(tg.arange(4))
    for bad in ({"batch_size": 0}, {"num_workers": -1}):
        with pytest.raises(ValueError, match="DataLoader"):
            data.DataLoader(numbers, **bad)

    class Ragged(data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return tg.zeros(index + 1)

    with pytest.raises(ValueError, match="different shapes"):
        next(iter(data.DataLoader(Ragged(), 2)))


def test_random_split_is_a_partition():
    numbers = data.TensorDataset(tg.arange(11))
    parts = data.random_split(numbers, [0.5, 0.5], tg.Generator(0))
    assert [len(p) for p in parts] == [6, 5]
    assert sorted(int(p[i][0]) for p in parts for i in range(len(p))) == list(range(11))
    with pytest.raises(ValueError, match="add up to 9"):
        data.random_split(numbers, [4, 5])


def test_concat_and_negative_index():
    both = data.ConcatDataset([data.TensorDataset(tg.arange(3)), data.TensorDataset(tg.arange(10, 12))])
    assert [int(both[i][0]) for i in (0, 2, 3, 4, -1)] == [0, 2, 10, 11, 11]
    with pytest.raises(IndexError):
        both[5]


def test_transforms():
    image = np.arange(2 * 4 * 5, dtype=np.float32).reshape(2, 4, 5)
    normalize = transforms.Normalize([1.0, 2.0], [2.0, 4.0])
    assert np.allclose(normalize(image)[1], (image[1] - 2) / 4)
    assert np.array_equal(transforms.RandomHorizontalFlip(1.0)(image), image[:, :, ::-1])
    assert np.array_equal(transforms.RandomHorizontalFlip(0.0)(image), image)
    assert np.array_equal(transforms.CenterCrop((2, 3))(image), image[:, 1:3, 1:4])
    assert transforms.Pad(1)(image).shape == (2, 6, 7)
    tg.manual_seed(0)
    crops = {transforms.RandomCrop(4, padding=1)(image).tobytes() for _ in range(60)}
    assert len(crops) == 3 * 4  # windows of 4 x 4 in 6 x 7
    both = transforms.Compose([transforms.Pad(1), transforms.CenterCrop((4, 5))])
    assert np.array_equal(both(image), image)
    with pytest.raises(ValueError, match="does not fit"):
        transforms.RandomCrop(9)(image)
    with pytest.raises(ValueError, match="channels"):
        transforms.Normalize([0.0], [1.0])(image)
