"""The goal: model, labels and margin travel together. Against the closed forms of a model with one quadratic score."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ssimpert.linearization import LabelWins, Untargeted
from ssimpert.perturbation.goal import Goal
from tests.ssimpert.perturbation.curved_classes import CurvedClasses, fanned
from tests.ssimpert.perturbation.linear_classifier import grey

AXES = 8
SLOPE, CURVATURE, OFFSET = AXES**-0.5, np.linspace(-3, 10, AXES), 0.1
# Coordinates of four images: the clean one, one that the last axis lifts over the border, one that the first axis moves
# away from it, and one on several axes.
COORDINATES = np.zeros((4, AXES))
COORDINATES[1, -1], COORDINATES[2, 0], COORDINATES[3] = 0.2, 0.3, np.linspace(-0.1, 0.15, AXES)
# The logits are (0, s) with s = a'u + c'u^2 - o: 0.2/sqrt(8) + 10 * 0.04 - 0.1 = 0.3707 for the second image.
SCORES = COORDINATES.sum(axis=1) * SLOPE + (COORDINATES**2) @ CURVATURE - OFFSET


def model_and_images() -> tuple[CurvedClasses, Tensor]:
    model = fanned(grey(1), -3, 10, OFFSET, AXES)
    return model, model.image + torch.einsum("bk,kchw->bchw", torch.from_numpy(COORDINATES), model.basis.detach())


def test_a_decision_is_the_margin_of_a_fresh_forward_pass() -> None:
    model, images = model_and_images()
    label = torch.tensor([0, 1, 1, 0])
    decision = Goal(model, label, LabelWins()).decide(images)
    np.testing.assert_allclose(decision.logits, np.stack([np.zeros(4), SCORES], axis=1), atol=1e-12)
    np.testing.assert_allclose(decision.margin, np.where(label == 1, SCORES, -SCORES), atol=1e-12)
    assert np.abs(SCORES).min() > 0.05
    assert SCORES[1] > 0 > SCORES[0]
    assert decision.label.tolist() == (SCORES > 0).astype(int).tolist()
    assert decision.success.tolist() == ((SCORES > 0) == (label == 1).numpy()).tolist()
    assert decision.success.tolist()[:3] == [True, True, False]


def test_a_margin_of_nan_reaches_no_goal() -> None:
    model, images = model_and_images()
    images[1, 0, 0, 0] = torch.nan
    assert Goal(model, torch.ones(4, dtype=torch.long), LabelWins()).decide(images).success.tolist()[:2] == [False] * 2


def test_the_goal_of_some_images_is_theirs_alone() -> None:
    model, image, label = fanned(grey(1), -3, 10, 0.1), grey(3), torch.tensor([0, 1, 0])
    goal = Goal(model, label, LabelWins())
    whole = goal.decide(image)
    chosen = torch.tensor([2, 0])
    assert torch.equal(goal.select(chosen).decide(image[chosen]).margin, whole.margin[chosen])
    assert torch.equal(goal.select(slice(1, 3)).decide(image[1:3]).margin, whole.margin[1:3])


def test_the_linearisation_is_of_the_goals_margin() -> None:
    """``max_j f_j - f_y`` is s for label 0 and -s for label 1.
    The gradient of s is ``sum_k (a + 2 c_k u_k) basis_k``.
    """
    model, images = model_and_images()
    label, sign = torch.tensor([0, 1, 0, 1]), np.array([1, -1, 1, -1])
    linear = Goal(model, label, Untargeted()).linearize(images)
    np.testing.assert_allclose(linear.value, sign * SCORES, atol=1e-12)
    slopes = sign[:, None] * (SLOPE + 2 * CURVATURE * COORDINATES)
    basis = model.basis.detach().numpy().reshape(AXES, -1)
    np.testing.assert_allclose(linear.gradient.flatten(1), slopes @ basis, atol=1e-12)
