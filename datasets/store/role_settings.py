"""How stores keep channels that are named by role: unit and band, the same for all cohorts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datasets.store.preparation import RolePreprocessing

# unit, and edges in Hz of a zero-phase Butterworth band; a role such as EEG_C3 is kept like EEG
ROLE_PREPROCESSING = {
    "EEG": RolePreprocessing("uV", 0.3, 35.0),
    "EOG": RolePreprocessing("uV", 0.3, 35.0),
    "EMG": RolePreprocessing("uV", 10.0),
    "ECG": RolePreprocessing("uV", 0.5, 40.0),
    "SPO2": RolePreprocessing("%", high=0.4),
    "THOR": RolePreprocessing("a.u.", high=0.5),
    "ABDO": RolePreprocessing("a.u.", high=0.5),
}


def kept_by_role(roles: Sequence[str], required: Sequence[str]) -> Mapping[str, RolePreprocessing]:
    """Each role's own preprocessing, that of its kind (EEG for EEG_C3), or none and no unit."""
    kept = {}
    for role in roles:
        like = (
            ROLE_PREPROCESSING.get(role)
            or ROLE_PREPROCESSING.get(role.split("_")[0])
            or RolePreprocessing("a.u.")
        )
        kept[role] = RolePreprocessing(like.unit, like.low, like.high, required=role in required)
    return kept
