"""Low-rank updates: begin as the network they update, train alone, and merge into it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import models
from models import low_rank
from models.foundation import ROLES
from objectives.night_staging import NightStaging
from tests.test_foundation import SMALL, count, nights
from tests.test_foundation_scripts import TINY, interrupted, run
from training.foundation_family import initialise_from_training_data
from utils.checkpoint import load_checkpoint
from utils.errors import UserError

RANK = 4


def updated(**settings):
    torch.manual_seed(0)
    return models.build("foundation", **SMALL, head="mlp", lora_rank=RANK, **settings).eval()


def moved(model) -> None:
    """As if trained: updates that change the weights."""
    generator = torch.Generator().manual_seed(3)
    for name, value in model.named_parameters():
        if name.endswith(".up"):
            value.data.normal_(0, 0.1, generator=generator)


def test_it_begins_as_the_network_it_updates():
    pretrained = models.build("foundation_pretraining", **SMALL).encoder.eval()
    model, x = updated(), nights(1, 6)
    initialise_from_training_data(pretrained.state_dict(), "random", model, None)
    flat = x.permute(0, 2, 1, 3).flatten(2)
    with torch.no_grad():
        assert torch.equal(model.encode(x).tokens, pretrained(flat).tokens)
        moved(model)
        assert not torch.allclose(model.encode(x).tokens, pretrained(flat).tokens, atol=1e-2)


def test_the_other_weights_are_drawn_as_without_it():
    torch.manual_seed(0)
    plain = models.build("foundation", **SMALL, head="mlp")
    model = low_rank.merge(updated())
    assert plain.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in plain.state_dict().items())


def test_merged_is_unmerged():
    model, x = updated(), nights(1, 6)
    moved(model)
    with torch.no_grad():
        before = model(x)
        after = low_rank.merge(model)(x)
    assert torch.equal(before, after)
    assert not any("parametrizations" in name for name in model.state_dict())


def test_updates_are_of_the_size_asked_for_and_alone_trained():
    model = updated()
    d, ff, n_layers = SMALL["d_model"], SMALL["dim_feedforward"], 2 + SMALL["layers"]
    # qkv and out, over time and across roles, and the two of the feed-forward part
    of_layer = RANK * (2 * (d + 3 * d + d + d) + 2 * (d + ff))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == n_layers * of_layer + count(model.head)
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1
    )
    model.train()
    batch = type("Batch", (), {"signals": nights(2, 6), "keys": torch.arange(2).numpy()})()
    batch.stages = torch.randint(0, 5, (2, 6), generator=torch.Generator().manual_seed(0))
    ups = [p for n, p in model.named_parameters() if n.endswith(".up")]
    for _ in range(2):
        NightStaging(role_p=0.2)(model, batch)[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(bool(up.any()) for up in ups)
    assert len(frozen) > 40
    for name, value in model.named_parameters():
        if name in frozen:
            assert torch.equal(value, frozen[name]) and value.grad is None, name


def test_the_update_is_the_product_of_both_by_alpha_over_rank():
    weight = torch.zeros(2, 3)
    layer = low_rank.LowRank(2, weight)
    layer.down.data, layer.up.data = torch.tensor([[1.0, 2, 3], [0, 1, 0]]), torch.eye(2)
    assert torch.equal(layer(weight), 8 * torch.tensor([[1.0, 2, 3], [0, 1, 0]]))


def test_a_rank_above_the_smallest_layer_is_refused():
    with pytest.raises(ValueError, match="--lora_rank 40 is above the 32"):
        models.build("foundation", **SMALL, roles=ROLES, lora_rank=40)


@pytest.fixture(scope="module")
def pretrained(role_store, tmp_path_factory) -> Path:
    project = tmp_path_factory.mktemp("low_rank")
    run("--n_epochs", "1", "--batch_size", "4", *TINY, store=role_store, project=project)
    return project


def test_it_is_fine_tuned_and_resumed_bit_for_bit(
    pretrained, role_store, tmp_path, monkeypatch, capsys
):
    begun = pretrained / "foundation_pretrain_both_fold4_seed0" / "checkpoints" / "best.pt"
    words = ["--stage", "finetune", "--lora_rank", "2", "--n_epochs", "2", "--batch_size", "2"]
    words += ["--pretrained", str(begun), "--lr", "0.01", "--crop_hours", "0.05,0.2"]
    words += ["--context", "3"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run(*words, store=role_store, project=whole)
    shown = capsys.readouterr().out
    interrupted(monkeypatch, NightStaging, *words, store=role_store, project=stopped)
    name = "foundation_finetune_linear_lora2_context3_fold4_seed0/checkpoints/last.pt"
    one, other = (load_checkpoint(project / name).state for project in (whole, stopped))
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    # the pretrained weights are as they were, and the updates are not
    for key, value in load_checkpoint(begun).state.items():
        if key.startswith("encoder."):
            kept = key.removesuffix(".weight") + ".parametrizations.weight.original"
            assert torch.equal(value, one.get(key, one.get(kept))), key
    trained = [value for key, value in one.items() if key.endswith((".up", ".down"))]
    assert all(bool(value.any()) for value in trained)
    # an update of each of 12 layers, and the head of 4 roles
    n_trained = sum(value.numel() for value in trained) + 4 * (16 + 1) * 5
    assert f"{n_trained:,} of them trained" in shown
    with pytest.raises(UserError, match="has lora_rank 2; these flags ask for lora_rank 0"):
        run("--stage", "finetune", "--model_path", str(whole / name), "--project_path",
            str(tmp_path / "more"), store=role_store, project=tmp_path / "more")  # fmt: skip


@pytest.mark.parametrize("stage", ["pretrain", "probe"])
def test_other_stages_refuse_it(stage, role_store, tmp_path):
    with pytest.raises(UserError, match=f"--lora_rank has no effect with --stage {stage}"):
        run("--stage", stage, "--lora_rank", "8", store=role_store, project=tmp_path)


def test_lengths_of_pieces_are_one_or_two_and_in_order(role_store, tmp_path):
    for wrong in ("1,0.5", "0,1", "1,2,3"):
        with pytest.raises(UserError, match="--crop_hours takes one number, or two"):
            run("--crop_hours", wrong, store=role_store, project=tmp_path)
