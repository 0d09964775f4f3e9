"""NightBands: a recurrent network over a whole night that reads band powers relative to that night.

Only the differences between epochs of one night and one band are read, so units, amplifiers,
electrodes and fixed filters have no effect: each adds a constant number of decibels to a band.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.base import SleepModel
from models.dropout import Dropout
from utils.stages import EPOCH_SECONDS, NIGHT_RANGE, STAGES

# name -> from, to in Hz; powers of published tables are of the same five bands
BANDS = {
    "delta": (0.5, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 12.0),
    "sigma": (12.0, 16.0),
    "beta": (16.0, 30.0),
}
N_FEATURES = 2 * len(BANDS) + 1
_WINDOW_SECONDS = 4
_SILENCE = 1e-4  # of the night's median deviation: 80 dB below it there is no signal, but a gap
_TENS = 10.0  # decibels per unit of the first five features
_DEVIATIONS = 3.29  # a night's range, of a normal distribution with deviation 1
_LEAST_SPREAD = 1.0  # decibels; less is noise of the estimate, as in a night of one stage
_FURTHEST = 6.0  # units; artefacts lie further from the middle than any stage


class NightBands(SleepModel):
    """Stages every epoch of a night from the powers of one EEG in five bands.

    A bidirectional LSTM over the night and one linear layer: of torch's recurrent layers the one
    that is fast over a thousand steps on a CPU. Its answer depends on the whole night, so there is
    no staging of epochs one by one.

    Args:
        n_channels: 1, the one EEG.
        fs: samples per second of it; above 60, so that all bands can be measured.
        n_samples: of an epoch, 30 seconds.
        hidden: width of a layer in each direction.
        layers: of the recurrent network.
        dropout: on the input of each layer but the first, and on what is classified.

    Raises:
        ValueError: more than one channel, a rate too low, or epochs of another length.
    """

    stages_nights = True
    reads_bands = True

    def __init__(
        self,
        *,
        n_channels: int = 1,
        fs: float = 100.0,
        n_samples: int = 3000,
        hidden: int = 64,
        layers: int = 2,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        highest = max(high for _, high in BANDS.values())
        if n_channels != 1:
            raise ValueError(f"n_channels {n_channels}: night_bands reads one EEG")
        if fs <= 2 * highest:
            raise ValueError(f"fs {fs:g}: bands up to {highest:g} Hz need more than 60 Hz")
        if n_samples != round(fs * EPOCH_SECONDS):
            raise ValueError(f"n_samples {n_samples}: epochs of 30 s have {fs * EPOCH_SECONDS:g}")
        self.fs = fs
        widths = [N_FEATURES, *[2 * hidden] * (layers - 1)]
        self.forwards = nn.ModuleList(nn.LSTM(w, hidden, batch_first=True) for w in widths)
        self.backwards = nn.ModuleList(nn.LSTM(w, hidden, batch_first=True) for w in widths)
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(2 * hidden, len(STAGES))

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Features (b, n, 11) of nights -> logits (b, n, 5).

        ``lengths`` (b,) are the epochs of each night; what follows them is padding, which changes
        no epoch of the night. Without them all nights have n epochs.
        """
        return self.head(self.dropout(self.context(features, lengths)))

    def context(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What is classified of every epoch in its night: (b, n, 11) -> (b, n, 2 hidden)."""
        back = _reversal(features, lengths)
        for k, (ahead, behind) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            given = self.dropout(features) if k else features
            # padding stands at the end in both directions, where no state has yet to be made
            reverse = behind(_taken(given, back))[0]
            features = torch.cat([ahead(given)[0], _taken(reverse, back)], dim=-1)
        return features

    def decibels(self, x: Tensor, batch_size: int = 256) -> Tensor:
        """Mean power density of a night's epochs in dB: (n, c, t) -> (n, c, 5), NaN in gaps.

        A gap is an epoch that has a sample that is no number, or no signal to speak of beside the
        rest of the night. ``batch_size`` epochs at a time bound the memory, the result is the same.
        """
        parts = [band_decibels(part, self.fs) for part in x.split(batch_size)]
        if not parts:
            return x.new_zeros(*x.shape[:2], len(BANDS))
        powers, deviations = (torch.cat(part) for part in zip(*parts, strict=True))
        typical = torch.where(deviations > 0, deviations, float("nan")).nanmedian(dim=0).values
        # so written, NaN is a gap; nor is anything heard where the whole night is flat
        heard = (deviations > _SILENCE * typical) & powers.isfinite().all(dim=-1)
        return powers.masked_fill(~heard[..., None], float("nan"))

    def relative(self, db: Tensor) -> Tensor:
        """Decibels (n, 5) of a night, or (b, n, 5) of several, to features (…, n, 11).

        They are dB about the middle of the night's range in each band, in tens; the same over the
        night's spread, by that range; and 1 in gaps, NaN in any band, where the others are 0.
        Padding is NaN, too.
        """
        gap = db.isnan().any(dim=-1, keepdim=True)
        low, high = night_range(db, ~gap)
        middle = (low + high) / 2
        spread = ((high - low) / _DEVIATIONS).clamp_min(_LEAST_SPREAD)
        # masked before anything is computed: the gradient of NaN times 0 is NaN
        about = torch.where(gap, middle, db) - middle
        features = torch.cat([about / _TENS, about / spread], dim=-1)
        return torch.cat([features.clamp(-_FURTHEST, _FURTHEST), gap.to(db)], dim=-1)

    def middle(self, db: Tensor) -> Tensor:
        """What the decibels (n, 5) of a night are read relative to: (1, 5)."""
        low, high = night_range(db, ~db.isnan().any(dim=-1, keepdim=True))
        return (low + high) / 2

    def logits_of(self, db: Tensor) -> Tensor:
        """Decibels (n, 5) of one night to logits (n, 5), with gradients if ``db`` asks for them."""
        return self(self.relative(db)[None])[0]

    def features_of_night(self, x: Tensor, batch_size: int = 256) -> Tensor:
        """What the network reads of a night's signals: (n, 1, t) -> (n, 11)."""
        return self.relative(self.decibels(x, batch_size)[:, 0])

    @torch.no_grad()
    def stage_night(self, x: Tensor, batch_size: int = 256) -> Tensor:
        """Probabilities of a whole night: (n, 1, t) -> (n, 5).

        ``batch_size``, in epochs, bounds memory and does not change the result.
        """
        if not len(x):  # recurrent layers refuse sequences of no epochs
            return x.new_zeros(0, len(STAGES))
        features = self.features_of_night(x, batch_size)
        return self(features[None].to(self.head.weight))[0].softmax(dim=-1)


def band_decibels(x: Tensor, fs: float) -> tuple[Tensor, Tensor]:
    """Epochs (n, c, t) to dB of their mean density per band (n, c, 5) and deviations (n, c).

    Welch's method: Hann windows of 4 s that overlap by half, each without its mean. Decibels are
    of units²/Hz.
    """
    length = round(_WINDOW_SECONDS * fs)
    x = x.float() - x.float().mean(dim=-1, keepdim=True)  # a large offset would cost digits
    frames = x.unfold(-1, length, length // 2)
    window = torch.hann_window(length, device=x.device)
    spectra = torch.fft.rfft((frames - frames.mean(dim=-1, keepdim=True)) * window)
    # twice, as half of the power is at negative frequencies
    density = 2 * spectra.abs().square().mean(dim=-2) / (fs * window.square().sum())
    hertz = torch.arange(density.shape[-1], device=x.device) * fs / length
    powers = [
        density[..., (hertz >= low) & (hertz < high)].mean(dim=-1) for low, high in BANDS.values()
    ]
    return 10 * torch.stack(powers, dim=-1).log10(), x.std(dim=-1)


def night_range(db: Tensor, recorded: Tensor) -> Tensor:
    """From the 5th to the 95th percentile of each band over the ``recorded`` (…, n, 1) epochs.

    (…, n, 5) -> (2, …, 1, 5). Between two epochs by linear interpolation; a night without any has
    zeros.
    """
    # not nanquantile, whose gradient is NaN wherever there is one
    ordered = db.masked_fill(~recorded, float("inf")).sort(dim=-2).values
    last = (recorded.sum(dim=-2, keepdim=True) - 1).clamp_min(0)
    ends = []
    for share in NIGHT_RANGE:
        place = (share * last).expand(*db.shape[:-2], 1, db.shape[-1])
        left = place.long()
        right = torch.minimum(left + 1, last)
        low, high = ordered.gather(-2, left), ordered.gather(-2, right)
        ends.append(low + (high - low) * (place - left))
    values = torch.stack(ends)
    return torch.where(recorded.any(dim=-2, keepdim=True), values, 0.0)


def _reversal(features: Tensor, lengths: Tensor | None) -> Tensor:
    """Places (b, n, 1) that reverse each night within its length and leave padding as it is."""
    n = features.shape[1]
    place = torch.arange(n, device=features.device)
    if lengths is None:
        return place.flip(0)[None, :, None].expand(len(features), n, 1)
    ends = lengths.to(features.device)[:, None]
    return torch.where(place < ends, ends - 1 - place, place)[..., None]


def _taken(values: Tensor, places: Tensor) -> Tensor:
    """Epochs of ``values`` (b, n, d) in the order of ``places`` (b, n, 1)."""
    return values.gather(1, places.expand_as(values))
