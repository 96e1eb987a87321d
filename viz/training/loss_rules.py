"""What the losses, accuracies and rates of a run say.

A rule is a function of a recording; its docstring has its threshold, what of it we chose ourselves, and its source. A rule that cannot be
judged says so instead of passing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .check import NOTES, Check, median, medians, number, percent, relative_gradients, span
from .recording import Recording


def _window(run: Recording) -> int:
    """Steps over which losses are averaged before they are compared: a twentieth of the run, 1 to 50."""
    return max(1, min(50, run.steps // 20))


def loss_is_a_number(run: Recording) -> Check:
    """problem: some loss is NaN or infinite. Evidence: the first such step and the weights that are no longer finite."""
    rule = "loss not a number"
    bad = np.flatnonzero(~np.isfinite(run.loss))
    threshold = "no loss is NaN or infinite"
    if not len(bad):
        return Check(rule, "ok", f"all {run.steps} losses are finite", threshold=threshold)
    step = int(bad[0]) + 1
    evidence = [("first at step", str(step))]
    before = [v for v in run.loss[: step - 1]][-1:]
    if before:
        evidence.append(("loss one step before", number(before[0])))
    if run.broken:
        evidence.append(("weights no longer finite", ", ".join(run.broken[:4]) + (" ..." if len(run.broken) > 4 else "")))
    for sample in run.samples:
        if sample["step"] == step:
            layers = [name for name, about in sample["layers"].items() if not math.isfinite(about["mean"])]
            evidence += [("first layer whose output is no number", layers[0])] if layers else []
    norms = [s["grad_norm"] for s in run.samples if s["step"] < step]
    if norms:
        evidence.append(("gradient norm when last sampled", number(norms[-1])))
    return Check(
        rule, "problem", f"the loss stopped being a number at step {step}", tuple(evidence), tuple(run.broken), (step, step),
        "Lower the learning rate tenfold, clip gradients, and look for log(0) or a division by zero with "
        "tg.autograd.detect_anomaly().",
        threshold, NOTES, {"step": step},
    )  # fmt: skip


def starts_at_chance(run: Recording) -> Check:
    """warning: the first loss is above 1.5 ln C: some classes begin with large scores (a chosen factor).

    A softmax classifier with small weights gives every class 1/C, so its loss begins near ln C (2.303 for ten classes).
    Source: CS231n notes, neural networks 3, sanity checks: "look for correct loss at chance performance".
    """
    rule, threshold = "bad start", "first loss at most 1.5 ln C"
    if run.chance is None or not run.steps:
        return Check(rule, "unknown", "the loss at chance is not known; give TrainingMonitor(classes=C)", threshold=threshold)
    first = run.loss[0]
    evidence = (("first loss", number(first)), ("ln C", number(run.chance)))
    if first > 1.5 * run.chance:
        return Check(
            rule, "warning", f"the loss starts at {number(first)}, guessing would give ln C = {number(run.chance)}", evidence, (), (1, 1),
            "Normalise the inputs, or begin with smaller weights in the last layer.", threshold, NOTES,
        )  # fmt: skip
    return Check(rule, "ok", "the first loss is what guessing gives, or less", evidence, (), (1, 1), "", threshold, NOTES)


def leaves_chance(run: Recording) -> Check:
    """problem: after 50 steps or more the mean loss of the last fifth lies within 3 % of ln C (a chosen band): nothing is learned."""
    rule, threshold = "stuck at chance", "from step 50 on, the mean loss of the last fifth is not within 3 % of ln C"
    if run.chance is None:
        return Check(rule, "unknown", "the loss at chance is not known; give TrainingMonitor(classes=C)", threshold=threshold)
    if run.steps < 50:
        return Check(rule, "unknown", f"{run.steps} steps are too few to tell; 50 are needed", threshold=threshold)
    late = float(np.mean(run.loss[-max(10, run.steps // 5) :]))
    evidence = (("mean loss of the last fifth", number(late)), ("ln C", number(run.chance)))
    if abs(late - run.chance) <= 0.03 * run.chance:
        return Check(
            rule, "problem", f"the loss stays at ln C = {number(run.chance)}: the network guesses", evidence, (),
            (run.steps - max(10, run.steps // 5) + 1, run.steps),
            "Try can_overfit on ten examples; check labels against images, the learning rate, and what is said of the layers.",
            threshold, NOTES,
        )  # fmt: skip
    return Check(rule, "ok", "the loss has left chance", evidence, (), (1, run.steps), "", threshold, NOTES)


def rate_not_too_high(run: Recording) -> Check:
    """problem: the smoothed loss rose to more than twice the first loss. warning: it leaps about a level while weights move too much.

    The second, after 60 steps or more: the median update-to-weight ratio of the recent samples, over all weight matrices, is above
    2e-2 (twenty times the guide of 1e-3), and the loss has stopped falling: the mean of the last third of the run is at least 95 % of
    that of the middle third, above a twentieth of the first loss, and below it by less than three standard errors. Those come from
    the loss's own noise, the deviation s of the differences between neighbouring steps: with n steps in a third, s / sqrt(n). So a
    loss that falls steadily, however slowly, is none. The factors 2, 20, 95 %, 1/20 and 3 and the 60 steps are chosen. Source: CS231n
    notes, neural networks 3, "ratio of weights:updates": "somewhere around 1e-3 ... if higher, the learning rate is likely too high".
    """
    rule = "learning rate too high"
    threshold = "smoothed loss at most twice the first; update-to-weight ratio at most 2e-2 where the loss has stopped falling"
    if run.steps < 10:
        return Check(rule, "unknown", f"{run.steps} steps are too few to tell; 10 are needed", threshold=threshold)
    smooth = run.smooth_loss(_window(run))
    worst = int(np.argmax(smooth))
    first, third = run.loss[0], run.steps // 3
    ratios = medians(run, "parameters", "ratio", run.matrices())
    ratio = median(list(ratios.values()))
    evidence = [("learning rate", number(run.rate[worst]))]
    advice = "Lower the learning rate three- to tenfold."
    if first > 0 and smooth[worst] > 2 * first:
        peak = number(float(smooth[worst]))
        evidence += [("first loss", number(first)), ("highest smoothed loss", f"{peak} at step {worst + 1}")]
        before = [
            s["parameters"].get(name, {}).get("ratio", 0.0) for s in run.samples for name in ratios if s["step"] <= worst + 1
        ]
        if before:
            evidence.append(("largest update-to-weight ratio until then", number(max(before))))
        return Check(
            rule, "problem", f"the loss rose from {number(first)} to {peak}: the steps are too large", tuple(evidence), (),
            (1, worst + 1), advice, threshold, NOTES, {"step": worst + 1},
        )  # fmt: skip
    evidence.append(("median update-to-weight ratio", number(ratio)))
    middle, last = float(np.mean(run.loss[third : 2 * third])), float(np.mean(run.loss[-third:]))
    evidence.append(("mean loss, middle and last third", f"{number(middle)}, {number(last)}"))
    error = float(np.std(np.diff(run.loss[third:]))) / math.sqrt(third)
    stopped = last > 0.95 * middle and last > 0.05 * first and middle - last < 3 * error
    if ratio > 2e-2 and stopped and run.steps >= 60:
        evidence.append(("standard error of their difference", number(error)))
        high = tuple(name for name, value in ratios.items() if value > 2e-2)
        return Check(
            rule, "warning", f"weights change by {percent(ratio)} a step (the guide is 0.1 %) and the loss falls no further",
            tuple(evidence), high, span(run), advice, threshold, NOTES,
        )  # fmt: skip
    return Check(rule, "ok", "the loss does not blow up", tuple(evidence), (), span(run), "", threshold, NOTES)


def rate_not_too_low(run: Recording) -> Check:
    """warning: the update-to-weight ratio is below 1e-4 in every weight matrix, and the loss fell by less than a fifth.

    A tenth of the guide of 1e-3; the fifth is chosen. Not said where the gradients themselves are the trouble: then the median
    gradient norm is below a thousandth of the weight norm in every matrix. Source: as for a rate too high.
    """
    rule, threshold = "learning rate too low", "some update-to-weight ratio above 1e-4, or the loss fell by a fifth"
    ratios = medians(run, "parameters", "ratio", run.matrices())
    if run.steps < 30 or not ratios:
        return Check(rule, "unknown", f"{run.steps} steps are too few to tell; 30 are needed", threshold=threshold)
    window = max(5, _window(run))
    first, last = float(np.mean(run.loss[:window])), float(np.mean(run.loss[-window:]))
    largest = max(ratios.values())
    gradients = relative_gradients(run)
    evidence = (
        ("learning rate", number(run.rate[-1])), ("largest median update-to-weight ratio", number(largest)),
        ("loss at first and at last", f"{number(first)}, {number(last)}"),
    )  # fmt: skip
    if largest < 1e-4 and last > 0.8 * first and max(gradients.values(), default=0) > 1e-3:
        return Check(
            rule, "warning", f"weights change by no more than {number(largest)} of themselves a step (the guide is 1e-3)", evidence,
            tuple(ratios), span(run), "Raise the learning rate tenfold and look again.", threshold, NOTES,
        )  # fmt: skip
    return Check(rule, "ok", "the weights move, or the loss falls", evidence, (), span(run), "", threshold, NOTES)


def generalises(run: Recording) -> Check:
    """problem: training accuracy is 10 points or more above validation accuracy; or, where no accuracy is known, see below.

    warning: the validation loss is 20 % above its best value while the training loss went on falling, and the accuracies (where
    known) are 3 points or more apart. Sources: CS231n notes, neural networks 3, "train/val accuracy" (the gap); L. Prechelt, "Early
    stopping - but when?", 1998 (generalisation loss E_va / E_opt - 1). The numbers 10, 20 and 3 are chosen.
    """
    rule, threshold = "overfitting", "accuracy gap below 10 points; validation loss less than 20 % above its best"
    losses = [(e["step"], e["val_loss"], e.get("train_loss", math.nan)) for e in run.epochs if "val_loss" in e]
    gaps = [
        (e["step"], e["train_accuracy"], e["val_accuracy"]) for e in run.epochs if {"train_accuracy", "val_accuracy"} <= set(e)
    ]
    if not losses and not gaps:
        return Check(rule, "unknown", "there is no validation to compare with", threshold=threshold, source=NOTES)
    evidence, gap = [], math.nan
    if gaps:
        _, train, validation = gaps[-1]
        gap = train - validation
        evidence += [("training accuracy", f"{100 * train:.1f} %"), ("validation accuracy", f"{100 * validation:.1f} %")]
    rising = 0.0
    if losses:
        best = min(losses, key=lambda entry: entry[1])
        rising = losses[-1][1] / best[1] - 1 if best[1] > 0 else 0.0
        fell = not losses[-1][2] > best[2]
        evidence.append(("validation loss", f"{number(losses[-1][1])}, at best {number(best[1])} at step {best[0]}"))
        rising = rising if fell else 0.0
    advice = "More or augmented data, weight decay, dropout, a smaller network, or stop at the best validation loss."
    about: dict[str, Any] = {"threshold": threshold, "source": NOTES, "steps": (1, run.steps)}
    if gap >= 0.1:
        return Check(
            rule, "problem", f"training is {100 * gap:.0f} points above validation", tuple(evidence), advice=advice, **about
        )
    if rising >= 0.2 and not gap < 0.03:
        text = f"the validation loss is {percent(rising)} above its best and training goes on"
        return Check(rule, "warning", text, tuple(evidence), advice=advice, **about)
    return Check(rule, "ok", "validation follows training", tuple(evidence), **about)


def overfits_ten(run: Recording) -> Check:
    """problem: `can_overfit` could not bring a handful of examples to no loss. Source: CS231n notes, neural networks 3, sanity checks."""
    rule, threshold = "cannot overfit ten examples", "a copy reaches 1 % of the first loss on ten examples"
    if run.overfit is None:
        return Check(
            rule, "unknown", "not tried; tg.viz.can_overfit(model, images, labels) does", threshold=threshold, source=NOTES
        )
    tried = run.overfit
    evidence = (
        ("examples", str(tried["examples"])), ("first loss", number(tried["first"])),
        ("loss after", f"{number(tried['last'])} in {tried['steps']} steps"),
    )  # fmt: skip
    about: dict[str, Any] = {"threshold": threshold, "source": NOTES}
    if tried["passed"]:
        return Check(rule, "ok", f"{tried['examples']} examples can be learned by heart", evidence, **about)
    return Check(
        rule, "problem", f"not even {tried['examples']} examples can be learned by heart", evidence,
        advice="Something is broken: labels that do not belong to the images, a layer that passes no gradient, a wrong loss.",
        **about,
    )  # fmt: skip
