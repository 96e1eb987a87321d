"""All rules, in the order in which a teacher would look: what may be a cause before what follows from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from . import layer_rules, loss_rules
from .check import Check
from .recording import Recording

RULES: tuple[Callable[[Recording], Check], ...] = (
    loss_rules.loss_is_a_number,
    loss_rules.rate_not_too_high,
    loss_rules.rate_not_too_low,
    loss_rules.starts_at_chance,
    layer_rules.gradients_not_exploding,
    layer_rules.gradients_not_vanishing,
    layer_rules.units_live,
    layer_rules.units_not_saturated,
    loss_rules.leaves_chance,
    loss_rules.overfits_ten,
    loss_rules.generalises,
)


_UNTOUCHED = (loss_rules.loss_is_a_number, loss_rules.overfits_ten)  # a later NaN takes nothing from what these say
_OF_GRADIENTS = (layer_rules.gradients_not_exploding, layer_rules.gradients_not_vanishing)  # NaN is no gradient either


def diagnose(run: Recording) -> list[Check]:
    """Every rule's answer about a run, in the order of `RULES`.

    Where the loss stopped being a number, the rules see the steps before it: trouble found there stands, and what would need later
    steps is not known.
    """
    broken = next((step for step, loss in enumerate(run.loss, 1) if not math.isfinite(loss)), None)
    if broken is None:
        return [rule(run) for rule in RULES]
    return [rule(run) if rule in _UNTOUCHED else _judged_before(rule, run, broken) for rule in RULES]


def _judged_before(rule: Callable[[Recording], Check], run: Recording, broken: int) -> Check:
    before = replace(
        run,
        loss=run.loss[: broken - 1],
        rate=run.rate[: broken - 1],
        accuracy=run.accuracy[: broken - 1],
        samples=[s for s in run.samples if s["step"] < broken],
        epochs=[e for e in run.epochs if e["step"] < broken],
    )
    check = rule(before)
    needs_one_step = rule is loss_rules.starts_at_chance and before.steps > 0
    unmeasured = rule not in _OF_GRADIENTS and check.verdict == "unknown" and check == rule(run)  # for no want of steps
    if check.verdict in ("problem", "warning") or needs_one_step or unmeasured:
        return check
    text = f"the loss stopped being a number at step {broken}"
    return Check(check.rule, "unknown", text, threshold=check.threshold, source=check.source)
