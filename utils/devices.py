"""What a device can do, asked in this one place."""

from __future__ import annotations

import torch
from torch import Tensor

# compute capability from which a GPU multiplies in a format itself, and does not imitate it
_BF16, _FP16 = (8, 0), (7, 0)


def missing() -> dict[str, str]:
    """Kinds of devices, and why there is none of a kind here; "" where there is one."""
    # torch calls a GPU of ROCm by the same name
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    return {
        "cpu": "",
        "cuda": "" if cuda else "no GPU of CUDA or ROCm",
        "mps": "" if mps else "no Apple GPU",
    }


def kind_of(accelerator: str) -> str:
    """The kind that an --accelerator, or "auto", means here; GPUs go before the CPU."""
    if accelerator in missing():
        return accelerator
    present = [kind for kind in ("cuda", "mps") if not missing()[kind]]
    return next(iter(present), "cpu")


def precision_of(kind: str) -> str:
    """The number format that training on a kind of device takes by itself.

    bf16 on GPUs that have it, as losses need no scaling in its range; fp16 on those before that
    have that alone; float32 elsewhere.
    """
    if kind != "cuda" or not torch.cuda.device_count():
        return "32-true"
    if torch.version.hip:
        return "bf16-mixed"
    weakest = min(torch.cuda.get_device_capability(k) for k in range(torch.cuda.device_count()))
    if weakest >= _BF16:
        return "bf16-mixed"
    return "16-mixed" if weakest >= _FP16 else "32-true"


def widest(device: torch.device) -> torch.dtype:
    """The floating point type with most digits that the device computes with."""
    return torch.float32 if device.type == "mps" else torch.float64


def free_gb(device: torch.device) -> float | None:
    """Free memory of a GPU in GB; ``None`` of devices that share the computer's memory."""
    return torch.cuda.mem_get_info(device)[0] / 1e9 if device.type == "cuda" else None


def random_state(device: torch.device) -> Tensor | None:
    """The state of the device's own random numbers, bytes on the CPU; a CPU has none beside."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else None


def set_random_state(device: torch.device, state: Tensor) -> None:
    """Take up the random numbers of :func:`random_state`."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.mps.set_rng_state(state)


def described(device: torch.device) -> str:
    """A device in words."""
    if device.type != "cuda":
        return (
            f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else "mps"
        )
    about = torch.cuda.get_device_properties(device)
    return f"{about.name}, {about.major}.{about.minor}, {about.total_memory / 1e9:.0f} GB"
