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
        [0.16, -0.11, -0.04, -0.05, 0.09],
        [0.10, -0.29, -0.02, -0.09, 0.04],
        [0.17, -0.04, -0.06, -0.16, -0.08],
        [-0.03, -0.03, -0.10, -0.13, -0.19],
        [0.17, -0.08, -0.04, -0.06, 0.04],
    ]
)
PZ = np.array(
    [
        [0.15, -0.04, -0.43, 0.01, 0.11],
        [0.15, -0.09, -0.15, -0.03, 0.02],
        [0.19, 0.01, -0.04, -0.08, -0.09],
        [0.06, -0.01, -0.10, -0.09, -0.16],
        [0.20, -0.06, -0.01, -0.06, 0.01],
    ]
)
# 0.10 and 1.00 are the limits of the fit
FPZ_FAST = np.array(
    [
        [1.00, 1.00, 0.19, 0.10, 0.10],
        [0.98, 0.70, 0.96, 0.81, 0.59],
        [0.10, 0.59, 0.68, 0.46, 0.45],
        [0.10, 0.72, 1.00, 0.77, 0.10],
        [0.81, 0.12, 0.70, 0.23, 0.11],
    ]
)
PZ_FAST = np.array(
    [
        [0.34, 0.32, 0.10, 0.10, 0.10],
        [0.86, 1.00, 0.10, 0.10, 0.10],
        [0.85, 0.20, 0.13, 0.81, 0.10],
        [0.53, 0.76, 0.13, 0.65, 0.10],
        [0.33, 0.87, 0.71, 0.57, 0.10],
    ]
)
# own background of the horizontal EOG, log10 uV**2/Hz, gamma too; Wake is not fitted, as
# TIME_DOMAIN, which the other stages follow, has sleep alone
EOG = np.array(
    [
        [1.90, 0.90, 0.43, 0.21, -0.06, -0.40],
        [1.89, 0.88, 0.22, -0.16, -0.58, -0.88],
        [1.56, 0.59, 0.00, -0.37, -0.79, -1.09],
        [1.98, 0.71, -0.03, -0.41, -0.84, -1.18],
        [1.97, 0.64, -0.32, -0.74, -1.20, -1.54],
    ]
)
