"""Counterfactuals in a scorer's words, beside the rules of the AASM manual: rows and sentences.

Berry et al., The AASM Manual for the Scoring of Sleep and Associated Events, version 2.6, 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from interpret.activities import ACTIVITIES, SLOW_WAVE_TIMES, SLOW_WAVE_UV, Measured
from interpret.counterfactuals import Outcome
from interpret.plausibility import Plausibility
from utils.stages import STAGES

Row = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """A rule of the manual: ``stage`` from ``limit`` of an activity on, in the activity's unit."""

    stage: str
    limit: float
    words: str


RULES = {
    "slow waves": Rule("N3", 20.0, "N3 from 20 % of the epoch on"),
    "alpha": Rule("W", 50.0, "W by alpha in more than 50 % of the epoch"),
    "spindles": Rule("N2", 1.0, "N2 by a spindle or a K-complex"),
    "eye movements": Rule("REM", 1.0, "REM by rapid eye movements with low chin tone"),
}
_NOUNS = {activity.name: activity.noun for activity in ACTIVITIES}
_LEAVES = {"muscle tone": "REM by low chin tone with rapid eye movements"}  # no limit in dB


def row_of(outcome: Outcome) -> Row:
    """What an edit does, as plain values.

    ``amount`` of ``unit`` (with its sign), in ``deviations`` of the night too; ``before`` and
    ``after`` as measured in the signals; ``new_stage`` ``None`` where nothing up to the amount
    changes the stage; ``rule`` of the manual, and whether the change ``follows_rule``.
    """
    measured, activity = outcome.edit.measured, outcome.edit.activity
    rule = RULES.get(activity.name)
    before = float(measured.values[outcome.edit.epoch])
    after = measured.value_with(outcome.edit.epoch, outcome.added())
    return {
        "epoch": outcome.edit.epoch,
        "stage": STAGES[outcome.stage],
        "edit": activity.name,
        "amount": round(outcome.edit.sign * outcome.amount, 2),
        "unit": activity.unit,
        "deviations": round(outcome.deviations, 3),
        "before": round(before, 2),
        "after": round(after, 2),
        "event_floor": round(measured.floor, 2) if activity.how != "level" else None,
        "new_stage": STAGES[outcome.new_stage] if outcome.changes else None,
        "p_before": round(float(outcome.probabilities[outcome.stage]), 4),
        "p_after": round(float(outcome.edited[outcome.stage]), 4),
        "confirmed": outcome.confirmed,
        "rule": rule.words if rule else _LEAVES.get(activity.name),
        "follows_rule": follows(rule, outcome, before, after),
    }


def follows(rule: Rule | None, outcome: Outcome, before: float, after: float) -> bool | None:
    """Whether a change into or out of the rule's stage passes the rule's limit on its way.

    ``None`` where the rule does not concern the change.
    """
    if rule is None or not outcome.changes:
        return None
    if STAGES[outcome.new_stage] == rule.stage:
        return before < rule.limit <= after
    if STAGES[outcome.stage] == rule.stage:
        return after < rule.limit <= before
    return None


def plausible_row(plausibility: Plausibility) -> Row:
    """Fields that only the least edit of an epoch has."""
    return {
        "farther_than_%": plausibility.distance,
        "farther_than_before_%": plausibility.distance_before,
        "of_real_epochs": plausibility.of_epochs,
        "staged_by": plausibility.staged_by,
        "votes": {name: [STAGES[k] for k in pair] for name, pair in plausibility.votes.items()},
        "random_change": plausibility.random_change,
        "random_same": plausibility.random_same,
    }


def sentence_of(rows: Sequence[Row], least: Row | None) -> str:
    """One sentence for an epoch: ``N2; with 18 % more slow-wave time it would be N3 (…)``."""
    if not rows:
        return "No channel that edits are known for."
    if least is None:
        tried = [amount_words(row) for row in rows if not row["edit"].endswith("power")]
        if of_bands := [abs(row["amount"]) for row in rows if row["edit"].endswith("power")]:
            tried.append(f"{max(of_bands):.0f} dB more or less power in any band")
        return f"{rows[0]['stage']}; no edit changes it (up to {', '.join(tried)})."
    facts = [measure_words(least)]
    if least["rule"]:
        facts.append(f"the manual: {least['rule']}")
    facts.append(f"{least['deviations']:.1f} SD between epochs of this night")
    text = f"{least['stage']}; with {amount_words(least)} it would be {least['new_stage']}"
    return f"{text} ({'; '.join(facts)})."


def support_of(least: Row | None) -> str:
    """Whether the edited epoch could be real, who else agrees, what random edits do."""
    if least is None:
        return ""
    parts = [
        "Staging the whole edited night confirms it"
        if least["confirmed"]
        else "Staging the whole edited night does not confirm it"
    ]
    if least["farther_than_%"] is None:
        parts.append(f"too few real {least['new_stage']} epochs to compare with")
    else:
        parts.append(
            f"the edited epoch lies farther out than {least['farther_than_%']:.0f} % of the "
            f"{least['of_real_epochs']} {least['new_stage']} epochs of the night (by the "
            f"{least['staged_by']}; "
            f"unedited {least['farther_than_before_%']:.0f} %)"
        )
    if least["votes"]:
        votes = "; ".join(f"{name} {a} to {b}" for name, (a, b) in least["votes"].items())
        parts.append(f"parts: {votes}")
    parts.append(f"{100 * least['random_change']:.0f} % of random edits of equal size change it")
    return "; ".join(parts) + "."


def amount_words(row: Row) -> str:
    """``18 % more slow-wave time``, ``2 spindles fewer``, ``3 dB less sigma power``."""
    size, is_more = abs(row["amount"]), row["amount"] > 0
    noun = _NOUNS[row["edit"]]
    if row["unit"] == "events":
        return f"{size:.0f} {noun}{'s' * (size != 1)} {'more' if is_more else 'fewer'}"
    return f"{size:.0f} {row['unit']} {'more' if is_more else 'less'} {noun}"


def measure_words(row: Row) -> str:
    """What was measured before and after: ``slow waves in 8 %, then 26 % of the epoch``."""
    if row["unit"] == "dB":
        return f"{row['before']:.0f} dB, then {row['after']:.0f} dB"
    if row["unit"] == "events":
        return f"{row['edit']}: {row['before']:.0f}, then {row['after']:.0f}"
    return f"{row['edit']} in {row['before']:.0f} %, then {row['after']:.0f} % of the epoch"


def criterion_of(measured: Measured) -> str:
    """What counts as an event, in words."""
    activity = measured.activity
    low, high = activity.band
    if activity.how == "waves":
        size = (
            f"{SLOW_WAVE_UV:g} {measured.unit}"
            if measured.in_microvolt
            else f"{SLOW_WAVE_TIMES:g} times the night's median wave (no unit is known)"
        )
        return f"waves of {low:g}-{high:g} Hz over {size} from peak to peak"
    if activity.how == "bursts":
        return (
            f"{low:g}-{high:g} Hz for {activity.shortest:g} s or more at over {activity.times:g} "
            "times the median of the night"
        )
    return f"mean power in {low:g}-{high:g} Hz"
