"""Drawing and explaining call a module, and leave no trace of it: buffers and random numbers stay as they were."""

import pytest

import tinygrad_cv as tg
from tinygrad_cv import nn, viz


def _state(model):
    return {name: (id(buffer), buffer.tolist()) for name, buffer in model.named_buffers()}, tg.get_rng_state()


def _model():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))


@pytest.mark.parametrize("show", [viz.draw, viz.explain])
@pytest.mark.parametrize("how", ["module", "function", "method", "values"])
def test_buffers_and_random_numbers_stay(show, how):
    model = _model()
    before = _state(model)
    target = {"module": model, "function": lambda x: model(x).sum(), "method": model.forward, "values": model}[how]
    show(
        target, tg.randn(5, 3, generator=tg.Generator(0)), **({"values": True} if how == "values" and show is viz.draw else {})
    )
    assert _state(model) == before and model.training
    model(tg.ones(2, 3) * tg.tensor([[1.0], [2.0]]))
    assert _state(model) != before  # a call alone moves both


@pytest.mark.parametrize("show", [viz.draw, viz.explain])
def test_after_an_error_too(show):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = _model()
            self.register_buffer("calls", tg.zeros(1))

        def forward(self, x):
            self.inner(x)
            self.calls = self.calls + 1  # another tensor in the buffer's place
            raise KeyError("stop")

    model = Broken()
    before = _state(model)
    with pytest.raises(KeyError, match="stop"):
        show(model, tg.ones(4, 3))
    assert _state(model) == before


@pytest.mark.parametrize("show", [viz.draw, viz.explain])
def test_a_batch_of_one_is_told_of_eval(show):
    model = _model()
    before = _state(model)
    with pytest.raises(ValueError, match=r"expected more than one value.*call \.eval\(\)"):
        show(model, tg.ones(1, 3))
    assert _state(model) == before
    assert show(model.eval(), tg.ones(1, 3))


@pytest.mark.parametrize("show", [viz.draw, viz.explain])
def test_a_graph_that_holds_a_buffer_may_still_go_backward(show):
    model = _model().eval()
    x = tg.ones(2, 3, requires_grad=True)
    loss = model(x).sum()
    show(model, tg.ones(2, 3))
    loss.backward()
    assert x.grad is not None
