"""Figures of real nights, which synthetic ones are drawn from and tested against.

Sleep-EDF cassette, 20 nights of 10 subjects (ids 0-9, 25-34 years), Wake trimmed to 60 epochs
around sleep. Band powers: Welch, 256 samples at 100 Hz per epoch, mean density in a band, log10 of
uV**2/Hz. Derived from data published under ODC-By (Kemp et al. 2000) by third parties.
"""

from __future__ import annotations

import numpy as np

# [stage W N1 N2 N3 REM, band delta theta alpha beta gamma]
FPZ_MEDIAN = np.array(
    [
        [1.78, 0.67, 0.26, -0.20, -0.35],
        [1.05, 0.37, -0.03, -0.59, -1.00],
        [1.57, 0.66, 0.19, -0.35, -1.22],
        [2.25, 0.94, 0.37, -0.46, -1.35],
        [1.15, 0.49, -0.04, -0.66, -1.07],
    ]
)
FPZ_BETWEEN = np.array(
    [
        [0.24, 0.23, 0.32, 0.38, 0.44],
        [0.20, 0.27, 0.33, 0.32, 0.39],
        [0.19, 0.20, 0.27, 0.29, 0.37],
        [0.20, 0.19, 0.32, 0.28, 0.39],
        [0.16, 0.22, 0.28, 0.30, 0.36],
    ]
)
FPZ_WITHIN = np.array(
    [
        [0.49, 0.33, 0.22, 0.29, 0.40],
        [0.30, 0.20, 0.20, 0.22, 0.34],
        [0.25, 0.19, 0.18, 0.19, 0.21],
        [0.15, 0.11, 0.12, 0.15, 0.20],
        [0.21, 0.16, 0.16, 0.14, 0.19],
    ]
)
PZ_MEDIAN = np.array(
    [
        [0.80, 0.31, 0.36, -0.25, -0.35],
        [0.81, 0.23, 0.00, -0.87, -1.45],
        [1.29, 0.54, 0.01, -0.62, -1.62],
        [1.86, 0.70, 0.02, -0.85, -1.69],
        [0.87, 0.31, -0.03, -0.97, -1.55],
    ]
)
PZ_BETWEEN = np.array(
    [
        [0.25, 0.30, 0.34, 0.36, 0.52],
        [0.27, 0.30, 0.34, 0.27, 0.30],
        [0.27, 0.28, 0.28, 0.31, 0.30],
        [0.25, 0.27, 0.28, 0.29, 0.26],
        [0.24, 0.28, 0.31, 0.27, 0.30],
    ]
)
PZ_WITHIN = np.array(
    [
        [0.37, 0.25, 0.32, 0.39, 0.62],
        [0.33, 0.21, 0.28, 0.22, 0.37],
        [0.23, 0.16, 0.16, 0.19, 0.18],
        [0.19, 0.09, 0.11, 0.14, 0.18],
        [0.18, 0.15, 0.20, 0.13, 0.15],
    ]
)

STAGE_SHARES = np.array([3577, 1643, 8462, 3025, 3523]) / 20230

# [from, to], W N1 N2 N3 REM
_TRANSITIONS = np.array(
    [
        [0.931, 0.062, 0.002, 0.000, 0.004],
        [0.053, 0.652, 0.239, 0.001, 0.055],
        [0.011, 0.024, 0.903, 0.047, 0.015],
        [0.005, 0.007, 0.121, 0.867, 0.001],
        [0.015, 0.037, 0.016, 0.000, 0.932],
    ]
)
TRANSITIONS = _TRANSITIONS / _TRANSITIONS.sum(axis=1, keepdims=True)
JUMPS = np.array(
    [
        [0.000, 0.906, 0.029, 0.004, 0.061],
        [0.152, 0.000, 0.687, 0.002, 0.159],
        [0.109, 0.244, 0.000, 0.488, 0.159],
        [0.035, 0.052, 0.908, 0.000, 0.005],
        [0.223, 0.542, 0.231, 0.004, 0.000],
    ]
)
# median and mean bout length in epochs; Wake with its two 60-epoch margins
BOUT_MEDIAN = np.array([2, 2, 5, 2, 11])
BOUT_MEAN = np.array([13.6, 2.9, 10.3, 7.5, 14.8])

# shares by hour since sleep onset, hours 1-8
HOURLY_N3 = np.array([0.30, 0.28, 0.22, 0.24, 0.08, 0.09, 0.06, 0.04])
HOURLY_REM = np.array([0.01, 0.16, 0.20, 0.20, 0.20, 0.27, 0.28, 0.33])

# medians per stage N1, N2, N3, REM: SD uV, IQR uV, zero crossings per epoch, mobility, kurtosis;
# 153 nights; N3 is the mean of stages 3 and 4
TIME_DOMAIN = {
    "EOG horizontal": np.array([
        [16.8, 19.6, 284, 0.344, 0.65],
        [12.3, 15.0, 299, 0.370, 0.75],
        [21.3, 27.0, 192, 0.228, 0.37],
        [24.3, 20.7, 219, 0.193, 2.65],
    ]),
    "EEG Fpz-Cz": np.array([
        [10.4, 12.3, 466, 0.466, 0.85],
        [13.6, 16.0, 323, 0.314, 0.99],
        [28.0, 36.8, 168, 0.172, 0.06],
        [10.5, 12.6, 423, 0.420, 0.83],
    ]),
    "EEG Pz-Oz": np.array([
        [5.9, 7.4, 426, 0.448, 0.47],
        [8.1, 10.0, 319, 0.328, 0.67],
        [16.1, 20.6, 183, 0.185, 0.33],
        [5.9, 7.5, 398, 0.425, 0.34],
    ]),
}  # fmt: skip
