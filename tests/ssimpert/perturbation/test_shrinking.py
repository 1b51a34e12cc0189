"""Perturbations drawn back along their segment, against dense scans and closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import solvers
import ssimpert
from ssimpert.errors import InputError
from ssimpert.perturbation import perturb
from ssimpert.perturbation.shrinking import smallest_share
from tests.ssimpert.perturbation.linear_classifier import TwoClasses, grey, score


def reached(offset: float) -> tuple[TwoClasses, Tensor]:
    """A model whose border is ``offset`` away from every image of its batch, and three images at other distances."""
    image, model = grey(3), TwoClasses(offset=0.0)
    model.offset = float(score(model, image).detach().max()) + offset
    return model, image


def test_the_share_is_the_distance_of_the_border_over_that_of_the_perturbation() -> None:
    model, image = reached(0.01)
    distance = -score(model, image).detach()  # |w| = 1
    result = perturb(model, image, solvers.LpBall(2, 2.0), steps=1)
    whole = perturb(model, image, solvers.LpBall(2, 2.0), steps=1, shrink=False)
    expected = distance / whole.delta.flatten(1).norm(dim=1)
    assert result.success.all()
    assert ((result.shrink_share >= expected) & (result.shrink_share <= expected * (1 + 1 / 128))).all()
    torch.testing.assert_close(result.delta, whole.delta * result.shrink_share[:, None, None, None])
    assert (whole.shrink_share == 1).all()
    assert [result.settings["shrink"], whole.settings["shrink"]] == [True, False]
    assert [row["shrink_share"] for row in result.rows()] == result.shrink_share.tolist()


def test_the_margin_asked_for_is_kept() -> None:
    model, image = reached(0.01)
    margin = ssimpert.Untargeted().by(0.5)
    result = perturb(model, image, solvers.LpBall(2, 2.0), steps=1, margin=margin)
    logits = model(result.adversarial)
    beyond = logits[:, 1] - logits[:, 0] - 0.5
    assert (beyond > 0).all()
    assert (beyond < 0.02).all()


def test_a_nearer_success_is_found_beyond_a_failure() -> None:
    # By shares: success at [0.2, 0.4] and over 0.7. Bisection from the whole would end at 0.7.
    def serves(share: Tensor, indices: Tensor) -> Tensor:
        return ((share >= 0.2) & (share <= 0.4)) | (share > 0.7)

    share = smallest_share(serves, torch.tensor([True, False]))
    assert 0.2 <= float(share[0]) <= 0.2 * (1 + 1 / 128)
    assert float(share[1]) == 1


def test_the_share_zero_is_never_tried() -> None:
    tried: list[float] = []

    def serves(share: Tensor, indices: Tensor) -> Tensor:
        tried.extend(share.tolist())
        return torch.ones_like(indices, dtype=torch.bool)

    assert float(smallest_share(serves, torch.tensor([True]))) > 0
    assert min(tried) > 0
    assert len(tried) == 19


def test_images_are_drawn_back_alone_and_failures_not_at_all() -> None:
    model, image = reached(0.01)
    radii = torch.tensor([2.0, 1e-3, 1.0], dtype=torch.float64)
    result = perturb(model, image, solvers.LpBall(2, radii), steps=1)
    assert result.success.tolist() == [True, False, True]
    assert result.shrink_share[1] == 1
    assert float(result.delta[1].norm()) == pytest.approx(1e-3)
    for k in (0, 2):
        alone = perturb(model, image[k : k + 1], solvers.LpBall(2, float(radii[k])), steps=1)
        torch.testing.assert_close(alone.adversarial[0], result.adversarial[k], rtol=0, atol=1e-12)
    parts = perturb(model, image, solvers.LpBall(2, radii), steps=1, batch_size=2)
    assert torch.equal(parts.shrink_share, result.shrink_share)


def test_an_image_that_has_its_goal_already_stays_as_it_is() -> None:
    model, image = TwoClasses(offset=50.0), grey()
    result = perturb(model, image, solvers.LpBall(2, 0.1), label=torch.tensor([1]))
    assert torch.equal(result.adversarial, image)
    assert float(result.shrink_share) == 1


@pytest.mark.parametrize(
    "constraint",
    [
        solvers.WindowSSIM(0.5, solvers.Window.uniform(4, stride=4)),
        solvers.MeanSSIM(0.5, solvers.Window.uniform(4, stride=4), luminance=None),
        solvers.GlobalSSIM(0.5),
    ],
    ids=lambda constraint: constraint.kind,
)
def test_what_is_returned_lies_in_the_set(constraint: solvers.Constraint) -> None:
    model, image = reached(0.002)
    image = image.float()
    model = model.float()
    result = perturb(model, image, constraint, steps=2)
    assert result.success.all()
    assert (result.shrink_share < 1).all()
    delta = result.adversarial.double() - image.double()
    assert (constraint.bind(image.double()).excess(delta) <= 1e-6).all()
    assert (result.violation <= 1e-6).all()
    assert torch.equal(model(result.adversarial).argmax(dim=1), result.label_after)


def test_pixels_outside_the_support_keep_their_values() -> None:
    model, image = reached(0.01)
    support = torch.zeros(12, 12, dtype=torch.bool)
    support[:6] = True
    result = perturb(model, image, solvers.LpBall(2, 2.0), steps=2, support=support)
    assert (result.shrink_share < 1).all()
    assert torch.equal(result.adversarial[..., 6:, :], image[..., 6:, :])


def test_published_methods_and_all_steps_are_not_drawn_back() -> None:
    model, image = reached(0.01)
    ball = solvers.GlobalSSIM(0.5)
    for options in ({"recentred": True}, {"recentred": True, "faithful": True}, {"stop_at_success": False}):
        result = perturb(model, image, ball, steps=1, **options)  # type: ignore[arg-type]
        assert result.settings["shrink"] is False
        assert (result.shrink_share == 1).all()
    moved = perturb(model, image, ball, steps=1, recentred=True, shrink=True)
    assert (moved.shrink_share < 1).all()
    assert moved.success.all()


def test_options_that_contradict_shrink_are_refused() -> None:
    model, image = reached(0.01)
    with pytest.raises(InputError, match="shrink=True for the smallest"):
        perturb(model, image, solvers.LpBall(2, 1.0), stop_at_success=False, shrink=True)
    with pytest.raises(InputError, match="drop faithful=True or shrink=True"):
        perturb(model, image, solvers.GlobalSSIM(0.1), recentred=True, faithful=True, shrink=True)


def test_a_file_of_eight_bits_reaches_its_goal_with_less_than_the_whole_perturbation() -> None:
    model, image = reached(0.01)
    image, model = (image * 255).round().float() / 255, model.float()
    whole = perturb(model, image, solvers.LpBall(2, 2.0), steps=1, shrink=False, quantize=True)
    drawn_back = perturb(model, image, solvers.LpBall(2, 2.0), steps=1, quantize=True)
    for result in (whole, drawn_back):
        assert result.success.all()
        assert set(result.verdict) == {"kept"}  # type: ignore[attr-defined]
        assert torch.equal(result.adversarial, (result.adversarial * 255).round() / 255)
    assert (drawn_back.delta.flatten(1).norm(dim=1) < 0.5 * whole.delta.flatten(1).norm(dim=1)).all()


def test_where_rounding_undoes_a_perturbation_for_good_the_whole_one_is_drawn_back_on_the_grid() -> None:
    model, image = reached(0.01)
    image, model = (image * 255).round().float() / 255, model.float()
    result = perturb(model, image, solvers.LpBall(2, 2.0), steps=1)
    lost = (result.adversarial * 255).round() / 255
    assert not bool((model(lost).argmax(dim=1) == 1).all())
    quantized = ssimpert.quantize(model, image, result, rounds=0)
    assert quantized.success.all()
    assert (quantized.shrink_share < 1).all()
