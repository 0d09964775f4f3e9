"""Corrections of the background, fitted by ``benchmarks/calibrate_synthetic.py``.

[stage W N1 N2 N3 REM, band delta theta alpha sigma beta]: log10 power added to the levels of the
law of real nights, and the share of its fast deviations that is left to the background, so that
background, events and uncertain epochs (mixed or atypical) together have the measured means and
spreads. Fitted numbers: run the script again after any change to events or background.
"""

from __future__ import annotations

import numpy as np

FPZ = np.array(
    [
        [0.16, -0.11, -0.05, -0.05, 0.12],
        [0.12, -0.31, -0.02, -0.09, 0.06],
        [0.16, -0.03, -0.08, -0.20, -0.05],
        [-0.04, -0.03, -0.10, -0.12, -0.17],
        [0.17, -0.09, -0.04, -0.06, 0.06],
    ]
)
PZ = np.array(
    [
        [0.15, -0.03, -0.45, 0.01, 0.11],
        [0.15, -0.09, -0.18, -0.03, 0.01],
        [0.19, 0.01, -0.04, -0.10, -0.09],
        [0.04, 0.00, -0.11, -0.09, -0.17],
        [0.20, -0.07, 0.00, -0.06, 0.01],
    ]
)
# 0.10 and 1.00 are the limits of the fit
FPZ_FAST = np.array(
    [
        [1.00, 1.00, 0.16, 0.10, 0.10],
        [0.72, 0.65, 0.91, 0.75, 0.47],
        [0.10, 0.60, 0.67, 0.67, 0.53],
        [0.10, 0.66, 0.96, 0.81, 0.10],
        [0.77, 0.10, 0.52, 0.15, 0.10],
    ]
)
PZ_FAST = np.array(
    [
        [0.22, 0.21, 0.10, 0.10, 0.10],
        [0.67, 1.00, 0.10, 0.11, 0.10],
        [0.77, 0.15, 0.12, 0.88, 0.10],
        [0.66, 0.74, 0.17, 0.70, 0.10],
        [0.35, 0.81, 0.73, 0.56, 0.10],
    ]
)
# own background of the horizontal EOG, log10 uV**2/Hz, gamma too; Wake is not fitted, as
# TIME_DOMAIN, which the other stages follow, has sleep alone
EOG = np.array(
    [
        [1.90, 0.90, 0.43, 0.21, -0.06, -0.40],
        [1.84, 0.84, 0.19, -0.19, -0.61, -0.91],
        [1.58, 0.60, 0.00, -0.37, -0.79, -1.09],
        [2.12, 0.81, 0.04, -0.34, -0.77, -1.11],
        [1.98, 0.69, -0.23, -0.65, -1.11, -1.45],
    ]
)
