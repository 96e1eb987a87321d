"""All rules, in the order in which a teacher would look: what may be a cause before what follows from it."""

from __future__ import annotations

from collections.abc import Callable

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


def diagnose(run: Recording) -> list[Check]:
    """Every rule's answer about a run, in the order of `RULES`."""
    return [rule(run) for rule in RULES]
