"""What a network is trained on: which device, which precision, and how ranks share gradients."""

import contextlib
from dataclasses import dataclass

import torch
from torch import nn

from engine.errors import ConfigError
from engine.group import Group
from engine.optimisation import Precision
from engine.torch_group import Torch


@dataclass(frozen=True)
class Device:
    """A device and the type that the forward pass computes in there."""

    place: torch.device
    dtype: torch.dtype

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Within it a forward pass is of mixed precision, if that is what was chosen."""
        is_mixed = self.dtype != torch.float32
        return torch.autocast(self.place.type, dtype=self.dtype, enabled=is_mixed)

    def scaler(self) -> torch.amp.GradScaler:
        """Scales losses where float16 would lose small gradients; elsewhere does nothing."""
        return torch.amp.GradScaler(self.place.type, enabled=self.dtype == torch.float16)


def choose_device(
    precision: Precision, gpus: int, has_bf16: bool, rank_device: str | None = None
) -> Device:
    """What to train on.

    Args:
        gpus: how many there are.
        has_bf16: whether the GPU computes in bfloat16.
        rank_device: where the ranks' process group is; None: this process is alone.

    Raises:
        ConfigError: float16 is asked for on a CPU.
    """
    name = rank_device or ("cuda" if gpus else "cpu")
    place = torch.device(name)
    if precision == "auto":
        if place.type == "cpu":
            return Device(place, torch.float32)
        return Device(place, torch.bfloat16 if has_bf16 else torch.float16)
    if precision == "float16" and place.type == "cpu":
        raise ConfigError(
            "optimisation.precision is 'float16', but there is no GPU to train on; set it to "
            "'auto', 'float32' or 'bfloat16'"
        )
    return Device(place, getattr(torch, precision))


def training_device(group: Group, precision: Precision) -> Device:
    """What a rank trains on, here."""
    gpus = torch.cuda.device_count()
    has_bf16 = gpus > 0 and torch.cuda.is_bf16_supported()
    rank_device = group.device if isinstance(group, Torch) else None
    return choose_device(precision, gpus, has_bf16, rank_device)


def in_parallel(network: nn.Module, group: Group, device: Device) -> nn.Module:
    """The network as all the ranks train it: DDP, or itself where there is one rank."""
    if group.size == 1:
        return network
    if not isinstance(group, Torch):
        raise TypeError(f"ranks of {type(group).__name__} cannot share gradients")
    ids = [device.place] if device.place.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network, device_ids=ids)
