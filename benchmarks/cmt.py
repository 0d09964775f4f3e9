"""Cross-modal transformers beside the published way of computing them, in one run.

python -m benchmarks.cmt                  # this machine's processor
python -m benchmarks.cmt --device cuda    # a GPU

The published pattern is built from our own modules: strided convolutions, all attention rows, every
window encoding all its epochs again, and evaluation of one window at a time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import models
from benchmarks.side_by_side import seconds
from models.batch_norm import BatchNorm
from models.cmt import EpochCMT, EpochEncoder, SequenceCMT, WindowEmbedding
from objectives.staging import Staging

N_WINDOWS, LENGTH, NIGHT, SAMPLES = 32, 15, 960, 3000


def convolve(branch: nn.Sequential, x: Tensor) -> Tensor:
    """A branch of the embedding as the convolutions it stands for: (n, c, t) -> (n, o, windows)."""
    for layer in branch:
        if isinstance(layer, nn.Linear):
            kernel = layer.in_features // x.shape[1]
            # a patch lies as (kernel, channel) in its row: (o, k * c) -> (o, c, k)
            weight = layer.weight.unflatten(1, (kernel, x.shape[1])).transpose(1, 2)
            x = nn.functional.conv1d(x, weight, layer.bias, stride=kernel)
        elif isinstance(layer, BatchNorm):
            # ours takes channels last, convolutions have them in the middle
            x = nn.BatchNorm1d.forward(layer, x)
        else:
            x = layer(x)
    return x


def plain_embedding(embed: WindowEmbedding, x: Tensor) -> Tensor:
    """The window embedding from plain convolutions: (n, t) -> (n, 1 + windows, d), CLS first."""
    scales = torch.cat([convolve(branch, x[:, None]) for branch in embed.branches], dim=1)
    tokens = convolve(embed.fuse, scales).transpose(1, 2)
    tokens = torch.cat((embed.cls.expand(len(x), -1, -1), tokens), dim=1)
    return embed.dropout(tokens + embed.positions)


def plain_encoder(encoder: EpochEncoder, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The epoch encoder with all rows of attention: (n, m, t) -> vector (n, d), window tokens."""
    parts = zip(encoder.embeddings, encoder.intra, strict=True)
    tokens = [attend(plain_embedding(embed, x[:, m]))[0] for m, (embed, attend) in enumerate(parts)]
    cls = encoder.cls.expand(len(x), -1, -1)
    # only the CLS tokens of the modalities are mixed
    mixed, _ = encoder.cross(torch.cat([cls, *(t[:, :1] for t in tokens)], dim=1))
    return mixed[:, 0], tokens


class PublishedSequence(nn.Module):
    """The Sequence CMT with a loop over positions and nothing left out."""

    def __init__(self, model: SequenceCMT) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, stride: int = 1) -> Tensor:
        """(b, l, m, t) -> logits (b, l, 5); one window, so ``stride`` moves nothing."""
        pairs = zip(self.model.encoders, x.unbind(dim=1), strict=True)
        vectors = torch.stack([plain_encoder(encoder, epoch)[0] for encoder, epoch in pairs], dim=1)
        mixed, _ = self.model.inter(vectors)  # weights made and thrown away
        pairs = zip(self.model.heads, self.model.feed_forward(mixed).unbind(dim=1), strict=True)
        return torch.stack([head(epoch) for head, epoch in pairs], dim=1)


class PublishedEpoch(nn.Module):
    """The Epoch CMT with feed-forwards over all tokens."""

    def __init__(self, model: EpochCMT) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, stride: int = 1) -> Tensor:
        """(b, 1, m, t) -> logits (b, 1, 5)."""
        vector, tokens = plain_encoder(self.model.encoder, x[:, 0])
        # every token goes through the feed-forwards, though the head reads the first alone
        read = [
            block(torch.cat((vector[:, None], t[:, 1:]), dim=1))[:, 0]
            for block, t in zip(self.model.feed_forward, tokens, strict=True)
        ]
        return self.model.head(torch.cat(read, dim=-1))[:, None]


class Batch:
    """Random runs of epochs, already on the device."""

    def __init__(self, runs: int, length: int, device: str) -> None:
        self.signals = torch.randn(runs, length, 2, SAMPLES, device=device)
        self.stages = torch.randint(0, 5, (runs, length), device=device)


def step(model: nn.Module, batch: Batch, device: str, dtype: torch.dtype) -> Callable[[], None]:
    """A whole training step: forward, loss, backward, Adam."""
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    objective = Staging()

    def run() -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            loss, _ = objective(model, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        wait(device)

    run()  # compiles, fills caches
    return run


def wait(device: str) -> None:
    """Wait until a GPU has finished its queued work."""
    if device == "cuda":
        torch.cuda.synchronize()


def steps(device: str) -> dict[str, Callable[[], None]]:
    """Training steps over 32 windows (32 epochs for Epoch), published first."""
    single, half = torch.float32, torch.bfloat16
    shared, own = {"encoder": "shared"}, {"encoder": "per_position"}

    def sequence(**settings) -> SequenceCMT:
        return models.build("sequence_cmt", **settings).to(device)

    def epoch() -> EpochCMT:
        return models.build("epoch_cmt").to(device)

    windows = Batch(N_WINDOWS, LENGTH, device)
    # a run of n + length - 1 epochs holds n windows: 32 in one run, or 4 times 8
    run, four = Batch(1, N_WINDOWS + LENGTH - 1, device), Batch(4, 8 + LENGTH - 1, device)
    epochs = Batch(N_WINDOWS, 1, device)
    make = partial(step, device=device)
    return {
        "Seq, published": make(PublishedSequence(sequence(**own)), windows, dtype=single),
        "Seq, per_position": make(sequence(**own), windows, dtype=single),
        # the shared encoder on the published batch: what sharing alone is good for
        "Seq, shared, windows re-encoded": make(sequence(**shared), windows, dtype=single),
        "Seq, shared, 4 runs of 22 (default)": make(sequence(**shared), four, dtype=single),
        "Seq, shared, 1 run of 46": make(sequence(**shared), run, dtype=single),
        "  the same, bf16": make(sequence(**shared), run, dtype=half),
        "  the same, compiled": make(torch.compile(sequence(**shared)), run, dtype=single),
        "  the same, compiled, bf16": make(torch.compile(sequence(**shared)), run, dtype=half),
        "Epoch, published": make(PublishedEpoch(epoch()), epochs, dtype=single),
        "Epoch": make(epoch(), epochs, dtype=single),
        "Epoch, bf16": make(epoch(), epochs, dtype=half),
        "Epoch, compiled": make(torch.compile(epoch()), epochs, dtype=single),
    }


@torch.no_grad()
def window_by_window(model: nn.Module, night: Tensor) -> list[Tensor]:
    """Published evaluation: a batch of one window, re-encoded, for every start."""
    length = LENGTH if isinstance(model, PublishedSequence) else 1
    return [
        model(night[None, start : start + length]).softmax(-1)
        for start in range(len(night) - length + 1)
    ]


def nights(device: str) -> dict[str, Callable[[], object]]:
    """Staging a night of 960 epochs, published first."""
    night = torch.randn(NIGHT, 2, SAMPLES, device=device)
    # per_position is the published design: the same weights are run both ways
    own = models.build("sequence_cmt", encoder="per_position").to(device).eval()
    shared = models.build("sequence_cmt").to(device).eval()
    epoch = models.build("epoch_cmt").to(device).eval()

    def staged(model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            model.stage_night(night).cpu()  # the copy waits for the GPU

    return {
        "Seq, published": lambda: window_by_window(PublishedSequence(own).eval(), night)[-1].cpu(),
        "Seq, per_position": partial(staged, own),
        "Seq, shared (default)": partial(staged, shared),
        "  the same, bf16": partial(staged, shared, torch.bfloat16),
        "Epoch, published": lambda: window_by_window(PublishedEpoch(epoch).eval(), night)[-1].cpu(),
        "Epoch": partial(staged, epoch),
    }


def table(title: str, ways: dict[str, Callable[[], object]], repeats: int) -> None:
    """Milliseconds, and how often each way fits into the published one above it."""
    print(f"\n{title}")
    published = 0.0
    for name, taken in seconds(ways, repeats).items():
        published = taken if "published" in name else published
        print(f"  {name:<38}{1e3 * taken:>10.1f} ms {published / taken:>8.1f}x")


def ceiling(device: str, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product."""
    size = 8192 if device == "cuda" else 2048
    a = torch.randn(size, size, device=device, dtype=dtype)

    def product() -> None:
        a @ a
        wait(device)

    product()  # the first call loads the library's kernels
    # a multiplication and an addition for every term of every sum
    return 2 * size**3 / seconds({"product": product}, 5)["product"]


def utilisation(device: str) -> None:
    """FLOP/s that training steps of growing size reach, against the ceiling."""
    print("\nachieved FLOP/s of a training step (shared, bf16 where a GPU has it)")
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    limit = ceiling(device, dtype)
    print(f"  matrix-product ceiling {limit / 1e12:.2f} TFLOP/s")
    for runs in (4, 32, 128) if device == "cuda" else (4,):
        model = models.build("sequence_cmt").to(device)
        run = step(model, Batch(runs, 22, device), device, dtype)
        # counted in a step of its own: counting slows every operation
        with FlopCounterMode(display=False) as counter:
            run()
        taken = seconds({"step": run}, 10)["step"]
        reached = counter.get_total_flops() / taken
        print(
            # a run of 22 epochs holds 8 windows of 15
            f"  {8 * runs:>5} windows per step: {1e3 * taken:7.1f} ms  "
            f"{reached / 1e12:.3f} TFLOP/s  {100 * reached / limit:.1f} % of the ceiling"
        )


def main() -> None:
    """Time training steps and whole nights, then report utilisation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    torch.manual_seed(0)
    name = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}; medians")
    table("training step, 32 windows of 15 epochs", steps(args.device), args.repeats)
    table("staging a night of 960 epochs", nights(args.device), 3)
    utilisation(args.device)


if __name__ == "__main__":
    main()
