"""All that a training run must know to go on, and how it is written: safetensors and JSON."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from engine.optimisation import Optimisation
from engine.training.checkpoints import read_json
from engine.training.order import Places

_TENSORS, _JSON = "state.safetensors", "state.json"


class State:
    """What changes as a network is trained.

    The order of the pictures and all that is drawn follows from the seed and the epoch's number,
    so no generator has a state of its own to be kept.

    Attributes:
        average: the network with the moving average of its weights; None: there is none.
        losses, figures: of the epochs done.
        best: the weights of the epoch with the best figure, where these are to be kept.
        best_epoch: its number, from 1.
    """

    def __init__(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        average: nn.Module | None,
        scaler: torch.amp.GradScaler,
    ) -> None:
        self.network = network
        self.optimiser = optimiser
        self.average = average
        self.scaler = scaler
        self.losses: list[float] = []
        self.figures: list[float] = []
        self.best: dict[str, torch.Tensor] = {}
        self.best_epoch = 0

    def follow(self, decay: float | None, step: int) -> None:
        """Move the average towards the weights as they are after a step, counted from 0.

        The first steps' decay is less, (1 + step) / (10 + step), or what the weights were before
        training would stay in the average of a short run.
        """
        if self.average is None or decay is None:
            return
        decay = min(decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)
            buffers = zip(self.average.buffers(), self.network.buffers(), strict=True)
            for kept, given in buffers:
                kept.copy_(given)

    def note(self, loss: float, figure: float, judged: nn.Module, keeps_best: bool) -> None:
        """Take down how an epoch ended."""
        is_best = not self.figures or figure < min(self.figures)
        self.losses.append(loss)
        self.figures.append(figure)
        if keeps_best and is_best:
            self.best = {name: one.detach().clone() for name, one in judged.state_dict().items()}
            self.best_epoch = len(self.losses)

    def kept(self) -> dict[str, torch.Tensor]:
        """The weights that a finished run is left with."""
        return self.best or (self.average or self.network).state_dict()

    @property
    def kept_epoch(self) -> int:
        """How many epochs these have seen."""
        return self.best_epoch if self.best else len(self.losses)


def run_digest(network: nn.Module, settings: Optimisation, places: Places) -> str:
    """Tells runs apart whose states are not each other's."""
    shapes = {name: list(one.shape) for name, one in network.state_dict().items()}
    content = [settings.model_dump(mode="json"), shapes, places.digest]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def save_state(folder: Path, state: State, digest: str) -> None:
    """Write a checkpoint into an empty folder."""
    parts = {"network": state.network.state_dict(), "best": state.best}
    if state.average is not None:
        parts["average"] = state.average.state_dict()
    tensors = {f"{part}/{name}": one for part, of in parts.items() for name, one in of.items()}
    scalars: dict[str, object] = {}
    for number, of_one in state.optimiser.state_dict()["state"].items():
        for name, value in of_one.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimiser/{number}/{name}"] = value
            else:
                scalars[f"{number}/{name}"] = value
    copies = {name: one.detach().cpu().clone().contiguous() for name, one in tensors.items()}
    save_file(copies, folder / _TENSORS)
    content = {
        "run": digest,
        "losses": state.losses,
        "figures": state.figures,
        "best_epoch": state.best_epoch,
        "optimiser": scalars,
        "scaler": state.scaler.state_dict(),
    }
    (folder / _JSON).write_text(json.dumps(content), encoding="utf-8")


def load_state(folder: Path, state: State, digest: str) -> None:
    """Read a checkpoint into the state of a run that has not begun.

    Raises:
        TrainingError: it is of another run.
    """
    content = read_json(folder / _JSON, digest)
    tensors = load_file(folder / _TENSORS)

    def part(name: str) -> dict[str, torch.Tensor]:
        start = f"{name}/"
        return {key[len(start) :]: one for key, one in tensors.items() if key.startswith(start)}

    state.network.load_state_dict(part("network"))
    if state.average is not None:
        state.average.load_state_dict(part("average"))
    device = next(state.network.parameters()).device
    state.best = {name: one.to(device) for name, one in part("best").items()}
    of_parameters: dict[int, dict[str, object]] = {}
    for key, value in {**part("optimiser"), **dict(_items(content["optimiser"]))}.items():
        number, _, name = key.partition("/")
        of_parameters.setdefault(int(number), {})[name] = value
    whole = state.optimiser.state_dict()
    state.optimiser.load_state_dict({**whole, "state": of_parameters})
    scaler = dict(_items(content["scaler"]))
    if scaler:
        state.scaler.load_state_dict(scaler)
    losses, figures, best_epoch = content["losses"], content["figures"], content["best_epoch"]
    assert isinstance(losses, list)
    assert isinstance(figures, list)
    assert isinstance(best_epoch, int)
    state.losses, state.figures, state.best_epoch = losses, figures, best_epoch


def _items(value: object) -> list[tuple[str, object]]:
    assert isinstance(value, dict)
    return list(value.items())
