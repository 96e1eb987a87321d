"""Data sets, readers of their file formats, loaders and transforms. No network anywhere; MNIST is part of the package.

idx.py and cifar.py read files and know nothing of tensors; datasets.py holds examples; samplers.py says in which order they
come; loader.py makes batches of them. May import the engine and `random`, never `nn`.
"""

from . import transforms
from .cifar import CIFAR10, CIFAR100, read_cifar
from .datasets import ConcatDataset, Dataset, DatasetError, ImageFolder, Subset, TensorDataset, random_split
from .idx import read_idx, write_idx
from .loader import DataLoader
from .mnist import MNIST
from .samplers import BatchSampler, RandomSampler, Sampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler

__all__ = [
    "CIFAR10", "CIFAR100", "MNIST", "BatchSampler", "ConcatDataset", "DataLoader", "Dataset", "DatasetError", "ImageFolder",
    "RandomSampler", "Sampler", "SequentialSampler", "Subset", "SubsetRandomSampler", "TensorDataset", "WeightedRandomSampler",
    "random_split", "read_cifar", "read_idx", "transforms", "write_idx",
]  # fmt: skip
