"""The mini-batch gradient loop: one network, any number of ranks, stopped and continued at will."""

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.errors import TrainingError
from engine.group import Group
from engine.optimisation import Optimisation
from engine.training.checkpoints import Checkpoints
from engine.training.device import Device, in_parallel, training_device
from engine.training.order import Places, Share, epoch_batches
from engine.training.state import State, load_state, run_digest, save_state

NAMED = 8
"""So many pictures of a batch are named when its loss is no number."""


@dataclass(frozen=True)
class Batch:
    """Some pictures that one rank is asked the losses of.

    Attributes:
        rows_B: int64, which of this rank's own pictures; there may be none.
        draws_B: float64 in [0, 1), one a picture and epoch, whatever rank has the picture: what
            augmentation draws from.
        epoch: from 0.
        device: where the network is.
    """

    rows_B: NDArray[np.int64]
    draws_B: NDArray[np.float64]
    epoch: int
    device: torch.device


Loss = Callable[[nn.Module, Batch], torch.Tensor]
"""The SUM of the losses of a batch's pictures, a scalar, through the network that it is given."""

Figure = Callable[[nn.Module], float]
"""What a network is judged by after an epoch, lower is better; the same on every rank."""

Rate = Callable[[str], float]
"""By the name of a parameter, the factor of its learning rate; 0: it stays as it is."""


@dataclass(frozen=True)
class Trained:
    """How a run went.

    Attributes:
        losses: mean loss of a picture, by epoch.
        figures: what the epochs were judged by: `figure`, or else the losses.
        epoch: how many epochs the weights that were kept have seen.
    """

    losses: tuple[float, ...]
    figures: tuple[float, ...]
    epoch: int


def train(
    network: nn.Module,
    loss: Loss,
    ids: Sequence[str],
    settings: Optimisation,
    group: Group,
    *,
    figure: Figure | None = None,
    rate: Rate = lambda _: 1.0,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Train a network in place; it is left on the CPU, in evaluation mode.

    Each epoch goes through the pictures of all the ranks in an order that is drawn from the seed
    and the pictures' ids alone. A batch is the same pictures however these are shared out, each
    rank computes the losses of those it has, and the gradients are averaged (DDP). So one rank and
    several find the same weights but for rounding, and for what dropout draws.

    Everything drawn is drawn anew for each step from (seed, epoch, step): a run that goes on from
    the checkpoint of an epoch ends with the numbers of one that was never stopped.

    Args:
        ids: of this rank's pictures, by row; unique over the ranks.
        rate: of each parameter.
        checkpoints: asked for a state to go on from, and given one after each epoch.

    Raises:
        TrainingError: a loss or a gradient is not finite; the batch is named, and the last
            checkpoint stays. Or the checkpoint is of another run.
    """
    places = Places.agree(ids, group)
    device = training_device(group, settings.precision)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and rate(name) > 0)
    network.to(device.place)
    run = _Run(network, loss, ids, settings, group, places, device, rate)
    run.digest = run_digest(network, settings, places)
    if checkpoints is not None and (found := checkpoints.latest()) is not None:
        load_state(found, run.state, run.digest)
    parallel = in_parallel(network, group, device)
    while not settings.is_over(run.state.figures):
        started = time.perf_counter()
        network.train()
        mean_loss = run.epoch(parallel, checkpoints)
        trained = time.perf_counter() - started
        judged = run.state.average or network
        judged.eval()
        with torch.inference_mode():
            found_figure = mean_loss if figure is None else figure(judged)
        run.state.note(mean_loss, found_figure, judged, keeps_best=settings.stop_after is not None)
        if checkpoints is not None:
            done = len(run.state.losses)
            seconds = time.perf_counter() - started
            told = {
                "loss": mean_loss,
                "figure": found_figure,
                "epochs": settings.epochs,
                "pictures_per_second": places.pictures / max(trained, 1e-9),
                "seconds_left": (settings.epochs - done) * seconds,
            }
            checkpoints.keep(
                done,
                lambda folder: save_state(folder, run.state, run.digest),
                told,
                group.rank == 0,
            )
    kept = run.state.kept()
    network.load_state_dict(kept)
    network.cpu().eval()
    return Trained(tuple(run.state.losses), tuple(run.state.figures), run.state.kept_epoch)


class _Run:
    """What stays the same from epoch to epoch, and the state that does not."""

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        ids: Sequence[str],
        settings: Optimisation,
        group: Group,
        places: Places,
        device: Device,
        rate: Rate,
    ) -> None:
        self.loss = loss
        self.ids = ids
        self.settings = settings
        self.group = group
        self.places = places
        self.device = device
        self.digest = ""
        self.learning = [one for one in network.parameters() if one.requires_grad]
        optimiser = _optimiser(network, settings, rate)
        average = copy.deepcopy(network) if settings.average is not None else None
        self.state = State(network, optimiser, average, device.scaler())

    def epoch(self, parallel: nn.Module, checkpoints: Checkpoints | None) -> float:
        """One pass over all the pictures; the mean loss of one of them, over all the ranks."""
        settings, number = self.settings, len(self.state.losses)
        batches = epoch_batches(self.places, settings.seed, number, settings.batch)
        total = torch.zeros((), dtype=torch.float64, device=self.device.place)
        first = number * settings.steps_an_epoch(self.places.pictures)
        for step, start in enumerate(range(0, len(batches), settings.accumulate), first):
            part = batches[start : start + settings.accumulate]
            factor = settings.factor(step, self.places.pictures, self.state.figures)
            for group in self.state.optimiser.param_groups:
                group["lr"] = group["full_rate"] * factor
            with _drawn_from(self.device.place, settings.seed, number, step, self.group.rank):
                losses = self._gradient(parallel, part, number)
            total += losses.detach().double()
            self._step(part, losses, number, step, checkpoints)
        found = self.group.sum(np.array([float(total)]))[0] / self.places.pictures
        if not math.isfinite(found):
            raise TrainingError(
                f"epoch {number + 1}: the mean loss is {found}; lower optimisation.learning_rate, "
                f"or set optimisation.clip{_kept_at(checkpoints)}"
            )
        return float(found)

    def _gradient(self, parallel: nn.Module, part: Sequence[Share], number: int) -> torch.Tensor:
        """Fill the gradients from some batches; the sum of this rank's losses in them."""
        self.state.optimiser.zero_grad()
        pictures = sum(share.pictures for share in part)
        total = torch.zeros((), device=self.device.place)
        for place, share in enumerate(part):
            batch = Batch(share.rows_B, share.draws_B, number, self.device.place)
            is_last = place == len(part) - 1
            with self.device.autocast(), _synchronised(parallel, is_last):
                losses = self.loss(parallel, batch)
                # DDP takes the mean over the ranks, where the sum is wanted.
                mean = losses * (self.group.size / pictures)
                self.state.scaler.scale(mean).backward()  # type: ignore[no-untyped-call]
            total = total + losses.detach()
        return total

    def _step(
        self,
        part: Sequence[Share],
        losses: torch.Tensor,
        number: int,
        step: int,
        checkpoints: Checkpoints | None,
    ) -> None:
        state, settings = self.state, self.settings
        state.scaler.unscale_(state.optimiser)
        norm = nn.utils.clip_grad_norm_(self.learning, settings.clip or math.inf)
        # Averaged over the ranks, so all of them see the same norm, and raise or go on together.
        if not bool(torch.isfinite(norm)):
            found = self.group.gather(np.array([float(losses)]))
            is_overflow = state.scaler.is_enabled() and all(np.isfinite(one[0]) for one in found)
            if not is_overflow:
                self._refuse(part, [float(one[0]) for one in found], number, step, checkpoints)
        state.scaler.step(state.optimiser)
        state.scaler.update()
        state.follow(settings.average, step)

    def _refuse(
        self,
        part: Sequence[Share],
        losses: Sequence[float],
        number: int,
        step: int,
        checkpoints: Checkpoints | None,
    ) -> None:
        mine = [self.ids[row] for share in part for row in share.rows_B]
        gathered = self.group.gather(np.array(mine, dtype=np.str_))
        names = sorted(str(name) for one in gathered for name in one)
        shown = ", ".join(f"'{name}'" for name in names[:NAMED])
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        total = sum(losses)
        what = f"loss is {total}" if not math.isfinite(total) else "gradient is not finite"
        raise TrainingError(
            f"epoch {number + 1}, step {step + 1}: the {what} for the batch of pictures {shown}"
            f"{more}; look at these, lower optimisation.learning_rate, or set optimisation.clip"
            f"{_kept_at(checkpoints)}"
        )


def _kept_at(checkpoints: Checkpoints | None) -> str:
    found = None if checkpoints is None else checkpoints.latest()
    return "" if found is None else f"; the last checkpoint is {found}"


def _optimiser(network: nn.Module, settings: Optimisation, rate: Rate) -> torch.optim.Optimizer:
    """One group a learning rate and a decay, so that few groups hold many parameters."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            key = (settings.learning_rate * rate(name), decay)
            groups.setdefault(key, []).append(parameter)
    listed = [
        {"params": members, "lr": full, "full_rate": full, "weight_decay": decay}
        for (full, decay), members in groups.items()
    ]
    if settings.optimiser == "sgd":
        return torch.optim.SGD(listed, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(listed, betas=settings.betas)


@contextlib.contextmanager
def _drawn_from(place: torch.device, *numbers: int) -> Iterator[None]:
    """What torch draws in the block, on the CPU and at `place`, depends on the numbers alone.

    Outside nothing changes.
    """
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
    gpus = [place] if place.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        # Not torch.manual_seed: without a GPU it looks for one at each call, and keeps the call
        # with its stack for when one comes; over the steps of a training that adds up.
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


def _synchronised(parallel: nn.Module, is_last: bool) -> contextlib.AbstractContextManager[None]:
    """Ranks exchange gradients at a step's last batch only."""
    if not is_last and isinstance(parallel, nn.parallel.DistributedDataParallel):
        held: contextlib.AbstractContextManager[None] = parallel.no_sync()
        return held
    return contextlib.nullcontext()
