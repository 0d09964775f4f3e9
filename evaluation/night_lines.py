"""What is printed of a staged recording."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evaluation.staged_file import StagedFile


def report(name: str, staged: StagedFile, written: Sequence[Path], why: str = "") -> list[str]:
    """The channels that were read, epochs with a quality flag, agreement, paths, and why those."""
    read = ", ".join(f"{label} <- {source}" for label, source in staged.reads.items())
    absent = f"; absent: {', '.join(staged.absent)}" if staged.absent else ""
    n = sum(bool(words) for words in staged.quality_flags)
    lines = [f"{name}: {len(staged.stages)} epochs; {read}{absent}; {n} with a quality flag"]
    if n_unscored := int((~staged.believed).sum()):
        lines.append(
            f"  {n_unscored} epochs lack a signal: unscored (--score_everything stages them too)"
        )
    if staged.votes:
        names = ", ".join(f"{vote.name} ({vote.weight:.0%})" for vote in staged.votes)
        spread = staged.spread.mean()
        lines.append(f"  mean of {len(staged.votes)} votes, spread {spread:.3f}: {names}")
    lines += [f"  note: {note}" for note in staged.notes]
    if staged.expert_path is not None:
        lines.append(f"  agrees with {staged.expert_path.name} in {agreement_of(staged)}")
    lines.append(f"  written: {' '.join(map(str, written))}{f' ({why})' if why else ''}")
    return lines


def agreement_of(staged: StagedFile) -> str:
    """Agreement over every epoch that the expert scored, and over those with a signal."""
    scored = staged.expert >= 0
    same, believed = staged.stages == staged.expert, scored & staged.believed
    text = f"{(same & scored).sum()} of {scored.sum()} scored epochs"
    if (believed != scored).any():
        coverage = believed.sum() / scored.sum()
        text += f"; in {(same & believed).sum()} of {believed.sum()} with a signal ({coverage:.1%})"
    return text
