"""GSSC as a stager, where the user has installed it: ``pip install gssc``.

Hanna and Floel, An accessible and versatile deep learning-based sleep stage classifier, Frontiers
in Neuroinformatics 2023. The package is under AGPL-3: nothing of it is in this repository, and
whoever offers a service with it has to offer its source.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.readers.any_file import AnyFile
from datasets.readers.channels import MatchedChannel
from datasets.readers.recording import Recording
from datasets.store.filters import resample
from evaluation.stagers.in_microvolt import in_microvolt
from evaluation.stagers.package import NotExplained, Package
from evaluation.stagers.stager import Asked, ChannelStager, Computed, Stager, without_assumed_unit
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS, STAGES
from utils.torch_files import load_program

_ROLES = ("EEG", "EOG")
_FS = 100.0  # of the traces that are shown
_NETS = ("sig_net_v1.pt", "gru_net_v1.pt")
_LICENCE = "AGPL-3"


def about() -> Package:
    """What GSSC is, for the list of models."""
    is_here = find_spec("gssc") is not None
    return Package(
        origin="Hanna and Floel, GSSC, Frontiers in Neuroinformatics 2023",
        trained_on="nights that its package does not name",
        reads="EEG, EOG, or both",
        licence=_LICENCE,
        n_bytes=sum(net_path(name).stat().st_size for name in _NETS) if is_here else 0,
        is_here=is_here,
    )


def open_stager(device: torch.device) -> Stager:
    """The stager of the installed package.

    Raises:
        UserError: it is not installed.
    """
    if find_spec("gssc") is None:
        raise UserError(
            f"--model gssc: not installed; `pip install gssc` fetches it with its weights "
            f"({_LICENCE}: read its licence first)"
        )
    return GsscStager(device)


class GsscStager(ChannelStager):
    """An EEG and an EOG, each alone and both together, averaged."""

    name = "gssc"

    def __init__(self, device: torch.device) -> None:
        version = metadata.version("gssc")
        self.device = device
        self.headline = f"GSSC {version} (Hanna and Floel 2023; {_LICENCE})"
        self.fingerprint = f"gssc {version}"

    @property
    def roles(self) -> Sequence[str]:
        """EEG and EOG."""
        return _ROLES

    def wanted(self, file: AnyFile, asked: Asked) -> list[tuple[str, str]]:
        """One channel of each role; where some are named, only those."""
        return [(role, role) for role in _ROLES if not asked.channels or role in asked.channels]

    def needs(self, label: str) -> bool:
        """Either will do."""
        return False

    def refined(self, matches: dict[str, MatchedChannel]) -> dict[str, MatchedChannel]:
        """Without units: every channel is standardised."""
        return {role: without_assumed_unit(one) for role, one in matches.items()}

    def compute(
        self,
        recording: Recording,
        wanted: Sequence[tuple[str, str]],
        matches: Mapping[str, MatchedChannel],
        asked: Asked,
    ) -> Computed:
        """Stage a recording by the package's own preparation."""
        roles, n_epochs = list(recording.signals), len(recording.stages)
        fs = max(signal.fs for signal in recording.signals.values())
        samples = np.stack([in_microvolt(s, fs, n_epochs) for s in recording.signals.values()])
        probabilities = staged_by_gssc(roles, samples, fs, self.device)
        traces = np.stack([resample(x, fs, _FS) for x in samples]).astype(np.float32)
        is_sized = all(signal.unit for signal in recording.signals.values())
        return Computed(
            probabilities=probabilities,
            signals=torch.from_numpy(traces).unflatten(1, (n_epochs, -1)).transpose(0, 1),
            mean=np.zeros(len(roles)),
            sd=np.ones(len(roles)),
            unit="µV" if is_sized else "no unit",
            labels=roles,
            explainer=NotExplained(self.name, "This adapter shows no reasons of GSSC"),
        )


def staged_by_gssc(
    roles: Sequence[str], samples: np.ndarray, fs: float, device: torch.device
) -> np.ndarray:
    """Probabilities (n, 5) of samples (c, t) in microvolts, one channel for each role.

    GSSC returns stages alone, so its second network is wrapped by one that keeps its logits; the
    mean is that of their softmax over the ways to choose channels.
    """
    import mne

    try:
        from gssc.infer import EEGInfer
    except ImportError as error:
        raise UserError(f"--model gssc: its package cannot be imported ({error})") from error
    # it drops an epoch that lacks a sample after it
    n_epochs = round(samples.shape[1] / fs / EPOCH_SECONDS)
    samples = np.pad(samples, ((0, 0), (0, round(fs))), "edge")
    kinds = [role.lower() for role in roles]
    raw = mne.io.RawArray(samples * 1e-6, mne.create_info(roles, fs, kinds), verbose="error")
    encoder, context = (load_program(net_path(name)) for name in _NETS)
    kept = KeptLogits(context)
    # its progress belongs to its own command
    with contextlib.redirect_stdout(io.StringIO()):
        gssc = EEGInfer(net=encoder, con_net=kept, use_cuda=device.type == "cuda")
        gssc.mne_infer(raw, **{kind: [role] for kind, role in zip(kinds, roles, strict=True)})
    # one night for each way to choose channels, in the order W, N1, N2, N3, REM
    nights = [logits.reshape(-1, len(STAGES)).softmax(dim=-1) for logits in kept.logits]
    return torch.stack(nights).mean(dim=0)[:n_epochs].numpy()


class KeptLogits(torch.nn.Module):
    """A network of GSSC's, as it is, that also keeps its output of every night."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self.logits: list[torch.Tensor] = []

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Whatever the network returns, logits first."""
        answer = self.network(*inputs)
        self.logits.append(answer[0].detach().float().cpu())
        return answer


def net_path(name: str) -> Path:
    """Path of a network's file in the installed package."""
    return Path(find_spec("gssc").submodule_search_locations[0]) / "nets" / name
