"""WindowSSIM, a ball of real deep features and the pixel box at once, each checked by other means than ours."""

from __future__ import annotations

import pytest
import torch
from skimage.metrics import structural_similarity

import solvers
import ssimpert
from ssimpert.linearization import Untargeted, deep_features, feature_jacobian, linearize
from ssimpert.models import Classifier


@pytest.mark.parametrize("photo", ["chelsea", "rocket"])
def test_windows_features_and_box_hold_together_and_are_certified(photo: str, model: Classifier) -> None:
    whole = ssimpert.load_image(photo, size=224)
    gradient = linearize(model, whole, model.predict(whole), Untargeted()).gradient
    cut = (..., slice(80, 144), slice(80, 144))
    x, g = whole[cut].contiguous(), gradient[cut].contiguous()
    features = deep_features(model)
    jacobian = feature_jacobian(features, x)
    windows, box = solvers.WindowSSIM(0.95, solvers.Window.uniform(7)), solvers.Box(0.0, 1.0)
    free = solvers.solve(solvers.LinearProblem(g, x, [windows, box]), settings=solvers.Settings(eps_rel=1e-2))
    # Half the feature distance that the windows' own optimum has, so that both sets matter.
    radius = 0.5 * float(jacobian.apply(torch.as_tensor(free.delta)).norm())
    problem = solvers.LinearProblem(g, x, [windows, solvers.FeatureBall(radius, jacobian), box])
    result = solvers.solve(problem, settings=solvers.Settings(eps_rel=1e-2, max_iter=1000))
    assert result.all_optimal, result.rel_gap
    assert float(solvers.certify(problem, result.delta, result.dual).rel_gap[0]) <= 1e-2
    assert float(result.objective[0]) < 0.9 * float(free.objective[0])
    delta = torch.as_tensor(result.delta)
    # Features by forward-mode differentiation, windows by scikit-image, the box by looking.
    moved = torch.func.jvp(features, (x,), (delta,))[1]
    assert float(moved.norm()) <= radius * (1 + 1e-4)
    assert float(moved.norm()) >= 0.98 * radius
    _, index = structural_similarity(
        x[0].double().numpy(),
        (x + delta)[0].double().numpy(),
        win_size=7,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=0,
        full=True,
    )
    assert float(index[:, 3:-3, 3:-3].min()) >= 0.95 - 1e-6
    assert float((x + delta).min()) >= 0
    assert float((x + delta).max()) <= 1
