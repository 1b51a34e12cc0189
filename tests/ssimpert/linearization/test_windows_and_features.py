"""WindowSSIM, a ball of real deep features and the pixel box at once, each checked by other means than ours."""

from __future__ import annotations

import warnings

import torch
from skimage.metrics import structural_similarity

import solvers
import ssimpert
from ssimpert.linearization import Untargeted, deep_features, feature_jacobian, linearize
from ssimpert.models import Classifier


def test_windows_features_and_box_hold_together_and_are_certified(model: Classifier) -> None:
    whole = ssimpert.load_image("chelsea", size=224)
    gradient = linearize(model, whole, model.predict(whole), Untargeted()).gradient
    cut = (..., slice(80, 128), slice(80, 128))
    x, g = whole[cut].contiguous(), gradient[cut].contiguous()
    features = deep_features(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # torch's own, of how it traces a network, are no news to a user
        jacobian = feature_jacobian(features, x)
    other = torch.randn(1, jacobian.apply(g).shape[1], generator=torch.Generator().manual_seed(0))
    left, right = (jacobian.apply(g) * other).sum(), (g * jacobian.apply_adjoint(other)).sum()
    assert float((left - right).abs()) <= 1e-5 * float(jacobian.apply(g).norm() * other.norm())
    assert not any(module._forward_hooks for module in model.modules())
    windows, box = solvers.WindowSSIM(0.95, solvers.Window.uniform(7)), solvers.Box(0.0, 1.0)
    free = solvers.solve(solvers.LinearProblem(g, x, [windows, box]), settings=solvers.Settings(eps_rel=1e-2))
    # Half the feature distance that the windows' own optimum has, so that both sets matter.
    radius = 0.5 * jacobian.apply(torch.as_tensor(free.delta)).norm(dim=1)
    problem = solvers.LinearProblem(g, x, [windows, solvers.FeatureBall(radius, jacobian), box])
    result = solvers.solve(problem, settings=solvers.Settings(eps_rel=1e-2, max_iter=1000))
    assert result.all_optimal, result.rel_gap
    assert float(torch.as_tensor(solvers.certify(problem, result.delta, result.dual).rel_gap).max()) <= 1e-2
    assert bool((torch.as_tensor(result.objective) < 0.9 * torch.as_tensor(free.objective)).all())
    delta = torch.as_tensor(result.delta)
    # Features by forward-mode differentiation, windows by scikit-image, the box by looking.
    moved = torch.func.jvp(features, (x,), (delta,))[1].norm(dim=1)
    assert bool((moved <= radius * (1 + 1e-4)).all())
    assert bool((moved >= 0.98 * radius).all())
    for clean, other in zip(x.double(), (x + delta).double(), strict=True):
        _, index = structural_similarity(
            clean.numpy(),
            other.numpy(),
            win_size=7,
            use_sample_covariance=False,
            data_range=1.0,
            channel_axis=0,
            full=True,
        )
        assert float(index[:, 3:-3, 3:-3].min()) >= 0.95 - 1e-6
    assert float((x + delta).min()) >= 0
    assert float((x + delta).max()) <= 1
