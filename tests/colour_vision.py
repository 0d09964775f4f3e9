"""Colours as somebody with a colour deficiency sees them, and how far apart they then are."""

from __future__ import annotations

import numpy as np

# of linear RGB, severity 1: Machado, Oliveira & Fernandes 2009,
# https://doi.org/10.1109/TVCG.2009.113
SEEN_BY = {
    "everyone": np.eye(3),
    "protanopia": np.array([
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]),
    "deuteranopia": np.array([
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]),
    "tritanopia": np.array([
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ]),
}  # fmt: skip
_XYZ = np.array([  # of linear sRGB, over the white of D65
    [0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
    [0.0193339, 0.1191920, 0.9503041],
]) / np.array([[0.95047], [1.0], [1.08883]])  # fmt: skip


def cielab(colour: str, vision: str = "everyone") -> np.ndarray:
    """L*, a*, b* of a colour ``#rrggbb`` as somebody of that ``vision`` sees it."""
    rgb = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = _XYZ @ np.clip(SEEN_BY[vision] @ linear, 0, 1)
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(one: str, two: str, vision: str = "everyone") -> float:
    """Distance of two colours in CIELAB; about 2 is the least that can be seen."""
    return float(np.linalg.norm(cielab(one, vision) - cielab(two, vision)))
