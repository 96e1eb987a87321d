"""What the layers of a run say: units, activations and gradients. See loss_rules.py for what a rule is."""

from __future__ import annotations

import math

from .check import Check, median, medians, number, percent, relative_gradients, span
from .probe import DEAD_AFTER
from .recording import Recording


def units_live(run: Recording) -> Check:
    """problem: 40 % or more of a rectifier's units (channels) were zero for every example of the last 10 samples.

    Source: CS231n notes, neural networks 1, ReLU: "as much as 40 % of your network can be dead ... if the learning rate is too high".
    """
    rule, threshold = "dead ReLUs", "less than 40 % of each layer's units dead: zero on all examples of 10 samples in a row"
    source = "CS231n notes, neural networks 1"
    shares = _latest(run, "dead")
    if not shares:
        return Check(rule, "unknown", "no rectifier was watched", threshold=threshold, source=source)
    if len(run.samples) < DEAD_AFTER:
        return Check(
            rule, "unknown", f"{len(run.samples)} samples are too few to tell; {DEAD_AFTER} are needed", threshold=threshold
        )
    dead = {name: share for name, share in shares.items() if share >= 0.4}
    worst = max(shares, key=lambda name: shares[name])
    evidence = tuple((name, percent(share)) for name, share in (dead or {worst: shares[worst]}).items())
    if dead:
        return Check(
            rule, "problem", f"{percent(dead[max(dead, key=lambda n: dead[n])])} of the units of {max(dead, key=lambda n: dead[n])} "
            "never fire, so no gradient passes them", evidence, tuple(dead), span(run),
            "Lower the learning rate, begin with He initialisation and biases at 0, or use LeakyReLU.", threshold, source,
        )  # fmt: skip
    return Check(rule, "ok", "the rectifiers fire", evidence, (), span(run), "", threshold, source)


def units_not_saturated(run: Recording) -> Check:
    """problem: in a hidden layer three quarters of the sigmoid's or tanh's outputs (median of the recent samples) are saturated.

    Saturated: above 97 % of the range, where the slope is below 6 % of its largest (tanh: |y| > 0.97; sigmoid: |2 y - 1| > 0.97).
    An output layer may saturate: it is left out. The three quarters are chosen. Source: X. Glorot, Y. Bengio, "Understanding the
    difficulty of training deep feedforward neural networks", 2010, section 3.
    """
    rule, threshold = "saturation", "less than three quarters of a hidden sigmoid's or tanh's outputs beyond 97 % of its range"
    source = "Glorot and Bengio 2010, section 3"
    hidden = list(run.layers)[:-1]
    shares = medians(run, "layers", "saturated", hidden)
    if not shares:
        return Check(rule, "unknown", "no hidden sigmoid or tanh was watched", threshold=threshold, source=source)
    high = {name: share for name, share in shares.items() if share >= 0.75}
    worst = max(shares, key=lambda name: shares[name])
    evidence = tuple((name, percent(share)) for name, share in (high or {worst: shares[worst]}).items())
    if high:
        return Check(
            rule, "problem", f"{percent(shares[worst])} of the outputs of {worst} are saturated, where the slope is next to nothing",
            evidence, tuple(high), span(run),
            "Begin with smaller weights (Xavier initialisation), normalise the inputs, or put a normalisation before it.",
            threshold, source,
        )  # fmt: skip
    return Check(rule, "ok", "the sigmoids and tanhs keep their slope", evidence, (), span(run), "", threshold, source)


def gradients_not_vanishing(run: Recording) -> Check:
    """problem: some weight matrix has a gradient, relative to its norm, below a thousandth of that of the last matrix.

    The relative gradient |dL/dW| / |W| is what plain gradient descent multiplies by its rate to get the update-to-weight ratio, so
    a factor of a thousand means that the same rate cannot suit both layers. The thousand is chosen. Sources: S. Hochreiter 1991;
    X. Glorot, Y. Bengio 2010, section 3.
    """
    rule, threshold = "vanishing gradients", "|gradient| / |weight| of every matrix above a thousandth of the last one's"
    source = "Glorot and Bengio 2010, section 3"
    gradients = relative_gradients(run)
    if len(gradients) < 2:
        return Check(rule, "unknown", "fewer than two weight matrices have gradients", threshold=threshold, source=source)
    names = list(gradients)
    last = gradients[names[-1]]
    small = tuple(name for name in names[:-1] if gradients[name] < 1e-3 * last or gradients[name] == 0)
    least = min(names[:-1], key=lambda name: gradients[name])
    evidence = ((least, number(gradients[least])), (names[-1], number(last)))
    if small:
        if gradients[least] == 0:
            text = f"no gradient at all reaches {least}"
        else:
            text = f"on its way from the last layer to {least} the gradient shrank by a factor of {number(last / gradients[least])}"
        return Check(
            rule, "problem", text, evidence, small, span(run),
            "Use ReLU with He initialisation, batch normalisation, residual connections, or fewer layers.", threshold, source,
        )  # fmt: skip
    return Check(rule, "ok", "gradients reach the first layer", evidence, (), span(run), "", threshold, source)


def gradients_not_exploding(run: Recording) -> Check:
    """problem: a gradient norm above 100 times its matrix's norm in the recent samples, or a jump of the norm of all gradients.

    At a relative gradient of 100 even a rate of 1e-5 takes plain gradient descent to the update-to-weight guide of 1e-3 (chosen). A
    jump is to 100 times the median of all samples before it and ten times the largest of the first five: a network that has all but
    learned its examples has tiny gradients, and a single hard one stands out without harm. Source: R. Pascanu, T. Mikolov,
    Y. Bengio, "On the difficulty of training recurrent neural networks", 2013, arXiv:1211.5063, section 3.2 (clip at a few times
    the average norm).
    """
    rule, threshold = (
        "exploding gradients",
        "|gradient| / |weight| at most 100; no jump to 100 times the median before and 10 times the start",
    )
    source = "Pascanu et al. 2013, arXiv:1211.5063"
    gradients = relative_gradients(run)
    norms = [(s["step"], s["grad_norm"]) for s in run.samples]
    if not gradients and not norms:
        return Check(rule, "unknown", "no gradient was sampled", threshold=threshold, source=source)
    large = {name: value for name, value in gradients.items() if value > 100}
    advice = "Clip the gradient norm (clip_grad_norm), begin with smaller weights, add normalisation, lower the learning rate."
    if large:
        worst = max(large, key=lambda name: large[name])
        evidence = tuple((name, number(value)) for name, value in large.items())
        text = f"the gradient of {worst} is {number(large[worst])} times as long as the weights themselves"
        return Check(rule, "problem", text, evidence, tuple(large), span(run), advice, threshold, source)
    early = max((norm for _, norm in norms[:5] if math.isfinite(norm)), default=math.nan)
    for i in range(5, len(norms)):
        usual = median([norm for _, norm in norms[:i]])
        step, norm = norms[i]
        if usual > 0 and norm > max(100 * usual, 10 * early):
            evidence = (("gradient norm", f"{number(norm)} at step {step}"), ("median before", number(usual)))
            text = f"the gradient norm jumped to {number(norm / usual)} times its median at step {step}"
            return Check(rule, "problem", text, evidence, (), (norms[0][0], step), advice, threshold, source, {"step": step})
    largest = max((norm for _, norm in norms if math.isfinite(norm)), default=math.nan)
    evidence = (("largest gradient norm", number(largest)),)
    return Check(rule, "ok", "gradients stay in bounds", evidence, (), span(run), "", threshold, source)


def _latest(run: Recording, key: str) -> dict[str, float]:
    """By layer, one measurement in the last sample that has it."""
    found: dict[str, float] = {}
    for sample in run.recent():
        found |= {name: about[key] for name, about in sample["layers"].items() if key in about}
    return found
