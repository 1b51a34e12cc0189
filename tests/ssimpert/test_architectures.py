"""Eight families of networks, with random weights, go through the main functions in evaluation mode only."""

from __future__ import annotations

import pytest
import torch

import solvers
import ssimpert
import ssimpert.analysis
from ssimpert.errors import InputError

# The smallest member of each family, and the side of its images: where the architecture allows, less than its own.
NETWORKS = {
    "timm:test_resnet": 64,
    "torchvision:densenet121": 64,
    "timm:mobilenetv3_small_050": 64,
    "timm:test_efficientnet": 64,
    "timm:test_convnext": 64,
    "timm:test_vit": 160,
    "torchvision:swin_t": 64,
    "timm:regnetx_002": 64,
}


@pytest.mark.parametrize(("name", "side"), NETWORKS.items())
def test_a_family_goes_through_the_main_functions(name: str, side: int) -> None:
    model = ssimpert.load_model(name, weights="random", device="cpu")
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    weights = {key: value.clone() for key, value in model.state_dict().items()}

    windows = solvers.WindowSSIM(0.9, solvers.Window.uniform(8, stride=8))
    result = ssimpert.perturb(model, image, windows, steps=2)
    assert float(result.margin_after) > float(result.margin_before)
    assert float(result.violation) <= 1e-6

    budget = ssimpert.minimal_budget(model, image, solvers.LpBall(2, 1.0), steps=4, rounds=3, candidates=2)
    assert bool(budget.success) == (int(model.predict(budget.adversarial)) != int(budget.label))
    if bool(budget.success):
        assert float((budget.adversarial - image).norm()) <= float(budget.level) * (1 + 1e-5)

    view = ssimpert.compare(model, image, result, shifts=0)
    for kinds in view.maps.values():
        for maps in kinds.values():
            assert maps.shape == (1, side, side)
    assert bool(view.cam.isfinite().all())
    assert float(view.cam.max()) == 1  # not constant

    features = ssimpert.deep_features(model)
    with torch.no_grad():
        phi, again = features(image), features(image)
    assert phi.shape[0] == 1
    assert torch.equal(phi, again)
    distance = ssimpert.feature_distance(features, image, result.adversarial)
    assert float(distance) == pytest.approx(float((features(result.adversarial) - phi).norm()), rel=1e-4)

    curve = ssimpert.analysis.insertion(model, image, view.cam, step=side * side // 4)
    expected = model(image).softmax(dim=1)[0, int(result.label)]
    assert float(curve.scores[0, -1]) == pytest.approx(float(expected), rel=1e-4)

    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("name", ["timm:test_resnet", "timm:test_vit"])
def test_a_part_in_training_mode_is_refused(name: str) -> None:
    model = ssimpert.load_model(name, weights="random", device="cpu")
    last = list(model.network.named_modules())[-1][0]
    model.network.get_submodule(last).train()
    image = torch.rand(1, 3, 32, 32)
    with pytest.raises(InputError, match=f"'{name}' is in training mode .*'network.{last}'"):
        ssimpert.perturb(model, image, solvers.LpBall(2, 1.0))
