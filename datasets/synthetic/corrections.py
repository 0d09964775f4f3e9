"""Corrections of the background, fitted by ``benchmarks/calibrate_synthetic.py``.

[stage W N1 N2 N3 REM, band]: log10 power added to the targets in ``tables``, and the share of the
within-night SD left to the residuals, so that background, events and uncertain epochs (mixed or
atypical) together have the measured medians and spreads. Fitted numbers: run the script again
after any change to events or background.
"""

from __future__ import annotations

import numpy as np

FPZ = np.array(
    [
        [-1.59, -0.38, 0.02, -0.06, 0.04],
        [0.13, -0.34, -0.06, -0.13, -0.03],
        [0.08, 0.04, -0.13, -0.00, -0.04],
        [-0.44, 0.10, 0.02, -0.10, -0.00],
        [0.20, 0.01, -0.01, -0.10, 0.03],
    ]
)
# delta of N1 and N2 was fitted to 0.15 below the table, halfway to the 153 nights of TIME_DOMAIN
PZ = np.array(
    [
        [0.21, 0.00, -0.25, -0.04, 0.07],
        [-0.04, -0.10, -0.32, -0.09, -0.02],
        [-0.02, 0.09, -0.06, 0.06, -0.05],
        [0.01, 0.07, 0.00, -0.12, -0.01],
        [0.26, -0.03, 0.04, -0.18, 0.05],
    ]
)
# 0.20 and 1.00 are the limits of the fit
FPZ_RESIDUAL = np.array(
    [
        [0.86, 1.00, 0.20, 0.20, 0.20],
        [0.69, 0.90, 1.00, 1.00, 1.00],
        [0.58, 1.00, 1.00, 1.00, 0.91],
        [0.20, 0.63, 0.97, 1.00, 0.88],
        [1.00, 1.00, 1.00, 0.28, 0.94],
    ]
)
PZ_RESIDUAL = np.array(
    [
        [0.46, 0.33, 0.20, 0.20, 0.89],
        [1.00, 1.00, 0.20, 0.95, 0.72],
        [1.00, 1.00, 1.00, 1.00, 0.38],
        [0.55, 0.20, 0.48, 0.20, 0.54],
        [1.00, 1.00, 0.81, 0.20, 0.20],
    ]
)
# own background of the horizontal EOG, log10 uV**2/Hz; Wake is not fitted, as TIME_DOMAIN, which
# the other stages follow, has sleep alone
EOG = np.array(
    [
        [1.90, 0.90, 0.40, 0.00, -0.40],
        [1.84, 0.86, 0.18, -0.52, -0.87],
        [1.55, 0.60, -0.01, -0.71, -1.06],
        [1.98, 0.76, 0.03, -0.67, -1.07],
        [2.02, 0.66, -0.37, -1.12, -1.52],
    ]
)
