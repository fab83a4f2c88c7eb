"""Models of libraries, TorchScript programs and modules in Python, each with features for detectors."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch

import robustbench_med as rbmed
from rbmed_models.foreign.answers import entries
from robustbench_med.errors import BadParameter, NotDefined, WeightsError

NET = Path(__file__).parent / "net.py"
FEW = "brainsim:size=32,train_patients=2,calibration_patients=2,test_patients=1,slices=2"


@pytest.fixture(autouse=True)
def same_weights() -> None:
    torch.manual_seed(0)


def built(text: str, classes: int = 2, size: int = 32) -> rbmed.Classifier:
    made: rbmed.Classifier = rbmed.load_component("model", text).build(classes, 1, size)
    return made.eval()


def images(size: int = 32) -> torch.Tensor:
    return torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("text", "size", "width"),
    [
        ("timm:test_resnet", 32, 96),
        ("timm:test_vit", 64, 64),
        ("timm:swin_tiny_patch4_window7_224,size=112", 32, 768),
        ("timm:convnext_atto", 64, 320),
        ("torchvision:squeezenet1_1", 64, 512),
        ("torchvision:shufflenet_v2_x0_5", 64, 1024),
        ("torchvision:googlenet", 64, 1024),
        (f"{NET}:build", 32, 128),
        (f"{NET}:answering_dict", 32, 128),
        (f"{NET}:build,layer=1", 32, 8),
        (f"{NET}:build,layer=2", 32, 8),
    ],
)
def test_logits_and_features(text: str, size: int, width: int) -> None:
    model = built(text, size=size)
    x = images(size).requires_grad_()
    assert model(x).shape == (2, 2)
    features = model.embed(x)
    assert features.shape == (2, width)
    # One feature may be 0 after its ReLU, and the sum of all is constant after a layer norm.
    (features * torch.linspace(1, 2, width)).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_features_are_the_input_of_the_last_linear_layer() -> None:
    model = built(f"{NET}:build")
    body = model.body
    torch.testing.assert_close(body[4](model.embed(images())), model(images()))
    of_timm = built("timm:test_resnet")
    torch.testing.assert_close(of_timm.body.fc(of_timm.embed(images())), of_timm(images()))
    copied = copy.deepcopy(model)
    torch.testing.assert_close(copied.embed(images()), model.embed(images()))


def test_a_layer_that_does_not_exist_is_refused() -> None:
    with pytest.raises(NotDefined, match="layer=neck: the model has no such layer; its layers are 0, 1, 2, 3, 4"):
        built(f"{NET}:build,layer=neck").embed(images())


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_heads_that_only_a_training_uses_are_left_out(name: str, tmp_path: Path) -> None:
    model = rbmed.load_component("model", f"torchvision:{name},size=96").build(2, 1, 32).train()
    assert model.loss(images(), torch.tensor([0, 1])).isfinite()
    extra = {"googlenet": "aux1.fc2.weight", "inception_v3": "AuxLogits.fc.weight"}[name]
    torch.save({**model.body.state_dict(), extra: torch.zeros(2)}, tmp_path / "published.pth")
    again = rbmed.load_component("model", f"torchvision:{name},size=96,weights={tmp_path / 'published.pth'}").build(
        2, 1, 32
    )
    torch.testing.assert_close(again.eval()(images()), model.eval()(images()))


def test_models_of_a_fixed_size_say_which() -> None:
    assert built("torchvision:vit_b_16", size=32)(images()).shape == (2, 2)
    with pytest.raises(BadParameter, match=r"vit_b_16 cannot be built for 40 px"):
        built("torchvision:vit_b_16", size=40)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("how", ["script", "trace"])
def test_torchscript_gives_logits_and_features(how: str, tmp_path: Path) -> None:
    net = built(f"{NET}:build").body
    made = torch.jit.script(net) if how == "script" else torch.jit.trace(net, images())
    file = tmp_path / "my net.pt"
    torch.jit.save(made, file)
    model = built(f"{file}:mean=[0.5],std=[0.25]")
    component = rbmed.load_component("model", str(file))
    assert (component.strategy, len(component.params.digest)) == ("pretrained", 16)
    plain = (images() - 0.5) / 0.25
    torch.testing.assert_close(model(images()), net(plain))
    torch.testing.assert_close(model.embed(images()), net[:4](plain))
    torch.testing.assert_close(copy.deepcopy(model)(images()), model(images()))
    fresh = built(str(file))
    fresh.load_state_dict(model.state_dict())
    with pytest.raises(NotDefined, match="layers of a TorchScript program cannot be named"):
        built(f"{file}:layer=2").embed(images())


def test_a_file_of_weights_is_no_model(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    torch.save(built(f"{NET}:build").body.state_dict(), file)
    hint = re.escape(f"name their model: --model net.py:build --weights {file}")
    with pytest.raises(WeightsError, match=f"is no TorchScript program .*{hint}") as error:
        built(str(file))
    assert "\n" not in str(error.value)


def test_a_module_is_handed_over_in_python(tmp_path: Path) -> None:
    net = built(f"{NET}:build").body
    options = {"dataset": FEW, "attack": "fgsm", "access": "oblivious", "out": tmp_path / "out"}
    (record,) = rbmed.evaluate(model={"name": net, "mean": [0.2], "std": [0.4]}, **options)
    test = rbmed.load_dataset(FEW).split("test")
    expected = float((net((test.images - 0.2) / 0.4).argmax(1) == test.labels).float().mean())
    assert (record.defense.name, record.defense.strategy.name) == ("undefended", "pretrained")
    assert record.metrics["clean_accuracy"] == pytest.approx(expected)
    (again,) = rbmed.evaluate(model={"name": copy.deepcopy(net), "mean": [0.2], "std": [0.4]}, **options)
    assert again.cell_id == record.cell_id
    with torch.no_grad():
        net[4].bias += 1
    (other,) = rbmed.evaluate(model={"name": net, "mean": [0.2], "std": [0.4]}, **options)
    assert other.cell_id != record.cell_id
    deployed = rbmed.load_defense("undefended", FEW, model=net)
    torch.testing.assert_close(deployed.classifier("hospital-1")(images()), net((images() - 0.5) / 0.25))


def test_a_module_of_another_process_is_not_here() -> None:
    with pytest.raises(BadParameter, match="there is no module 'Net-0' in this process"):
        built("object:Net-0")


def test_a_classifier_is_handed_over_as_it_is() -> None:
    made = built(f"{NET}:build,mean=[0.3],std=[0.1]")
    deployed = rbmed.load_defense("undefended", FEW, model=made)
    torch.testing.assert_close(deployed.classifier("hospital-1")(images()), made(images()))


@pytest.mark.parametrize("detector", ["knn", "mahalanobis"])
def test_detectors_take_features_of_any_model(detector: str, tmp_path: Path) -> None:
    net = built("timm:test_vit", size=32).body
    defense = f"shielded:purifier=none,detector={detector}"
    quick = {"limit": 4, "diagnostics": "off", "baseline": "", "out": tmp_path / "out"}
    (record,) = rbmed.evaluate(model=net, defense=defense, dataset=FEW, attack="fgsm", access="full", draws=1, **quick)
    assert record.status == "ok", record.reason
    assert record.metrics["detector_auroc"] is not None


def test_the_entries_of_an_answer_are_found_at_any_depth() -> None:
    z = torch.zeros(1, 2)
    assert list(entries({"a": [z, {"b": z}], "c": 3})) == ["a.0", "a.1.b"]


def test_a_file_whose_folder_a_record_left_out_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="records keep the names of files outside of the current folder"):
        built("\N{HORIZONTAL ELLIPSIS}/net.py:Net")
