"""Scripts written for PyTorch run with nothing but their imports changed."""

import numpy as np
import pytest

import tinygrad_cv as tg

TRAINING = """
import argparse
import os
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
import torch.backends.cudnn as cudnn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split
from torch.utils.checkpoint import checkpoint


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, 1)
        self.conv2 = nn.Conv2d(8, 16, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.fc1 = nn.Linear(16 * 25, 32)
        self.fc2 = nn.Linear(32, 10)
        for p in self.fc2.parameters():
            p.data.uniform_(-0.05, 0.05)

    def features(self, x):
        return F.max_pool2d(F.relu(self.conv2(x)), 2)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = checkpoint(self.features, x, use_reentrant=False)
        x = torch.flatten(self.dropout1(x), 1)
        x = F.relu(self.fc1(x))
        output = F.log_softmax(self.fc2(x), dim=1)
        return output


def train(args, model, device, train_loader, optimizer, epoch):
    model.train()
    for batch_idx, (data, target) in enumerate(train_loader):
        data, target = data.to(device, non_blocking=True), target.to(device)
        optimizer.zero_grad()
        output = model(data)
        loss = F.nll_loss(output, target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if batch_idx % args.log_interval == 0:
            print('Train Epoch: {} [{}/{} ({:.0f}%)]\\tLoss: {:.6f}'.format(
                epoch, batch_idx * len(data), len(train_loader.dataset),
                100. * batch_idx / len(train_loader), loss.item()))


def test(model, device, test_loader):
    model.eval()
    test_loss = 0
    correct = 0
    with torch.no_grad():
        for data, target in test_loader:
            data, target = data.to(device), target.to(device)
            output = model(data)
            test_loss += F.nll_loss(output, target, reduction='sum').item()
            pred = output.argmax(dim=1, keepdim=True)
            correct += pred.eq(target.view_as(pred)).sum().item()
    test_loss /= len(test_loader.dataset)
    return test_loss, correct / len(test_loader.dataset)


def main(images, labels, folder):
    parser = argparse.ArgumentParser()
    parser.add_argument('--no-cuda', action='store_true', default=False)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--log-interval', type=int, default=10)
    args = parser.parse_args([])
    use_cuda = not args.no_cuda and torch.cuda.is_available()
    torch.manual_seed(args.seed)
    torch.cuda.manual_seed_all(args.seed)
    torch.backends.cudnn.deterministic = True
    cudnn.benchmark = False
    torch.set_float32_matmul_precision('high')
    device = torch.device('cuda' if use_cuda else 'mps' if torch.backends.mps.is_available() else 'cpu')
    assert isinstance(device, torch.device) and device.type == 'cpu'

    images, labels = torch.from_numpy(images), torch.from_numpy(labels).long()
    whole = TensorDataset((images - 0.1307) / 0.3081, labels)
    train_set, test_set = random_split(whole, [0.8, 0.2], generator=torch.Generator().manual_seed(0))
    train_kwargs = {'batch_size': 50}
    if use_cuda:
        train_kwargs.update({'num_workers': 1, 'pin_memory': True, 'shuffle': True})
    train_loader = DataLoader(train_set, shuffle=True, **train_kwargs)
    test_loader = DataLoader(test_set, batch_size=200)

    model = Net().to(device)
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    scheduler = StepLR(optimizer, step_size=1, gamma=0.7)
    before = test(model, device, test_loader)
    for epoch in range(1, 4):
        train(args, model, device, train_loader, optimizer, epoch)
        after = test(model, device, test_loader)
        scheduler.step()

    path = os.path.join(folder, 'mnist_cnn.pt')
    torch.save(model.state_dict(), path)
    torch.save({'epoch': epoch, 'model': model.state_dict(), 'optimizer': optimizer.state_dict()}, path + '.all')
    copy = Net()
    copy.load_state_dict(torch.load(path, map_location='cpu', weights_only=True))
    assert test(copy.to(device), device, test_loader) == after
    resumed = torch.load(path + '.all', map_location=device)
    optimizer.load_state_dict(resumed['optimizer'])
    assert resumed['epoch'] == 3
    return before, after
"""


def test_a_training_script_runs_and_learns_after_changing_the_import(tmp_path):
    script = TRAINING.replace("import torch\n", "import tinygrad_cv as torch\n")
    script = script.replace("import torch.", "import tinygrad_cv.").replace("from torch.", "from tinygrad_cv.")
    assert script.count("tinygrad_cv") == 8
    scope = {"__name__": "script"}
    exec(compile(script, "script.py", "exec"), scope)
    mnist = tg.data.MNIST(train=True)
    images = np.asarray(mnist.images[:3000], np.float32)[:, None] / 255
    (loss_before, accuracy_before), (loss, accuracy) = scope["main"](images, np.asarray(mnist.labels[:3000]), str(tmp_path))
    assert accuracy_before < 0.35 and loss_before > 2 and accuracy > 0.85 and loss < 0.5


def test_devices_are_named_as_in_pytorch():
    cpu = tg.device("cpu")
    assert cpu == tg.device("cpu", 0) == tg.device("cpu:0") == tg.device(cpu) == "cpu:0" and tg.ones(1).device == cpu
    assert tg.device("cuda", 1) == tg.device("cuda:1") == tg.device(1) and tg.device("cuda:1").index == 1
    assert isinstance(tg.ones(1).device, tg.device) and str(cpu) == "cpu" and cpu != tg.device("cuda")
    for wrong in ("gpu", "cpu:1", "cuda:x", "cpu:", None, 1.5):
        with pytest.raises(ValueError, match="unknown device"):
            tg.device(wrong)
    with pytest.raises(RuntimeError, match="device cuda:0"):
        tg.ones(1).to(0)
    with tg.device("cpu"):
        assert tg.get_default_device() == "cpu"
    tg.set_default_device("cpu")
    with pytest.raises(RuntimeError, match="device cuda"):
        tg.set_default_device("cuda")


def test_questions_about_accelerators_are_answered_and_the_rest_is_clear():
    assert not tg.cuda.is_available() and tg.cuda.device_count() == 0 and not tg.cuda.is_initialized()
    assert (
        tg.cuda.manual_seed(1) is tg.cuda.manual_seed_all(1) is tg.cuda.empty_cache() is None
        and tg.cuda.memory_allocated() == 0
    )
    assert not tg.accelerator.is_available() and tg.accelerator.current_accelerator() is None
    assert not tg.backends.mps.is_available() and not tg.backends.cuda.is_built()
    tg.backends.cuda.matmul.allow_tf32 = True
    with pytest.raises(AttributeError, match=r"tinygrad_cv.cuda has no 'Stream'.*is_available"):
        tg.cuda.Stream()
    with pytest.raises(ValueError, match="'highest', 'high' or 'medium'"):
        tg.set_float32_matmul_precision("low")


def test_small_names():
    assert tg.is_tensor(tg.ones(1)) and not tg.is_tensor(np.ones(1)) and tg.numel(tg.ones(2, 3)) == 6
    assert tg.is_floating_point(tg.ones(1)) and not tg.is_floating_point(tg.arange(2))
    assert tg.inf == float("inf") and tg.nan != tg.nan and abs(tg.pi - 3.141592653589793) + abs(tg.e - 2.718281828459045) == 0
    assert isinstance(tg.float32, tg.dtype)
    assert tg.utils.data.DataLoader is tg.data.DataLoader and tg.utils.checkpoint.checkpoint is tg.autograd.checkpoint
    assert tg.utils.data.default_collate([1.0, 2.0]).tolist() == [1.0, 2.0]
    before = tg.get_rng_state()
    first = tg.seed()
    drawn = tg.rand(3).tolist()
    assert tg.initial_seed() == first and tg.manual_seed(first) and tg.rand(3).tolist() == drawn
    tg.set_rng_state(before)


def test_deterministic_algorithms_may_only_warn():
    tg.use_deterministic_algorithms(True, warn_only=True)
    assert tg.are_deterministic_algorithms_enabled() and tg.is_deterministic_algorithms_warn_only_enabled()
    tg.use_deterministic_algorithms(False)
    assert not tg.are_deterministic_algorithms_enabled() and not tg.is_deterministic_algorithms_warn_only_enabled()
    with pytest.raises(TypeError, match="expected True or False"):
        tg.use_deterministic_algorithms(True, warn_only=1)


def test_checkpoint_sequential_is_the_chain():
    layers = tg.nn.Sequential(tg.nn.Linear(3, 4), tg.nn.Tanh(), tg.nn.Linear(4, 4), tg.nn.Tanh(), tg.nn.Linear(4, 1))
    x = tg.randn(2, 3, requires_grad=True)
    expected = tg.autograd.grad(layers(x).sum(), (x, layers[0].weight))
    for segments in (1, 2, 3, 5):
        out = tg.utils.checkpoint.checkpoint_sequential(layers, segments, x, use_reentrant=False)
        got = tg.autograd.grad(out.sum(), (x, layers[0].weight))
        assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(got, expected, strict=True))
    with pytest.raises(ValueError, match="between 1 and 5"):
        tg.utils.checkpoint.checkpoint_sequential(layers, 6, x)
