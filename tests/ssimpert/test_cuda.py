"""On a GPU: perturbations, quantised images, maps and curves are those of the CPU, up to single precision."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

import solvers
import ssimpert
from solvers.constraints import Constraint
from ssimpert import analysis
from ssimpert.models import Classifier, load_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")

TILES, DENSE = solvers.Window.uniform(8, stride=8), solvers.Window.uniform(7)
SETS: dict[str, Constraint] = {
    "l2": solvers.LpBall(2, 1.0),
    "global": solvers.GlobalSSIM(0.02),
    "tiles": solvers.WindowSSIM(0.95, TILES),
    "windows": solvers.WindowSSIM(0.95, DENSE),
    "mean": solvers.MeanSSIM(0.98, solvers.Window.gaussian(border="valid")),
}
ENGINES = "sequential_convex", "frank_wolfe", "projected_gradient"


@pytest.fixture(autouse=True)
def single_precision() -> Iterator[None]:
    """Without TF32, which torch's convolutions use by default: three digits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="module")
def there() -> Classifier:
    return load_model("efficientnet-lite0", device="cuda")


@pytest.fixture(scope="module")
def photos() -> Tensor:
    return torch.cat([ssimpert.load_image(name, size=224) for name in ("chelsea", "rocket")])


def test_logits_and_gradients_are_those_of_the_cpu(model: Classifier, there: Classifier, photos: Tensor) -> None:
    torch.testing.assert_close(there(photos.cuda()).cpu(), model(photos), rtol=0, atol=1e-3)
    label = model.predict(photos)
    own = ssimpert.linearize(model, photos, label, ssimpert.Untargeted()).gradient
    other = ssimpert.linearize(there, photos.cuda(), label.cuda(), ssimpert.Untargeted()).gradient
    assert float((other.cpu() - own).norm() / own.norm()) < 1e-3


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SETS)
def test_perturbations_hold_on_the_cpu(
    model: Classifier, there: Classifier, photos: Tensor, name: str, engine: Any
) -> None:
    result = ssimpert.perturb(there, photos.cuda(), SETS[name], engine=engine, steps=3, settings={"eps_rel": 1e-2})
    assert result.adversarial.device.type == "cuda"
    assert result.success.all()
    adversarial = result.adversarial.cpu()
    assert model.predict(adversarial).tolist() == result.label_after.tolist()
    bound = SETS[name].bind(photos.double())
    assert float(bound.excess(adversarial.double() - photos.double()).max()) < 1e-5


def test_a_perturbation_with_a_support_stays_inside(there: Classifier, photos: Tensor) -> None:
    mask = torch.zeros(224, 224, dtype=torch.bool)
    mask[40:180, 40:180] = True
    result = ssimpert.perturb(there, photos.cuda(), SETS["windows"], support=mask, steps=2)
    assert float(result.delta[..., ~mask.cuda()].abs().max()) == 0


def test_quantised_images_fool_on_the_cpu(model: Classifier, there: Classifier, photos: Tensor) -> None:
    result = ssimpert.perturb(there, photos.cuda(), SETS["windows"], steps=5, quantize=True)
    assert result.success.all()
    levels = result.adversarial.cpu() * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    assert (model.predict(result.adversarial.cpu()) != model.predict(photos)).all()


@pytest.mark.parametrize("name", ["l2", "tiles", "mean"])
def test_least_levels_are_those_of_the_cpu(model: Classifier, there: Classifier, photos: Tensor, name: str) -> None:
    own = ssimpert.minimal_budget(model, photos[:1], SETS[name], steps=5)
    other = ssimpert.minimal_budget(there, photos[:1].cuda(), SETS[name], steps=5)
    assert bool(other.success.all())
    assert float(other.level[0]) == pytest.approx(float(own.level[0]), rel=0.05)


def test_a_batch_too_large_for_the_device_is_halved(there: Classifier, photos: Tensor) -> None:
    images = photos[:1].cuda().expand(512, -1, -1, -1).contiguous()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(8e9 / total)
    try:
        result = ssimpert.perturb(there, images, SETS["l2"], steps=1, batch_size="auto")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    assert len(result.delta) == 512
    assert result.success.all()


def test_foolbox_baselines_run_on_the_device(there: Classifier, photos: Tensor) -> None:
    if find_spec("foolbox") is None:
        pytest.skip("foolbox is not installed")
    result = ssimpert.foolbox_baseline(there, photos.cuda(), "l2-pgd", radius=1.0, steps=10)
    assert result.adversarial.device.type == "cuda"


def test_perceptual_balls_run_on_the_device(there: Classifier, photos: Tensor) -> None:
    flipped = ssimpert.perceptual_ball_lbfgs(there, photos[:1].cuda())
    assert bool(flipped.success.all())
    held = ssimpert.perceptual_ball_constrained(there, photos[:1].cuda(), radius=0.3, steps=2)
    assert held.delta.device.type == "cuda"


@pytest.mark.parametrize("name", sorted(analysis.ATTRIBUTIONS))
def test_attributions_are_those_of_the_cpu(model: Classifier, there: Classifier, photos: Tensor, name: str) -> None:
    options = {"rise": {"masks": 20}, "occlusion": {"stride": 32}, "smooth_grad": {"samples": 4}}.get(name, {})
    label = model.predict(photos)
    own = analysis.attribution(name, model, photos, label, **options)
    other = analysis.attribution(name, there, photos.cuda(), label.cuda(), **options)
    assert other.device.type == "cuda"
    agreed = torch.corrcoef(torch.stack([own.flatten().double(), other.cpu().flatten().double()]))[0, 1]
    assert float(agreed) > 0.999


def test_curves_are_those_of_the_cpu(model: Classifier, there: Classifier, photos: Tensor) -> None:
    label = model.predict(photos)
    maps = analysis.attribution("grad_cam", model, photos, label)
    for curve in (analysis.insertion, analysis.deletion):
        own = curve(model, photos, maps)
        other = curve(there, photos.cuda(), maps.cuda())
        torch.testing.assert_close(other.auc.cpu(), own.auc, rtol=0, atol=1e-3)


def test_comparisons_run_on_the_device(there: Classifier, photos: Tensor, tmp_path: Any) -> None:
    result = ssimpert.perturb(there, photos.cuda(), SETS["tiles"], steps=2)
    view = ssimpert.compare(there, photos.cuda(), result)
    assert len(view.table()) > 0
    view.save(tmp_path)
