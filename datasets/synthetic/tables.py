"""Figures of real nights that the law of :mod:`datasets.synthetic.law` has not: levels in uV.

Derived from data published under ODC-By (Kemp et al. 2000) by third parties.
"""

from __future__ import annotations

import numpy as np

# log10 of uV**2/Hz in N2, [Fpz-Cz, Pz-Oz], delta theta alpha sigma beta gamma: medians of 20
# Sleep-EDF cassette nights (ids 0-9), whose band of 13 to 30 Hz is shared out between sigma and
# beta as the bands of 153 nights suggest
N2_LEVEL = np.array(
    [
        [1.57, 0.66, 0.20, 0.02, -0.65, -1.32],
        [1.29, 0.54, 0.05, -0.20, -0.85, -1.62],
    ]
)

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
