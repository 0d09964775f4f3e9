"""Any image network of torchvision as epoch encoder on log spectrograms, with a sequence encoder.

Phan et al. 2019 to 2022 read 2 s windows as images of 29 frames; here frames overlap more, so that
deep convolutions keep a resolution in time that Grad-CAM can show.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from models.attention import by_rows, sinusoidal_positions
from models.base import StagingModel
from models.batch_norm import share_batch_norm
from models.dropout import Dropout
from models.spectrogram import Spectrogram
from utils.stages import STAGES

_FEWEST_FRAMES = 7  # of the layer that Grad-CAM reads: four seconds each
_FIXED_SIZE = ("vit_", "maxvit_")  # take images of one size only
_SQUARE = 224
# some networks have 0.01, with which a training of a few hundred steps is evaluated as noise
_MOMENTUM = 0.1
# these shrink an image so often that a smaller one leaves them no pixel: least (frames, bins)
_LARGER = {"inception_v3": (80, 129), "alexnet": (64, 129), "squeezenet": (32, 129)}


def backbone_names() -> list[str]:
    """Image classifiers that the installed torchvision has."""
    from torchvision import models as networks

    return networks.list_models(module=networks)


class Backbone(StagingModel):
    """Stages every epoch of a window of ``num_seq`` from image encodings of their spectrograms.

    Args:
        name: a network of :func:`backbone_names`, built without pretrained weights.
        n_channels: signals of an epoch: one image plane each, mixed into the three of the network.
        fs, n_samples: of an epoch.
        num_seq: epochs of a window.
        sequence_encoder: "recurrent" (a bidirectional GRU) or "transformer".
        width: of an epoch's encoding.
        hop_seconds: between the 2 s windows of the spectrogram.
        dropout: of encodings.

    Raises:
        ValueError: an unknown network or sequence encoder.
    """

    reads_images = True
    made_for_hz = 100.0
    sequence_layer = "head"
    reads_spectrograms = True

    def __init__(
        self,
        *,
        name: str = "resnet18",
        n_channels: int = 1,
        fs: float = 100.0,
        n_samples: int = 3000,
        num_seq: int = 21,
        sequence_encoder: Literal["recurrent", "transformer"] = "recurrent",
        width: int = 128,
        hop_seconds: float = 0.5,
        dropout: float = 0.25,
    ) -> None:
        from torchvision import models as networks

        super().__init__()
        if name not in backbone_names():
            raise ValueError(f"no image network {name!r} in torchvision")
        self.num_seq, self.width = num_seq, width
        self.spectrogram = Spectrogram(n_channels, fs, n_samples, hop_seconds=hop_seconds)
        shape = (self.spectrogram.frames, self.spectrogram.bins)
        self.image_size = _image_size(name, shape)
        # swin's and maxvit's blocks keep the maps last, where Grad-CAM expects frames
        self.maps_last = name.startswith(("swin_", "vit_", "maxvit_"))
        options = {}
        if name in ("googlenet", "inception_v3"):
            # auxiliary classifiers return a second output; torchvision warns without init_weights
            options = {"aux_logits": False, "init_weights": True}
        elif name.startswith("maxvit_"):
            options = {"input_size": self.image_size}
        self.planes = nn.Conv2d(n_channels, 3, 1)
        self.network = networks.get_model(name, weights=None, num_classes=width, **options)
        share_batch_norm(self.network, _MOMENTUM)
        self.dropout = Dropout(dropout)
        if sequence_encoder == "recurrent":
            self.sequence = _Recurrent(width)
        elif sequence_encoder == "transformer":
            self.sequence = _Transformer(width, dropout)
        else:
            raise ValueError(f"sequence_encoder {sequence_encoder!r}: recurrent or transformer")
        self.head = nn.Linear(width, len(STAGES))

    def encode_epochs(self, x: Tensor) -> Tensor:
        """Encode epochs: (n, c, t) -> (n, width)."""
        return self.encode_spectrogram(self.spectrograms(x))

    def encode_spectrogram(self, x: Tensor) -> Tensor:
        """Encode spectrograms: standardised decibels (n, c, frames, bins) -> (n, width)."""
        planes = self.planes(x)
        if self.image_size != tuple(planes.shape[2:]):
            planes = nn.functional.interpolate(planes, self.image_size, mode="bilinear")
        return self.network(planes)

    def classify(self, z: Tensor) -> Tensor:
        """Classify encodings in sequence: (b, l, width) -> logits (b, l, 5)."""
        return self.head(self.dropout(self.sequence(self.dropout(z))))

    def cam_layer(self) -> nn.Module:
        """The deepest layer whose output still is an image of at least seven frames.

        Raises:
            ValueError: the network keeps no image, as vision transformers do.
        """
        shapes: dict[str, torch.Size] = {}

        def note(name: str, module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.dim() == 4:
                shapes[name] = output.shape

        def is_candidate(name: str, module: nn.Module) -> bool:
            if self.maps_last:
                return isinstance(module, nn.Conv2d)
            # whole blocks, not the branches inside them; adaptive pools only repeat what they read
            pooled = isinstance(module, nn.AdaptiveAvgPool2d)
            return bool(name) and name.count(".") < 2 and not pooled

        hooks = [
            module.register_forward_hook(partial(note, name))
            for name, module in self.network.named_modules()
            if is_candidate(name, module)
        ]
        training = self.training  # reading zeros must not move batch norm's statistics
        try:
            with torch.no_grad():
                frames_bins = self.spectrogram.mean.shape
                self.eval().encode_spectrogram(self.spectrogram.mean.new_zeros(1, *frames_bins))
        finally:
            self.train(training)
            for hook in hooks:
                hook.remove()
        # shapes were noted in the order of computation, so the last one is of the deepest layer
        wide = [n for n, s in shapes.items() if s[2] >= _FEWEST_FRAMES and s[3] > 1]
        if not wide:
            raise ValueError(f"{type(self.network).__name__} keeps no image for Grad-CAM")
        return self.network.get_submodule(wide[-1])


class _Recurrent(nn.Module):
    """A bidirectional GRU over the epochs, added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)

    def forward(self, z: Tensor) -> Tensor:
        return z + self.rnn(z)[0]


class _Transformer(nn.Module):
    """Two pre-norm transformer layers over the epochs, with sinusoidal positions."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout, batch_first=True, norm_first=True
        )
        # pre-norm layers take no nested tensors; torch warns if they are left on
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, z: Tensor) -> Tensor:
        return by_rows(self.layers, z + sinusoidal_positions(*z.shape[1:]).to(z))


def _image_size(name: str, shape: tuple[int, int]) -> tuple[int, int]:
    """Size of image a network is given: the spectrogram's own wherever the network can take it."""
    if name.startswith(_FIXED_SIZE):
        return (_SQUARE, _SQUARE)
    for start, least in _LARGER.items():
        if name.startswith(start):
            return tuple(max(pair) for pair in zip(shape, least, strict=True))
    return shape
