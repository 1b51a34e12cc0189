"""The perceptual ball against its formula and against the released procedure, both written out anew here."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ssimpert
from ssimpert import perceptual_ball_lbfgs
from ssimpert.analysis import compare
from ssimpert.errors import InputError
from ssimpert.linearization import Features, Membership
from ssimpert.models import Classifier
from ssimpert.perturbation import l2_control
from ssimpert.perturbation.perceptual_ball.objective import ball_objective

LAYERS = ("features.16", "features.19", "features.22", "features.25", "features.29", "features.32")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def small(classes: int = 5, bias: int | None = None) -> Classifier:
    """A small network with a normalisation; ``bias``: the class that every image falls into."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.SiLU(), nn.Conv2d(6, 8, 3, stride=2), nn.SiLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, classes),
        )  # fmt: skip
    with torch.no_grad():
        network[-1].weight.mul_(12)
        if bias is not None:
            network[-1].bias[bias] += 4
    labels = [str(k) for k in range(classes)]
    return Classifier(network, name="small", input_size=16, labels=labels, mean=MEAN, std=STD).double()


@pytest.fixture(scope="module")
def crops() -> Tensor:
    """Three crops of a photo, (3, 3, 16, 16) float64; the last one has pixels at 0 and 1."""
    photo = ssimpert.load_image("chelsea", size=64).double()
    crops = torch.cat([photo[..., k : k + 16, k + 8 : k + 24] for k in (0, 20, 40)])
    crops[2] = ((crops[2] - crops[2].mean()) * 3 + 0.5).clamp(0, 1)
    return crops


BALL: dict[str, Any] = {"layers": ("1", "3"), "gamma": 1.0}


# -- the objective -----------------------------------------------------------------------------------------


def restated(
    network: nn.Module,
    layers: tuple[str, ...],
    x: Tensor,
    moved: Tensor,
    label: int,
    targets: tuple[int, ...] | None = None,
    *,
    gamma: float = 1e4,
) -> Tensor:
    """The paper's objective of one normalised image, with hooks of its own."""
    outputs: list[list[Tensor]] = []
    for image in (x, moved):
        seen: list[Tensor] = []
        handles = [
            network.get_submodule(name).register_forward_hook(lambda module, args, out, seen=seen: seen.append(out))
            for name in layers
        ]
        logits = network(image)[0]
        for handle in handles:
            handle.remove()
        outputs.append(seen)
    value = gamma * sum(((a - b) ** 2).mean() for a, b in zip(*outputs, strict=True)) + ((moved - x) ** 2).mean()
    if targets is None:
        others = [logits[j] for j in range(len(logits)) if j != label]
        score = logits[label] - torch.stack(others).max()
    else:
        score = torch.stack([logits[t] for t in targets]).max()
    return value + (score + 2) ** 2


@pytest.fixture(scope="module")
def vgg() -> Classifier:
    return ssimpert.load_model("torchvision:vgg19_bn", weights="random").double()


@pytest.mark.parametrize(("label", "targets"), [(0, None), (999, None), (7, (3,)), (7, (0, 7, 41))])
def test_value_and_gradient_on_vgg_are_the_formulas(
    vgg: Classifier, label: int, targets: tuple[int, ...] | None
) -> None:
    photo = ssimpert.load_image("coffee", size=32).double()
    x = (photo - vgg.mean) / vgg.std
    moved = x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    features = ssimpert.deep_features(vgg, None, "mse")
    assert features.layers == LAYERS
    assert all(isinstance(vgg.layer(name), nn.ReLU) for name in LAYERS)
    objective = ball_objective(Features(vgg.network, LAYERS, "mse"), x, torch.tensor([label]), targets=targets)
    gradient, terms = objective.gradient(moved, torch.tensor([0]))
    leaf = moved.clone().requires_grad_()
    expected = restated(vgg.network, LAYERS, x, leaf, label, targets)
    (expected_gradient,) = torch.autograd.grad(expected, leaf)
    assert float(terms.feature) > 0.01 * float(expected.detach())  # every term counts in what is compared
    assert float(terms.margin) > 0.01 * float(expected.detach())
    assert float(terms.total()) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert float((gradient - expected_gradient).norm()) < 1e-6 * float(expected_gradient.norm())


def test_hinge_is_the_square_above_v_and_nothing_below() -> None:
    model, x = small(), torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    logits, label = model.network(x)[0], torch.tensor([0])
    score = float(logits[0] - logits[1:].max())
    for v in (score - 1.5, score + 1.5):
        values = {
            term: ball_objective(Features(model.network, ()), x, label, v=v, margin_term=term)  # type: ignore[arg-type]
            .value(x, torch.tensor([0]))
            .margin.item()
            for term in ("equality", "hinge")
        }
        assert values["equality"] == pytest.approx(2.25)
        assert values["hinge"] == pytest.approx(2.25 if v < score else 0)


def test_the_results_terms_are_the_formula_at_the_image_returned(crops: Tensor) -> None:
    model = small()
    result = perceptual_ball_lbfgs(model, crops, iterations=5, **BALL)
    for k, row in enumerate(result.rows()):
        x, moved = ((image[k : k + 1] - model.mean) / model.std for image in (crops, result.adversarial))
        gamma, label = float(result.gamma[k]), int(result.label[k])
        value = float(restated(model.network, ("1", "3"), x, moved, label, gamma=gamma))
        assert row["objective_after"] == pytest.approx(value)
        assert row["feature_term"] + row["pixel_term"] + row["margin_term"] == pytest.approx(value)
        assert row["feature_term"] == pytest.approx(gamma * row["feature_distance"] ** 2)
        assert row["objective_before"] == pytest.approx(float(restated(model.network, (), x, x, label)))
        assert row["objective_after"] < row["objective_before"]


# -- the released procedure --------------------------------------------------------------------------------


def released(model: Classifier, image: Tensor, iterations: int, *, gamma: float, clip: bool) -> Tensor:
    """One step of torch's L-BFGS on the formula, with the released closure; pixels of [0, 1]."""
    x = (image - model.mean) / model.std
    lower, upper = (((edge - model.mean) / model.std).expand_as(x) for edge in (0, 1))
    label = int(model.network(x).argmax())
    moved = x.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([moved], max_iter=iterations)

    def closure() -> Tensor:
        if clip:
            moved.data[moved.data < lower] = lower[moved.data < lower]
            moved.data[moved.data > upper] = lower[moved.data > upper]
        optimiser.zero_grad()
        value = restated(model.network, ("1", "3"), x, moved, label, gamma=gamma)
        value.backward()
        return value

    optimiser.step(closure)  # type: ignore[arg-type]
    return moved.detach() * model.std + model.mean


@pytest.mark.parametrize("iterations", [1, 3, 12])
@pytest.mark.parametrize("clip", [False, True])
def test_faithful_is_the_released_procedure(crops: Tensor, iterations: int, clip: bool) -> None:
    model = small(bias=2)
    result = perceptual_ball_lbfgs(
        model, crops, iterations=iterations, faithful=True, box=True if clip else None, **BALL
    )
    for k in range(3):
        expected = released(model, crops[k : k + 1], iterations, gamma=BALL["gamma"], clip=clip)
        torch.testing.assert_close(result.adversarial[k : k + 1], expected, rtol=0, atol=1e-6)
    if not clip and iterations == 12:
        assert result.adversarial.min() < 0 or result.adversarial.max() > 1


def test_released_on_pixels_wider_than_the_network(crops: Tensor) -> None:
    network = small(bias=2).network.float()
    result = perceptual_ball_lbfgs(network, crops.double(), iterations=2, faithful=True, **BALL)
    assert result.adversarial.dtype == torch.float64
    assert bool(result.adversarial.isfinite().all())


def test_released_clipping_writes_the_lower_bound_over_what_is_too_bright(crops: Tensor) -> None:
    model = small(bias=2)
    bright = crops[2:]
    wrong = perceptual_ball_lbfgs(model, bright, iterations=12, faithful=True, box=True, **BALL)
    right = perceptual_ball_lbfgs(model, bright, iterations=12, **BALL)
    dark = (bright > 0.99) & (wrong.adversarial < 0.05)
    assert bool(dark.any())
    assert not bool((dark & (right.adversarial < 0.05)).any())


@pytest.mark.parametrize("own", [0, 4])
def test_the_first_and_the_last_class_fail_as_released_and_work_otherwise(crops: Tensor, own: int) -> None:
    model = small(bias=own)
    assert model.predict(crops).tolist() == [own] * 3
    with pytest.raises(InputError, match=f"image 0 is of class {own}: the released code fails"):
        perceptual_ball_lbfgs(model, crops, faithful=True, **BALL)
    result = perceptual_ball_lbfgs(model, crops, iterations=40, **BALL)
    assert result.success.all()


# -- the box, batches, weights -----------------------------------------------------------------------------


def test_every_image_returned_lies_in_the_box_and_success_is_a_fresh_prediction(crops: Tensor) -> None:
    model = small()
    result = perceptual_ball_lbfgs(model, crops, iterations=30, **BALL)
    assert result.adversarial.min() == 0
    assert result.adversarial.max() == 1
    assert torch.equal(result.success, model.predict(result.adversarial) != model.predict(crops))
    assert result.success.all()
    free = perceptual_ball_lbfgs(model, crops, iterations=30, box=False, **BALL)
    assert free.adversarial.min() < 0 or free.adversarial.max() > 1


def test_a_batch_gives_what_its_images_give_alone(crops: Tensor) -> None:
    model = small()
    options = BALL | {"gamma": 300.0, "iterations": 15}
    before = crops.clone()
    together = perceptual_ball_lbfgs(model, crops, **options)
    assert torch.equal(crops, before)
    for k in range(3):
        alone = perceptual_ball_lbfgs(model, crops[k : k + 1], **options)
        torch.testing.assert_close(together.adversarial[k], alone.adversarial[0], rtol=0, atol=1e-7)
        assert together.steps[k] == alone.steps[0]
        own = [row["step"] for row in together.history if row["image"] == k]
        assert own == list(range(1, int(together.steps[k]) + 1))


def test_gamma_is_lowered_only_where_the_decision_stands(crops: Tensor) -> None:
    model, gamma = small(), 1e4
    stands = perceptual_ball_lbfgs(model, crops, layers=("1", "3"), gamma=gamma, lower_gamma=False)
    assert not stands.success.any()
    assert stands.gamma.tolist() == [gamma] * 3
    lowered = perceptual_ball_lbfgs(model, crops, layers=("1", "3"), gamma=gamma)
    assert lowered.success.all()
    assert (lowered.gamma < gamma / 2).all()
    # The linear model aims at a margin of 1, half of the way past the border, and comes near it.
    assert ((lowered.margin_after > 0.5) & (lowered.margin_after < 1.5)).all()
    enough = perceptual_ball_lbfgs(model, crops, layers=("1", "3"), gamma=float(lowered.gamma.min()))
    assert enough.success.all()
    assert enough.gamma.tolist() == [float(lowered.gamma.min())] * 3


def test_a_margin_that_no_weight_reaches_is_said(crops: Tensor) -> None:
    result = perceptual_ball_lbfgs(small(), crops[:1], v=1.0, **BALL)
    assert not result.success.any()
    assert "a smaller gamma would not change it" in result.messages[0]


class Wavy(nn.Module):
    """Logits that rise and fall with the mean, so that full steps overshoot."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=(1, 2, 3)) - 0.5
        score = 3 + 10 * mean + torch.sin(30 * mean)
        return torch.stack([score, 0 * score], dim=1)


def test_the_iterate_of_least_objective_is_returned() -> None:
    image = torch.full((1, 3, 12, 12), 0.5, dtype=torch.float64)
    options: dict[str, Any] = {"layers": (), "gamma": 0.0, "s": 0.0, "lower_gamma": False, "iterations": 4}
    courses = {}
    for line_search in ("none", "backtracking"):
        result = perceptual_ball_lbfgs(Wavy().eval(), image, line_search=line_search, **options)  # type: ignore[arg-type]
        courses[line_search] = [row["objective"] for row in result.history]  # type: ignore[typeddict-item]
        assert float(result.objective_after) == pytest.approx(min(courses[line_search]))
    assert courses["none"][-1] > 1.1 * min(courses["none"])
    assert courses["backtracking"] == sorted(courses["backtracking"], reverse=True)


def test_targets_are_driven_to_v_and_success_is_to_leave_or_enter_them(crops: Tensor) -> None:
    model = small(bias=1)
    assert model.predict(crops).tolist() == [1, 1, 1]
    left = perceptual_ball_lbfgs(model, crops, targets=(1, 3), iterations=60, layers=("1",), gamma=0.01, s=0.01)
    highest = model(left.adversarial)[:, [1, 3]].amax(dim=1)
    torch.testing.assert_close(highest, torch.full_like(highest, -2), rtol=0, atol=0.5)
    assert all(label not in (1, 3) for label in left.label_after.tolist())
    assert left.success.all()
    entered = perceptual_ball_lbfgs(
        model, crops, targets=(4,), v=15.0, iterations=60, layers=("1",), gamma=0.01, s=0.01
    )
    assert torch.equal(entered.success, entered.label_after == 4)
    assert entered.success.any()


def test_a_label_given_is_the_class_driven_down(crops: Tensor) -> None:
    model = small()
    label = model(crops).topk(2, dim=1).indices[:, 1]
    result = perceptual_ball_lbfgs(model, crops, label=label, iterations=5, **BALL)
    assert result.success.all()  # the class is not the decision from the start
    assert torch.equal(result.label, label)


def test_membership_of_one_class_is_the_targeted_or_the_untargeted_margin() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 4.5]])
    margin = Membership((0,))(logits, torch.tensor([1, 0]))
    assert margin.tolist() == [1.0 - 3.0, 4.5 - 5.0]
    assert Membership((0, 2))(logits, torch.tensor([1, 0])).tolist() == [2.0 - 3.0, 0.0 - 5.0]


def test_the_result_goes_where_any_perturbation_goes(crops: Tensor) -> None:
    model = small()
    result = perceptual_ball_lbfgs(model, crops, iterations=5, **BALL)
    assert result.constraint is None
    assert result.violation.isnan().all()
    control = l2_control(model, crops, result)
    torch.testing.assert_close(
        control.delta.flatten(1).norm(dim=1), result.delta.flatten(1).norm(dim=1), rtol=0.05, atol=0
    )
    assert compare(model, crops, result, layer="3").perturbation == "perceptual ball"


def test_the_observer_sees_every_iteration(crops: Tensor) -> None:
    seen: list[int] = []
    result = perceptual_ball_lbfgs(
        small(), crops[:1], iterations=4, lower_gamma=False, observer=lambda s: seen.append(int(s.steps)), **BALL
    )
    assert seen == [1, 2, 3, 4]
    assert len(result.history) == 4


def test_efficientnet_changes_its_decision_about_a_photo(model: Classifier) -> None:
    image = ssimpert.load_image("rocket", size=128)
    result = perceptual_ball_lbfgs(model, image, iterations=8)
    assert result.success.all()
    assert result.adversarial.dtype == torch.float32
    assert 0 <= result.adversarial.min() <= result.adversarial.max() <= 1


# -- endings and bad input ---------------------------------------------------------------------------------


class Breaks(nn.Module):
    """Logits that are NaN once the first channel's mean has moved by more than ``reach``."""

    def __init__(self, reach: float) -> None:
        super().__init__()
        self.layer, self.reach = nn.Identity(), reach
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        mean = self.layer(images)[:, 0].mean(dim=(1, 2))
        logits = torch.stack([40 * (mean - 0.5) ** 2, 5 + 20 * (mean - 0.5)], dim=1)
        return torch.where((mean - 0.5).abs()[:, None] > self.reach, torch.nan, logits)


def test_nan_ends_an_image_at_its_best_iterate() -> None:
    image = torch.full((1, 3, 12, 12), 0.5, dtype=torch.float64)
    options: dict[str, Any] = {"layers": ("layer",), "gamma": 0.0, "s": 0.0, "lower_gamma": False}
    result = perceptual_ball_lbfgs(Breaks(0.05), image, line_search="none", **options)
    assert "became NaN or infinite" in result.messages[0]
    assert bool(result.adversarial.isfinite().all())
    assert float(result.delta.norm()) > 0
    assert float(result.objective_after) == pytest.approx(min(row["objective"] for row in result.history))  # type: ignore[typeddict-item]
    with pytest.raises(InputError, match="objective at image 0 is nan"):
        perceptual_ball_lbfgs(Breaks(-1), image, **options)


class Saturated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        score = 0 * self.layer(images).mean(dim=(1, 2, 3))
        return torch.stack([score, score + 1], dim=1)


def test_a_zero_gradient_ends_an_image_with_a_reason(crops: Tensor) -> None:
    result = perceptual_ball_lbfgs(Saturated(), crops, layers=("layer",))
    assert all("saturated" in message for message in result.messages)
    assert not result.delta.any()
    label = torch.zeros(3, dtype=torch.long)
    met = perceptual_ball_lbfgs(Saturated(), crops, layers=("layer",), label=label, v=-0.5, margin_term="hinge")
    assert all("margin wanted is there already" in message for message in met.messages)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": -1.0}, "gamma must be at least 0, got -1.0"),
        ({"s": float("nan")}, "s must be a finite number, got nan"),
        ({"s": -2}, "s must be at least 0, got -2"),
        ({"v": float("inf")}, "v must be a finite number, got inf"),
        ({"iterations": 0}, "iterations must be an integer of at least 1, got 0"),
        ({"history_size": 0}, "history_size must be an integer of at least 1, got 0"),
        ({"margin_term": "hing"}, "unknown margin term 'hing'; did you mean hinge"),
        ({"line_search": "wolfe"}, "unknown line search 'wolfe'"),
        ({"targets": ()}, "targets must be a tuple of one class or more"),
        ({"targets": (5,)}, "target class 5 does not exist; the model's classes are 0 to 4"),
        ({"targets": (1, 1)}, "name a class twice"),
        ({"targets": (0, 1, 2, 3, 4)}, "no decision lies outside"),
        ({"targets": (1,), "label": torch.zeros(3, dtype=torch.long)}, "label and targets exclude each other"),
        ({"label": torch.tensor([0, 1, 5])}, r"label \[0, 1, 5\] is out of range"),
        ({"layers": ("33",)}, "unknown layer '33'"),
        ({"faithful": True, "margin_term": "hinge"}, "has no margin_term='hinge'"),
        ({"faithful": True, "line_search": "backtracking"}, "has no line_search"),
        ({"faithful": True, "lower_gamma": True}, "has no lower_gamma"),
    ],
)
def test_bad_options_are_refused(crops: Tensor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        perceptual_ball_lbfgs(small(), crops, **({"layers": ("1",)} | options))


def test_bad_images_and_models_are_refused(crops: Tensor) -> None:
    with pytest.raises(InputError, match="image pixels reach from"):
        perceptual_ball_lbfgs(small(), crops + 1)
    with pytest.raises(InputError, match="model must be a torch module"):
        perceptual_ball_lbfgs(lambda images: images, crops)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no default layers"):
        perceptual_ball_lbfgs(small().network, crops)
