"""Cross-modal transformers: exact counts, shapes, and the same logits without dead computation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import models
from models.attention import AttentionBlock, sinusoidal_positions
from models.base import average_windows
from models.cmt import EpochCMT, EpochEncoder, SequenceCMT, WindowEmbedding, _Patches

SMALL = {"n_samples": 300, "d_model": 32, "dim_feedforward": 64}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def made(cls, seed=0, **settings):
    torch.manual_seed(seed)
    model = cls(**SMALL | settings)
    for module in model.modules():  # batch norm that would show a mistake
        if isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("epoch_cmt", {}, 521_349),
        ("epoch_cmt", {"dim_feedforward": 128}, 323_973),
        ("epoch_cmt", {"d_model": 64}, 199_493),
        ("epoch_cmt", {"d_model": 256, "dim_feedforward": 1024}, 2_060_549),
        ("sequence_cmt", {"encoder": "per_position"}, 4_049_867),
        ("sequence_cmt", {"encoder": "per_position", "dim_feedforward": 128}, 3_951_179),
        ("sequence_cmt", {"encoder": "per_position", "d_model": 64}, 1_083_403),
        ("sequence_cmt", {"encoder": "per_position", "num_seq": 5}, 1_482_137),
        ("sequence_cmt", {"encoder": "per_position", "num_seq": 21}, 5_590_505),
        ("sequence_cmt", {}, 455_045),
        ("sequence_cmt", {"dim_feedforward": 128}, 356_357),
        ("sequence_cmt", {"d_model": 64}, 149_701),
        ("sequence_cmt", {"d_model": 256, "dim_feedforward": 1024}, 1_796_869),
        ("sequence_cmt", {"num_seq": 21}, 455_045),
        ("sequence_cmt", {"epoch_position": "none"}, 455_045),
        ("sequence_cmt", {"epoch_position": "learned"}, 455_045 + 15 * 128),
    ],
)
def test_parameter_counts(name, settings, expected):
    assert count(models.build(name, **settings)) == expected


def test_parameter_counts_of_the_parts():
    embedding = WindowEmbedding(128, 50, 60, 0.1)
    assert [count(b) for b in embedding.branches] == [1_696, 5_904, 4_048]
    assert count(embedding.fuse) == 16_768
    assert count(embedding) == 28_544
    assert count(AttentionBlock(128)) == 66_304
    encoder = EpochEncoder(n_modalities=2, n_samples=3000, d_model=128, window_size=50, dropout=0.1)
    assert count(encoder) == 256_128


def test_patches_are_a_convolution_with_stride_kernel():
    patches = _Patches(5, 3, 7)
    convolution = nn.Conv1d(3, 7, 5, stride=5)
    convolution.weight.data = patches.weight.view(7, 5, 3).transpose(1, 2)
    convolution.bias.data = patches.bias
    x = torch.randn(2, 20, 3)
    activated = nn.functional.leaky_relu(convolution(x.transpose(1, 2)), 0.01)
    assert torch.allclose(patches(x), activated.transpose(1, 2), atol=1e-6)


@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 5, 15, 21])
@pytest.mark.parametrize("batch", [1, 2, 33])
def test_shapes(batch, length, modalities):
    x = torch.randn(batch, length, modalities, 300)
    for encoder in ("shared", "per_position"):
        model = made(SequenceCMT, num_seq=length, encoder=encoder, n_modalities=modalities)
        assert model(x).shape == (batch, length, 5)
    # windows of one epoch
    assert made(EpochCMT, n_modalities=modalities)(x).shape == (batch * length, 1, 5)


@pytest.mark.parametrize("window_size", [25, 50, 75, 150])
def test_window_sizes(window_size):
    x = torch.randn(2, 1, 2, 300)
    assert made(EpochCMT, window_size=window_size)(x).shape == (2, 1, 5)


@pytest.mark.parametrize("settings", [{"window_size": 60}, {"window_size": 125}, {"d_model": 30}])
def test_impossible_settings_are_errors(settings):
    with pytest.raises(ValueError):
        EpochCMT(**SMALL | settings)


def test_unknown_models_are_named():
    assert {"epoch_cmt", "sequence_cmt"} <= set(models.names())
    with pytest.raises(ValueError, match=r"unknown model 'cmt'; there are .*epoch_cmt"):
        models.build("cmt")


def test_attention_equals_torch():
    block = AttentionBlock(32, dropout=0.0).eval()
    nn.init.uniform_(block.to_qkv.bias, -1, 1)
    theirs = nn.MultiheadAttention(32, 8, batch_first=True).eval()
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = block.to_qkv.weight, block.to_qkv.bias
    theirs.out_proj.load_state_dict(block.out.state_dict())
    x = torch.randn(3, 7, 32)
    mixed, weights = theirs(x, x, x, average_attn_weights=False)
    ours, our_weights = block(x)
    assert torch.allclose(ours, block.norm(x + mixed), atol=1e-5)
    assert torch.allclose(our_weights, weights, atol=1e-6)


def test_weights_shown_or_not_the_output_is_the_same():
    block = AttentionBlock(32).double().eval()
    x = torch.randn(3, 7, 32, dtype=torch.double)
    output, none = block(x, shown=False)
    assert none is None
    assert torch.allclose(output, block(x)[0], atol=1e-12)


def test_the_first_row_alone_is_the_first_row():
    block = AttentionBlock(32, dropout=0.0).double()
    nn.init.uniform_(block.to_qkv.bias, -1, 1)
    x = torch.randn(3, 7, 32, dtype=torch.double)
    (plain, weights), (fast, row) = block(x), block.first(x)
    assert torch.allclose(fast, plain[:, 0], atol=1e-10)
    assert torch.allclose(row, weights[:, :, 0], atol=1e-10)
    grads = [
        torch.autograd.grad(out.square().sum(), [block.to_qkv.weight, block.to_qkv.bias])
        for out in (plain[:, 0], fast)
    ]
    for a, b in zip(*grads, strict=True):
        assert torch.allclose(a, b, atol=1e-10)


def test_dropout_of_weights_scales_the_value_bias():
    # the weights that dropout leaves no longer sum to 1; both forms must treat the bias alike
    block = AttentionBlock(32, dropout=0.5).double()
    nn.init.uniform_(block.to_qkv.bias, -1, 1)
    block.dropout.p = 0.0
    x = torch.randn(1, 7, 32, dtype=torch.double)
    mask = torch.rand(1, 8, 7, dtype=torch.double) < 0.5

    def fixed(weights):
        kept = mask if weights.dim() == 3 else mask[:, :, None].expand_as(weights)
        return 2 * weights * kept

    block.dropout_weights.forward = fixed
    assert torch.allclose(block.first(x)[0], block(x)[0][:, 0], atol=1e-10)


def plain_epoch_logits(model: EpochCMT, x: torch.Tensor) -> torch.Tensor:
    """Everything computed, as published: full attention, feed-forward over all tokens."""
    encoder, tokens = model.encoder, []
    for m, (embed, attend) in enumerate(zip(encoder.embeddings, encoder.intra, strict=True)):
        tokens.append(attend(embed(x[:, m]))[0])
    cls = encoder.cls.expand(len(x), -1, -1)
    cross, _ = encoder.cross(torch.cat([cls, *(t[:, :1] for t in tokens)], dim=1))
    read = [
        block(torch.cat((cross[:, :1], t[:, 1:]), dim=1))[:, 0]
        for block, t in zip(model.feed_forward, tokens, strict=True)
    ]
    return model.head(torch.cat(read, dim=-1))


def test_skipping_dead_computation_keeps_the_logits():
    model = EpochCMT().eval()
    x = torch.randn(4, 2, 3000)
    assert torch.allclose(model(x[:, None])[:, 0], plain_epoch_logits(model, x), atol=1e-5)


@pytest.mark.parametrize("encoder", ["shared", "per_position"])
def test_neighbours_in_the_batch_do_not_matter(encoder):
    model = made(SequenceCMT, num_seq=5, encoder=encoder)
    x = torch.randn(6, 5, 2, 300)
    assert torch.allclose(model(x)[2:3], model(x[2:3]), atol=1e-5)


@pytest.mark.parametrize("encoder", ["shared", "per_position"])
@pytest.mark.parametrize("n_epochs", [1, 3, 5, 12])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_a_night_is_the_mean_over_its_windows(encoder, n_epochs, batch_size):
    model = made(SequenceCMT, num_seq=5, encoder=encoder)
    x = torch.randn(n_epochs, 2, 300)
    length = min(5, n_epochs)
    total, covered = torch.zeros(n_epochs, 5), torch.zeros(n_epochs, 1)
    for start in range(n_epochs - length + 1):
        window = model(x[None, start : start + length]).softmax(-1)[0]
        total[start : start + length] += window
        covered[start : start + length] += 1
    staged = model.stage_night(x, batch_size=batch_size)
    assert torch.allclose(staged, total / covered, atol=1e-5)
    assert torch.allclose(staged.sum(-1), torch.ones(n_epochs), atol=1e-5)


@pytest.mark.parametrize("encoder", ["shared", "per_position"])
def test_a_night_without_epochs_has_no_probabilities(encoder):
    model = made(SequenceCMT, num_seq=5, encoder=encoder)
    assert model.stage_night(torch.zeros(0, 2, 300)).shape == (0, 5)


def test_every_epoch_is_divided_by_its_own_coverage():
    # six epochs under four windows of three, covered 1 2 3 3 2 1 times; window 1 alone holds ones
    windows = torch.zeros(4, 3, 1)
    windows[1] = 1
    expected = torch.tensor([0, 1 / 2, 1 / 3, 1 / 3, 0, 0])
    assert torch.allclose(average_windows(windows).flatten(), expected)


def test_who_knows_the_order():
    x = torch.randn(2, 5, 2, 300)
    turn = torch.tensor([3, 0, 4, 1, 2])
    for settings, blind in (
        ({"epoch_position": "none"}, True),
        ({"epoch_position": "sinusoidal"}, False),
        ({"encoder": "per_position"}, False),
    ):
        model = made(SequenceCMT, num_seq=5, **settings)
        same = torch.allclose(model(x[:, turn]), model(x)[:, turn], atol=1e-5)
        assert same == blind, settings


def test_every_position_has_an_encoder_and_a_head_of_its_own():
    model = made(SequenceCMT, num_seq=3, encoder="per_position")
    x = torch.randn(1, 3, 2, 300)
    before = model(x)
    model.heads[1].bias.data += 7
    assert torch.allclose(model(x) - before, torch.tensor([0.0, 7, 0])[:, None], atol=1e-5)
    vectors = torch.stack([e(x[:, p]) for p, e in enumerate(model.encoders)], dim=1)
    model.heads[1].bias.data -= 7
    assert torch.allclose(model.classify(vectors), before, atol=1e-5)


@pytest.mark.parametrize("encoder", ["shared", "per_position"])
def test_attention_maps_are_the_layers_own(encoder):
    model = made(SequenceCMT, num_seq=5, encoder=encoder)
    x = torch.randn(3, 5, 2, 300)
    maps = model.attention(x)
    assert maps.intra.shape == (3, 5, 2, 8, 7)
    assert maps.cross.shape == (3, 5, 8, 3)
    assert maps.inter.shape == (3, 8, 5, 5)
    for weights in (maps.intra, maps.cross, maps.inter):
        assert (weights >= 0).all()
        assert torch.allclose(weights.sum(-1), torch.ones(weights.shape[:-1]), atol=1e-5)
    first = model.encoders[0]
    full = first.intra[1](first.embeddings[1](x[:, 0, 1]))[1]
    assert torch.allclose(maps.intra[:, 0, 1], full[:, :, 0], atol=1e-5)


def test_per_position_encoders_do_not_encode_without_a_position():
    with pytest.raises(ValueError, match="position"):
        made(SequenceCMT, num_seq=3, encoder="per_position").encode_epochs(torch.randn(2, 2, 300))


def test_position_codes():
    code = sinusoidal_positions(4, 8)
    assert torch.allclose(code[0], torch.tensor([0.0, 1] * 4))
    assert torch.allclose(code[:, 0], torch.sin(torch.arange(4.0)))
    assert torch.allclose(code[:, 7], torch.cos(torch.arange(4.0) / 1e4**0.75))


@pytest.mark.parametrize(
    ("name", "settings", "solved"),
    [
        ("sequence_cmt", {"encoder": "shared"}, True),
        ("sequence_cmt", {"encoder": "per_position"}, True),
        ("sequence_cmt", {"encoder": "shared", "epoch_position": "none"}, False),
        ("epoch_cmt", {}, False),
    ],
)
def test_a_stage_that_depends_on_the_epoch_before(name, settings, solved):
    # the label of an epoch is the pattern of the one before it: only order can tell
    torch.manual_seed(0)
    small = SMALL | {"dropout": 0.0} | ({"num_seq": 4} if name == "sequence_cmt" else {})
    model = models.build(name, **small | settings).train()
    patterns = torch.randn(5, 2, 300)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    def draw(n):
        kinds = torch.randint(0, 5, (n, 4))
        return patterns[kinds] + 0.1 * torch.randn(n, 4, 2, 300), kinds[:, :-1]

    for _ in range(120):
        x, labels = draw(48)
        logits = model(x).view(48, 4, 5)[:, 1:]
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, labels = draw(400)
    with torch.no_grad():
        right = (model.eval()(x).view(400, 4, 5)[:, 1:].argmax(-1) == labels).float().mean()
    assert right > 0.95 if solved else right < 0.6
