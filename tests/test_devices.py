"""Devices that are not here, by stand-ins: number formats, doubles, rows, what is saved of them."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.amp import MixedPrecision
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import models
import staging_training
from benchmarks import devices as benchmark
from models import attention
from models.role_layers import LogSpectrum
from objectives.similarity import SimilarityStaging
from objectives.staging import Staging
from tests.test_training import Recorder, figures_of
from training import loop
from training.fabric import start_fabric
from training.loop import Plan
from training.validation import mean_figures
from utils import devices
from utils.checkpoint import load_checkpoint
from utils.errors import UserError
from utils.runs import Run


@pytest.mark.parametrize(
    ("capabilities", "hip", "expected"),
    [
        ([(6, 1)], None, "32-true"),  # P40: no fast halves
        ([(7, 0)], None, "16-mixed"),  # V100
        ([(7, 5)], None, "16-mixed"),  # T4
        ([(8, 0)], None, "bf16-mixed"),  # A100
        ([(9, 0)], None, "bf16-mixed"),  # H200
        ([(9, 0), (7, 5)], None, "16-mixed"),  # the weakest of several
        ([(9, 0)], "6.2", "bf16-mixed"),
    ],
)
def test_formats_that_a_card_imitates_are_not_chosen(monkeypatch, capabilities, hip, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda k: capabilities[k])
    # torch itself counts imitated bf16 as bf16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *a, **k: True)
    monkeypatch.setattr(torch.version, "hip", hip)
    chosen = {}
    monkeypatch.setattr("lightning_fabric.Fabric", lambda **how: chosen.update(how) or Launched())
    run = SimpleNamespace(accelerator="auto", precision="auto", strategy="auto")
    start_fabric(SimpleNamespace(**vars(run), devices=1, num_nodes=1, seed=0))
    plugin = chosen.get("plugins", SimpleNamespace(precision=chosen.get("precision")))
    assert plugin.precision == expected


class Launched:
    def launch(self):
        pass


@pytest.mark.parametrize("accelerator", ["cpu", "mps"])
def test_other_devices_train_in_float32(accelerator):
    assert devices.precision_of(devices.kind_of(accelerator)) == "32-true"


def test_fp16_on_a_cpu_is_one_line(store, tmp_path):
    words = ["--data_path", str(store.path), "--project_path", str(tmp_path)]
    with pytest.raises(UserError, match="16-mixed: a CPU has no such numbers"):
        words += ["--train_data_list", "0,1", "--accelerator", "cpu"]
        staging_training.main([*words, "--precision", "16-mixed"])
    assert not list(tmp_path.iterdir())


def test_a_mixed_precision_rounds_no_signal():
    """Or training reads noise that evaluation does not: bf16 has steps of 1 µV at 200 µV."""
    flagged = SimpleNamespace(accelerator="cpu", precision="bf16-mixed", strategy="auto")
    fabric = start_fabric(SimpleNamespace(**vars(flagged), devices=1, num_nodes=1, seed=0))
    seen = []
    net = nn.Linear(4, 4)
    net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = 200 + torch.rand(2, 4)
    out = fabric.setup(net)(x)
    assert torch.equal(seen[0], x)
    # and yet it is computed in bf16
    assert not torch.equal(out, nn.functional.linear(x, net.weight, net.bias))


def in_fp16(path, *, scale: float = 2.0**16, fused: bool = True, n_batches: int = 3) -> Recorder:
    """A training in fp16, whose scaler stands in for a GPU's."""
    recorder = Recorder(path, n_batches)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    recorder.fabric = Fabric(
        accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler)
    )
    optimizer = torch.optim.Adam(recorder.net.parameters(), fused=fused)
    model, optimizer = recorder.fabric.setup(recorder.net, optimizer)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 30)
    learner = recorder.learner
    learner.model, learner.optimizer, learner.schedule = model, optimizer, schedule
    recorder.scaler = scaler
    return recorder


@pytest.mark.parametrize("fused", [True, False])
def test_fp16_clips_the_gradients_themselves(tmp_path, fused):
    recorder = in_fp16(tmp_path, scale=2.0**8, fused=fused)
    before = [p.clone() for p in recorder.net.parameters()]
    recorder.fit(Plan(1, grad_clip=0.01), figures_of(0.1))
    ((row, _),) = recorder.logged
    assert 0.01 < row["train_grad_norm"] < 100  # and not of the scaled gradients
    assert any((a != b).any() for a, b in zip(before, recorder.net.parameters(), strict=True))


@pytest.mark.parametrize("grad_clip", [0.0, 1.0])
def test_gradients_too_large_for_fp16_leave_a_step_out(tmp_path, grad_clip):
    recorder = in_fp16(tmp_path, scale=2.0**40, n_batches=30)
    recorder.fit(Plan(1, grad_clip=grad_clip, per_step=True), figures_of(0.1))
    assert recorder.scaler.get_scale() < 2.0**40
    assert all(torch.isfinite(p).all() for p in recorder.net.parameters())
    ((row, _),) = recorder.logged
    assert all(value == value and abs(value) < 1e6 for value in row.values())


@pytest.mark.parametrize("grad_clip", [0.0, 1.0])
@pytest.mark.parametrize("every", [1, 20])
def test_a_loss_that_is_no_number_is_one_line_in_fp16(tmp_path, monkeypatch, grad_clip, every):
    recorder = in_fp16(tmp_path)
    for batch in recorder.batches:
        batch.signals[:] = float("nan")
    read = loop._Losses.__init__

    def init(self, fabric):
        read(self, fabric)
        self._every = every  # as on a GPU

    monkeypatch.setattr(loop._Losses, "__init__", init)
    with pytest.raises(UserError, match=r"loss is nan.*--precision 32-true"):
        recorder.fit(Plan(1, grad_clip=grad_clip), figures_of(0.1))


def test_the_scale_of_losses_is_resumed(tmp_path):
    first = in_fp16(tmp_path, scale=2.0**40, n_batches=30)
    first.fit(Plan(1), figures_of(0.1))
    reached = first.scaler.state_dict()
    assert reached["scale"] < 2.0**40
    second = in_fp16(tmp_path, n_batches=30)
    second.fit(Plan(1), figures_of())
    assert second.scaler.state_dict()["scale"] == reached["scale"]
    assert second.scaler.state_dict()["_growth_tracker"] == reached["_growth_tracker"]


def test_a_run_in_fp16_resumes_in_float32_and_back(tmp_path):
    in_fp16(tmp_path).fit(Plan(1), figures_of(0.1))
    Recorder(tmp_path).fit(Plan(2), figures_of(0.2))
    in_fp16(tmp_path).fit(Plan(3), figures_of(0.3))
    assert len(Run(tmp_path).rows()) == 3


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_random_numbers_of_a_gpu_are_resumed(tmp_path, monkeypatch, kind):
    """Dropout draws them there: the state is saved by the device's kind."""
    state = {"now": torch.arange(16, dtype=torch.uint8)}
    monkeypatch.setattr(devices, "random_state", lambda device: state["now"])
    monkeypatch.setattr(devices, "set_random_state", lambda device, s: state.update(back=s))
    recorder = Recorder(tmp_path)
    at = SimpleNamespace(type=kind)
    place = SimpleNamespace(
        device=torch.device("cpu"), world_size=1, global_rank=0, is_global_zero=True,
        strategy=recorder.fabric.strategy, barrier=lambda: None, all_gather=lambda x: x,
    )  # fmt: skip
    place.device = SimpleNamespace(type=kind)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *a, **k: self)
    loop.save_last(place, recorder.learner, loop.Position(), recorder.outputs)
    assert kind in load_checkpoint(tmp_path / "checkpoints/last.pt").progress["rng"]
    loop.resume(place, recorder.learner, recorder.outputs.run)
    assert torch.equal(state["back"], state["now"]) and at.type == kind


class NoDoubles(TorchDispatchMode):
    """Refuses doubles on torch's "meta" device, which here stands in for an Apple GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        to_cpu = kwargs.get("device") == torch.device("cpu")
        if func is torch.ops.aten._to_copy.default and args[0].is_meta and to_cpu:
            return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        out = func(*args, **kwargs)
        for value in tree_leaves((args, kwargs, out)):
            if isinstance(value, torch.Tensor) and value.is_meta:
                assert value.dtype not in (torch.float64, torch.complex128), func
        return out


@pytest.fixture
def apple():
    """A device without doubles."""
    with NoDoubles():
        yield torch.device("meta")


def test_the_stand_in_would_catch_a_double(apple):
    with pytest.raises(AssertionError):
        torch.zeros(2, device=apple).double()
    torch.zeros(2, device=apple).cpu().double()


@pytest.mark.parametrize("name", [*models.names(), "resnet18"])
def test_no_model_makes_doubles_on_an_apple_gpu(apple, name):
    rate = models.rate_of(name) or 100.0
    settings = {"n_samples": int(30 * rate)}
    settings |= {"n_modalities": 1} if name.endswith("_cmt") else {"n_channels": 1, "fs": rate}
    windows = {} if name in ("epoch_cmt", *models.ENCODERS) else {"num_seq": 3}
    net = models.build(name, **settings, **windows).to(apple)
    runs = torch.randn(2, net.num_seq, 1, settings["n_samples"], device=apple)
    batch = SimpleNamespace(signals=runs, first=[0, 0])
    batch.stages = torch.zeros(runs.shape[:2], dtype=torch.long, device=apple)
    loss, _ = Staging(over_positions="mean")(net, batch)
    loss.backward()
    assert all(p.grad is None or p.grad.is_meta for p in net.parameters())


def test_statistics_are_summed_off_an_apple_gpu(apple, monkeypatch):
    spectrogram = models.build("sleeptransformer").spectrogram.to(apple)
    epochs = [torch.randn(3, 1, 3000, device=apple)]
    spectrogram.fit(epochs)
    spectrogram.fit_night(epochs)
    models.build("simplesleepnet", n_channels=1).spectrogram.to(apple).fit(epochs)
    monkeypatch.setattr(torch, "autocast", lambda *where, **how: nullcontext())  # of no real device
    valid = torch.ones(1, 2, 4, dtype=torch.bool, device=apple)
    LogSpectrum(2, 600).to(apple).fit([(torch.randn(1, 2, 4, 600, device=apple), valid)])


def test_sums_of_a_pass_are_no_doubles_on_an_apple_gpu(monkeypatch):
    assert devices.widest(torch.device("mps")) == torch.float32
    here = SimpleNamespace(device=torch.device("cpu"))
    assert loop._scalar(here).dtype == torch.float64
    monkeypatch.setattr(loop, "widest", lambda device: torch.float32)
    assert loop._scalar(here).dtype == torch.float32


def test_validation_losses_are_no_doubles_on_an_apple_gpu(monkeypatch):
    """Was: pretraining on an Apple GPU ended in a TypeError at its first validation."""
    monkeypatch.setattr("training.validation.widest", lambda device: torch.float32)
    reduced = []

    class Shared:
        def all_reduce(self, x, reduce_op):
            reduced.append(x.dtype)
            return x

    class Listed(list):
        sizes = (3, 1)

    losses = Listed([torch.tensor(1.0), torch.tensor(5.0)])
    figures = mean_figures(
        lambda model, loss: (loss, {"part": loss}), nn.Linear(1, 1), losses, Shared()
    )
    assert figures == {"loss": 2.0, "part": 2.0}
    assert reduced == [torch.float32, torch.float32]


@pytest.fixture
def few_rows(monkeypatch):
    """Kernels that take few rows, and refuse more."""
    monkeypatch.setattr(attention, "_MOST_ROWS", 7)
    plain = nn.functional.scaled_dot_product_attention

    def limited(q, k, v, *more, **how):
        assert len(q) <= 7, "invalid configuration argument"
        return plain(q, k, v, *more, **how)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", limited)


def test_more_rows_than_a_kernel_takes_are_the_same(monkeypatch, few_rows):
    q, k, v = torch.randn(3, 17, 2, 5, 4, dtype=torch.float64)
    mask = torch.rand(17, 1, 1, 5) < 0.8
    mask[..., 0] = True
    for how in ({}, {"attn_mask": mask}, {"scale": 0.3}):
        parts = attention.attend(q, k, v, **how)
        monkeypatch.setattr(attention, "_MOST_ROWS", 100)
        monkeypatch.undo()
        whole = attention.attend(q, k, v, **how)
        assert torch.allclose(parts, whole, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("transformer", {}),
        ("sequence_cmt", {"d_model": 16, "dim_feedforward": 16}),
        ("sleeptransformer", {"n_blocks": 1}),
        ("sleeptransformer", {"n_blocks": 1, "variant": "physioex"}),
        ("foundation", {"fs": 20.0, "d_model": 16, "dim_feedforward": 16, "roles": ["EEG", "EOG"]}),
        ("foundation", {"fs": 20.0, "d_model": 16, "dim_feedforward": 16, "roles": ["EEG"]}),
    ],
)
def test_every_attention_takes_any_number_of_rows(few_rows, name, settings):
    net = models.build(name, **settings)
    n_samples = 600 if name == "foundation" else 3000
    n_channels = {"foundation": len(settings.get("roles", ()))}.get(name, 1)
    n_channels = 2 if name == "sequence_cmt" else n_channels
    net(torch.randn(2, 21, n_channels, n_samples)).sum().backward()


def test_the_similarity_loss_reads_bf16():
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    net = models.build("chambon2018", num_seq=3)
    objective = SimilarityStaging(Staging(over_positions="mean"))
    weights = objective.attach(net, fabric.device)
    model = fabric.setup(net)
    batch = SimpleNamespace(signals=torch.randn(4, 5, 1, 3000), first=[0] * 4)
    batch.stages = torch.randint(0, 5, (4, 5))
    loss, _ = objective(model, batch)
    fabric.backward(loss)
    assert torch.isfinite(loss) and all(w.grad.isfinite().all() for w in weights)


def tiny_model(store, project, *words: str):
    paths = ["--data_path", str(store.path), "--project_path", str(project), "--logger", "csv"]
    words = ["-e", "chambon2018", "--first_epochs", "0", "--n_epochs", "1", *words]
    words += ["--accelerator", "cpu", "--train_data_list", "0,1", "--batch_size", "64"]
    staging_training.main([*paths, *words])
    return load_checkpoint(next(project.glob("chambon2018_*")) / "checkpoints" / "last.pt").state


def test_a_compiled_model_trains_as_it_is(store, tmp_path, monkeypatch):
    plain = tiny_model(store, tmp_path / "plain")
    graphs = []

    def traced(graph, inputs):
        graphs.append(graph)
        return graph

    # all of torch.compile but the kernels, which a compiler would take a minute for
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=traced))
    compiled = tiny_model(store, tmp_path / "compiled", "--compile", "True")
    assert graphs
    assert plain.keys() == compiled.keys()
    assert all(torch.equal(plain[name], compiled[name]) for name in plain)


@pytest.mark.slow
# torch's own, where a model is traced in parts
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("name", [*models.names(), "resnet18"])
def test_every_model_compiles(name):
    torch._dynamo.reset()  # compilations of other models count towards a limit
    rate = models.rate_of(name) or 100.0
    settings = {"n_samples": int(30 * rate)}
    settings |= {"n_modalities": 1} if name.endswith("_cmt") else {"n_channels": 1, "fs": rate}
    windows = {} if name in ("epoch_cmt", *models.ENCODERS) else {"num_seq": 3}
    net = models.build(name, **settings, **windows).eval()
    runs = torch.randn(2, net.num_seq, 1, settings["n_samples"])
    losses = []
    for model in (net, torch.compile(net, backend="eager")):
        batch = SimpleNamespace(
            signals=runs, first=[0, 0], stages=torch.ones(runs.shape[:2]).long()
        )
        loss, _ = Staging(over_positions="mean")(model, batch)
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize("kind", list(benchmark.SIZES))
def test_every_way_of_training_is_exercised_or_skipped_with_a_reason(monkeypatch, capsys, kind):
    monkeypatch.setattr(devices, "missing", lambda: dict.fromkeys(benchmark.SIZES, ""))
    monkeypatch.setattr(devices, "described", str)
    monkeypatch.setattr(devices, "precision_of", lambda kind: "bf16-mixed")
    monkeypatch.setattr(benchmark, "store_of", lambda *where: None)
    monkeypatch.setattr(benchmark, "trained", lambda way, kind, store: (1.0, 0.5))
    monkeypatch.setattr("sys.argv", ["devices", "--device", kind])
    benchmark.main()
    done, left = capsys.readouterr().out.split("exercised")[1].split("skipped")
    for way in benchmark.ways_of(kind):
        assert (f"{kind} {way}\n" in done) != (f"{kind} {way}: " in left)
    assert (": " not in left.split("(")[1]) == (kind == "cuda")


def test_a_device_that_is_not_here_is_listed(monkeypatch, capsys):
    monkeypatch.setattr(devices, "missing", lambda: {"cuda": "no GPU", "mps": "", "cpu": ""})
    monkeypatch.setattr("sys.argv", ["devices", "--device", "cuda"])
    benchmark.main()
    assert "skipped (1):\n  cuda, everything: no GPU" in capsys.readouterr().out
