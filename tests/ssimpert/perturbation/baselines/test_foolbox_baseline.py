"""foolbox's attacks against closed forms of a linear classifier, matched budgets, and a shipped photo."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

import solvers
import ssimpert
from ssimpert.errors import InputError
from ssimpert.linearization.margins import Membership
from ssimpert.models import Classifier
from ssimpert.perturbation import PerturbResult, foolbox_baseline, perturb
from ssimpert.perturbation.baselines import foolbox_import

HAS_FOOLBOX = find_spec("foolbox") is not None
pytestmark = pytest.mark.skipif(not HAS_FOOLBOX, reason="foolbox is missing: pip install 'ssimpert[baselines]'")

SHAPE = (3, 12, 12)
ATTACKS = ("l2-pgd", "linf-pgd", "ddn", "fmn")


class Linear(torch.nn.Module):
    """``W x + b``, whose margins and least norms are known. The offsets make class 0 win on ``grey`` by ``lead``."""

    def __init__(self, classes: int = 2, lead: float = 0.3, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        weight = torch.randn(classes, *SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        self.weight = torch.nn.Parameter((weight / weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)).to(dtype))
        with torch.no_grad():
            middle = (self.weight * 0.5).flatten(1).sum(dim=1)
            self.offset = -middle - lead * torch.arange(classes, dtype=dtype)
        self.calls = 0
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        # Image by image: a product of matrices may round an image differently in a larger batch, and FMN's steps turn
        # on which side of the border an image is.
        return torch.stack([self.weight.flatten(1) @ image.flatten() for image in images]) + self.offset

    def apart(self, first: Tensor, second: int) -> Tensor:
        return (self.weight[first] - self.weight[second]).detach().flatten(1)


def grey(count: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    noise = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return (0.45 + 0.1 * noise).to(dtype)


def least_norm(model: Linear, image: Tensor) -> Tensor:
    """min over j of ``(f_y - f_j)/|w_y - w_j|``, as no pixel reaches the box."""
    with torch.no_grad():
        logits = model(image)
    own = logits.argmax(dim=1)
    others = []
    for j in range(logits.shape[1]):
        distance = (logits.gather(1, own[:, None])[:, 0] - logits[:, j]) / model.apart(own, j).norm(dim=1)
        others.append(torch.where(own == j, torch.inf, distance))
    return torch.stack(others).amin(dim=0)


def norms(result: PerturbResult) -> Tensor:
    return result.delta.double().flatten(1).norm(dim=1)


def skimage_ssim(clean: Tensor, changed: Tensor) -> float:
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    first, second = clean.double().numpy(), changed.double().numpy()
    return float(structural_similarity(first, second, channel_axis=0, **options))


# -- against closed forms ----------------------------------------------------------------------------------


# With more than two classes the cross-entropy, which ddn ascends, pulls towards all of them: not the shortest way out.
@pytest.mark.parametrize(("attack", "classes", "excess"), [("ddn", 2, 0.05), ("ddn", 4, 0.15), ("fmn", 4, 0.05)])
def test_minimal_norms_come_close_and_never_below(attack: Any, classes: int, excess: float) -> None:
    model, image = Linear(classes=classes), grey(3)
    result = foolbox_baseline(model, image, attack)
    assert result.success.all()
    ratio = norms(result) / least_norm(model, image)
    assert (ratio >= 1 - 1e-12).all(), ratio
    assert (ratio <= 1 + excess).all(), ratio
    assert result.constraint is None
    assert result.violation.isnan().all()


@pytest.mark.parametrize("attack", ["ddn", "fmn"])
def test_targeted_minimal_norms_come_within_five_percent(attack: Any) -> None:
    model, image = Linear(classes=2), grey(2)
    result = foolbox_baseline(model, image, attack, margin=ssimpert.Targeted(1))
    assert result.label_after.tolist() == [1, 1]
    ratio = norms(result) / least_norm(model, image)
    assert ((ratio >= 1 - 1e-12) & (ratio <= 1.05)).all(), ratio


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_target_is_reached_that_is_not_the_nearest_class(attack: Any) -> None:
    model, image = Linear(classes=4), grey(2)
    given = {"radius": 2.0 if attack == "l2-pgd" else 0.1} if attack.endswith("pgd") else {}
    result = foolbox_baseline(model, image, attack, margin=ssimpert.Targeted(3), **given)
    assert result.label_after.tolist() == [3, 3]
    assert result.success.all()


@pytest.mark.parametrize(("attack", "radius", "dual"), [("l2-pgd", 0.6, 2), ("linf-pgd", 0.02, 1)])
@pytest.mark.parametrize("steps", [4, 40])
def test_pgd_gains_the_radius_times_the_dual_norm(attack: Any, radius: float, dual: int, steps: int) -> None:
    model, image = Linear(), grey(2)
    result = foolbox_baseline(model, image, attack, radius=radius, steps=steps)
    gain = radius * model.apart(torch.tensor([1]), 0).norm(p=dual, dim=1)
    torch.testing.assert_close(result.margin_after, result.margin_before + gain, rtol=1e-9, atol=0)
    assert result.violation.max() <= 1e-12
    assert result.stationarity_gap.abs().max() < 1e-9
    assert result.steps.tolist() == [steps] * 2


@pytest.mark.parametrize(("attack", "p"), [("l2-pgd", 2), ("linf-pgd", torch.inf)])
def test_every_image_keeps_to_a_radius_of_its_own(attack: Any, p: float) -> None:
    model, image, radius = Linear(), grey(3), torch.tensor([0.01, 0.03, 0.02])
    result = foolbox_baseline(model, image, attack, radius=radius)
    torch.testing.assert_close(result.delta.flatten(1).norm(p=p, dim=1), radius.double(), rtol=1e-7, atol=0)


@pytest.mark.parametrize("attack", ["l2-pgd", "linf-pgd"])
def test_one_radius_for_all_is_what_foolbox_does_itself(attack: str, model: Classifier) -> None:
    foolbox_import.require_foolbox()
    import foolbox

    image = ssimpert.load_image("chelsea", size=64)
    kind = foolbox.attacks.L2PGD if attack == "l2-pgd" else foolbox.attacks.LinfPGD
    theirs = kind(steps=3, rel_stepsize=2.5 / 3, random_start=False)
    watched = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    expected, _, _ = theirs(watched, image, model.predict(image), epsilons=0.02)
    result = foolbox_baseline(model, image, attack, steps=3, radius=0.02)  # type: ignore[arg-type]
    # Where a pixel's gradient is all but zero, rounding decides its sign.
    close = (result.adversarial - expected).abs() < 1e-6
    assert close.float().mean() > (0.999 if attack == "l2-pgd" else 0.99)


def test_the_box_is_kept_where_it_binds() -> None:
    model, image = Linear(lead=3.0), grey().round()
    for attack in ATTACKS:
        radius = 4.0 if attack.endswith("pgd") else None
        result = foolbox_baseline(model, image, attack, radius=radius, steps=10)  # type: ignore[arg-type]
        assert result.adversarial.min() >= 0
        assert result.adversarial.max() <= 1


# -- matched budgets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("attack", ["l2-pgd", "linf-pgd"])
def test_a_matched_norm_is_met(attack: Any, dtype: torch.dtype) -> None:
    model, image = Linear(), grey(3, dtype)
    other = perturb(model, image, solvers.GlobalSSIM(0.05), steps=3)
    result = foolbox_baseline(model, image, attack, match="l2", matched_to=other, steps=5)
    tolerance = 1e-8 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(norms(result), norms(other), rtol=tolerance, atol=0)
    assert result.violation.max() < 1e-6
    assert result.messages == ("",) * 3


@pytest.mark.parametrize("attack", ["l2-pgd", "linf-pgd"])
def test_a_matched_ssim_is_met(attack: Any) -> None:
    model, image = Linear(), grey(3, torch.float32)
    other = perturb(model, image, solvers.GlobalSSIM(0.05), steps=3)
    result = foolbox_baseline(model, image, attack, match="ssim", matched_to=other, steps=5)
    for k in range(3):
        wanted = skimage_ssim(image[k], other.adversarial[k])
        assert wanted < 1 - 1e-3
        assert skimage_ssim(image[k], result.adversarial[k]) == pytest.approx(wanted, abs=1e-5)
    assert result.constraint is None


@pytest.mark.parametrize("attack", ["ddn", "fmn"])
def test_least_norms_are_matched_along_their_line(attack: Any) -> None:
    model, image = Linear(), grey(3)
    other = perturb(model, image, solvers.GlobalSSIM(0.05), steps=3)
    plain = foolbox_baseline(model, image, attack, steps=60)
    result = foolbox_baseline(model, image, attack, match="l2", matched_to=other, steps=60)
    found = plain.success
    assert bool(found.any())
    assert result.messages == plain.messages
    torch.testing.assert_close(norms(result)[found], norms(other)[found], rtol=1e-6, atol=0)
    along = (result.delta * plain.delta).flatten(1).sum(dim=1)
    torch.testing.assert_close(along, norms(result) * norms(plain), rtol=1e-6, atol=0)
    assert result.constraint is not None
    similar = foolbox_baseline(model, image, attack, match="ssim", matched_to=other, steps=60)
    torch.testing.assert_close(similar.ssim[found], other.ssim[found], rtol=0, atol=1e-5)


def test_a_norm_that_the_pixels_do_not_allow_is_approached_and_said() -> None:
    model, image = Linear(), grey()
    other = perturb(model, image, solvers.LpBall(2, 0.5), steps=1)
    # Every pixel at the end of the range that is further away: no other image is as far.
    far = (image < 0.5).to(image.dtype)
    other = PerturbResult(**(vars(other) | {"adversarial": far, "delta": far - image}))
    result = foolbox_baseline(model, image, "l2-pgd", match="l2", matched_to=other, steps=3)
    assert norms(result) < norms(other)
    assert ((result.adversarial == 0) | (result.adversarial == 1)).all()
    assert "pixel range" in result.messages[0]


def test_a_perturbation_that_is_zero_is_matched_by_none() -> None:
    model, image = Linear(), grey()
    other = perturb(model, image, solvers.LpBall(2, 0.1), label=torch.tensor([1]))
    assert norms(other) == 0
    for match in ("l2", "ssim"):
        result = foolbox_baseline(model, image, "l2-pgd", match=match, matched_to=other)  # type: ignore[arg-type]
        assert torch.equal(result.adversarial, image)


def test_goal_and_labels_are_those_of_the_perturbation_matched() -> None:
    model, image = Linear(classes=3), grey(2)
    label = torch.tensor([0, 1])
    other = perturb(model, image, solvers.LpBall(2, 0.3), margin=ssimpert.Targeted(2), label=label)
    result = foolbox_baseline(model, image, "l2-pgd", match="l2", matched_to=other)
    assert result.margin == ssimpert.Targeted(2)
    assert torch.equal(result.label, label)
    assert result.settings["matched_to"] == other.name


# -- what is recorded --------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("count", [1, 17])
def test_gradient_calls_are_counted(attack: Any, count: int) -> None:
    model, calls = Linear(), []
    model.weight.requires_grad_(False)

    def watched(images: Tensor) -> Tensor:
        logits = model(images.double())
        if logits.requires_grad:
            logits.register_hook(lambda _gradient: calls.append(len(images)))
        return logits

    radius = 0.3 if attack.endswith("pgd") else None
    result = foolbox_baseline(watched, grey(count), attack, radius=radius, steps=7)
    assert result.settings["gradient_calls"] == 7
    assert sum(calls) >= 7 * count
    assert sum(calls) <= (7 + 2) * count  # measuring takes a gradient at the clean and at the returned image


@pytest.mark.parametrize("attack", ATTACKS)
def test_success_is_a_fresh_prediction_and_failures_are_returned(attack: Any) -> None:
    model, image = Linear(lead=0.3), grey(4)
    radius = 0.2 if attack == "l2-pgd" else 0.01 if attack == "linf-pgd" else None
    result = foolbox_baseline(model, image, attack, radius=radius, steps=3)
    predicted = model(result.adversarial).argmax(dim=1)
    assert torch.equal(result.success, predicted != result.label)
    assert torch.equal(result.label_after, predicted)


@pytest.mark.parametrize("attack", ["ddn", "fmn"])
def test_without_an_adversarial_the_clean_image_comes_back_and_says_so(attack: Any) -> None:
    model, image = Linear(lead=1000.0), grey(2)
    result = foolbox_baseline(model, image, attack, steps=3)
    assert not result.success.any()
    assert torch.equal(result.adversarial, image)
    assert result.messages == ("no adversarial found",) * 2


def test_pgd_that_fails_returns_its_last_iterate() -> None:
    result = foolbox_baseline(Linear(lead=5.0), grey(), "l2-pgd", radius=0.1)
    assert not result.success.any()
    torch.testing.assert_close(norms(result), torch.tensor([0.1], dtype=torch.float64))


def test_pixels_that_are_not_finite_are_taken_back() -> None:
    model = Linear()

    def broken(images: Tensor) -> Tensor:
        return model(images.double()) + (images - images.detach()).flatten(1).sum(dim=1, keepdim=True) * torch.nan

    def once(images: Tensor) -> Tensor:  # sound while it is measured, broken while gradients are taken
        return broken(images) if images.requires_grad else model(images.double())

    image = grey()
    result = foolbox_baseline(once, image, "l2-pgd", radius=0.1, steps=2)
    assert torch.equal(result.adversarial, image)
    assert "not finite" in result.messages[0]


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_batch_equals_its_images_one_by_one(attack: Any) -> None:
    model, image = Linear(classes=3), grey(18)
    radius = torch.linspace(0.01, 0.3, 18, dtype=torch.float64)
    given = {"radius": radius} if attack.endswith("pgd") else {}
    together = foolbox_baseline(model, image, attack, steps=20, **given)
    for k in (0, 9, 17):
        alone = {name: value[k : k + 1] for name, value in given.items()}
        single = foolbox_baseline(model, image[k : k + 1], attack, steps=20, **alone)
        torch.testing.assert_close(together.adversarial[k], single.adversarial[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("attack", ATTACKS)
def test_same_call_same_result_and_the_callers_generator_and_model_are_left_alone(attack: Any) -> None:
    model, image = Linear(), grey(2)
    before, state = image.clone(), torch.get_rng_state()
    given = {"radius": 0.1} if attack.endswith("pgd") else {}
    first, second = (foolbox_baseline(model, image, attack, steps=9, **given) for _ in range(2))
    assert torch.equal(first.adversarial, second.adversarial)
    assert torch.equal(image, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.weight.grad is None
    assert not model.training


def test_float32_images_of_a_float32_model_stay_float32() -> None:
    for attack in ATTACKS:
        given = {"radius": 0.3} if attack.endswith("pgd") else {}
        model, image = Linear(dtype=torch.float32), grey(2, torch.float32)
        result = foolbox_baseline(model, image, attack, **given)  # type: ignore[arg-type]
        assert result.adversarial.dtype == torch.float32
        # float64 images of a float32 model are computed in float32, and returned in float64.
        wide = foolbox_baseline(model, image.double(), attack, **given)  # type: ignore[arg-type]
        assert wide.adversarial.dtype == torch.float64
        if attack != "fmn":  # which lands on the border itself: rounding decides whether that is beyond
            torch.testing.assert_close(norms(wide), norms(result), rtol=1e-3, atol=0)


# -- what is refused ---------------------------------------------------------------------------------------


def matched(image: Tensor) -> PerturbResult:
    return perturb(Linear(), image, solvers.LpBall(2, 0.1), steps=1)


@pytest.mark.parametrize(
    ("attack", "options", "message"),
    [
        ("l2-pdg", {}, "unknown attack 'l2-pdg'; did you mean .*l2-pgd"),
        (None, {}, "unknown attack 'None'"),
        ("l2-pgd", {}, "l2-pgd needs radius, a positive number, or match"),
        ("l2-pgd", {"radius": 0.0}, "radius must be positive and finite, got 0.0"),
        ("l2-pgd", {"radius": float("nan")}, "radius must be positive and finite, got nan"),
        ("l2-pgd", {"radius": "1"}, "radius must be a positive number or one per image, got '1'"),
        ("l2-pgd", {"radius": torch.tensor([1.0, 2.0, 3.0])}, r"one number or one per image \(2,\), got \(3,\)"),
        ("l2-pgd", {"radius": torch.tensor([1.0, -2.0])}, "got -2.0 for image 1"),
        ("ddn", {"radius": 1.0}, "ddn finds the least norm and takes no radius, got 1.0; .*l2-pgd"),
        ("ddn", {"steps": 0}, "steps must be an integer of at least 1, got 0"),
        ("ddn", {"steps": True}, "steps must be an integer of at least 1, got True"),
        ("ddn", {"seed": -1}, "seed must be an integer from 0"),
        ("l2-pgd", {"match": "l2"}, "match and matched_to go together: got match='l2' without"),
        ("l2-pgd", {"matched_to": matched(grey(2))}, "match and matched_to go together: got match=None with"),
        ("l2-pgd", {"match": "linf", "matched_to": matched(grey(2))}, "match must be one of l2, ssim .*got 'linf'"),
        ("l2-pgd", {"match": "l2", "matched_to": 3}, "matched_to must be a PerturbResult, got int"),
        ("l2-pgd", {"match": "l2", "matched_to": matched(grey(2)), "radius": 1.0}, "exclude each other"),
        ("l2-pgd", {"match": "l2", "matched_to": matched(grey(1))}, r"matched_to has images of shape \(1, 3, 12, 12\)"),
        ("l2-pgd", {"match": "l2", "matched_to": matched(grey(2).flip(0))}, "made from other images: image 0 differs"),
        ("ddn", {"margin": Membership((0,))}, r"Untargeted\(\) or ssimpert.Targeted\(class\), got Membership"),
        ("ddn", {"margin": ssimpert.Targeted(5)}, "target class 5 does not exist"),
        ("ddn", {"label": torch.tensor([0])}, "label must be a long tensor"),
    ],
)
def test_what_can_not_be_used_is_named_before_any_step(attack: Any, options: dict[str, Any], message: str) -> None:
    model = Linear()
    with pytest.raises(InputError, match=message):
        foolbox_baseline(model, grey(2), attack, **options)
    assert model.calls <= 1  # the labels


def test_without_foolbox_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foolbox_import, "find_spec", lambda _name: None)
    model = Linear()
    with pytest.raises(InputError, match=r"pip install 'ssimpert\[baselines\]'"):
        foolbox_baseline(model, grey(), "ddn")
    assert model.calls == 0


def test_foolbox_is_loaded_by_the_first_call_only_and_needs_no_git(tmp_path: Any) -> None:
    code = (
        "import os, sys, ssimpert.perturbation as p; assert 'foolbox' not in sys.modules\n"
        "from ssimpert.perturbation.baselines.foolbox_import import require_foolbox; require_foolbox()\n"
        "assert 'foolbox' in sys.modules and 'GIT_PYTHON_REFRESH' not in os.environ"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": str(tmp_path), "PYTHONPATH": "."})


# -- on a real photo ---------------------------------------------------------------------------------------


def test_baselines_of_a_photo_change_the_decision_and_match(model: Classifier) -> None:
    image = ssimpert.load_image("chelsea", size=192)
    other = perturb(model, image, solvers.GlobalSSIM(0.005), recentred=True)
    for match in ("l2", "ssim"):
        result = foolbox_baseline(model, image, "l2-pgd", match=match, matched_to=other, steps=4)  # type: ignore[arg-type]
        assert result.success.all()
        assert model.predict(result.adversarial) == result.label_after
        if match == "l2":
            torch.testing.assert_close(norms(result), norms(other), rtol=1e-5, atol=0)
        else:
            wanted = skimage_ssim(image[0], other.adversarial[0])
            assert skimage_ssim(image[0], result.adversarial[0]) == pytest.approx(wanted, abs=1e-5)
    least = foolbox_baseline(model, image, "fmn", steps=10)
    assert least.success.all()
    assert norms(least) < 0.1 * norms(other)
