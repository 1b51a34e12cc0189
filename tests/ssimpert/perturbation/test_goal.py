"""The goal: model, labels and margin travel together."""

from __future__ import annotations

import torch

from ssimpert.linearization import LabelWins, Untargeted, linearize
from ssimpert.models.forward_passes import forward
from ssimpert.perturbation.goal import Goal
from tests.ssimpert.perturbation.curved_classes import CurvedClasses, fanned
from tests.ssimpert.perturbation.linear_classifier import grey


def classes() -> CurvedClasses:
    return fanned(grey(1), -3, 10, 0.1)


def test_a_decision_is_the_margin_of_a_fresh_forward_pass() -> None:
    model, image, label = classes(), grey(3), torch.tensor([0, 1, 0])
    decision = Goal(model, label, LabelWins()).decide(image)
    logits = forward(model, image)
    assert torch.equal(decision.logits, logits)
    assert torch.equal(decision.margin, LabelWins()(logits, label))
    assert torch.equal(decision.label, logits.argmax(dim=1))
    assert decision.success.tolist() == (decision.label == label).tolist()


def test_the_goal_of_some_images_is_theirs_alone() -> None:
    model, image, label = classes(), grey(3), torch.tensor([0, 1, 0])
    goal = Goal(model, label, LabelWins())
    whole = goal.decide(image)
    chosen = torch.tensor([2, 0])
    assert torch.equal(goal.select(chosen).decide(image[chosen]).margin, whole.margin[chosen])
    assert torch.equal(goal.select(slice(1, 3)).decide(image[1:3]).margin, whole.margin[1:3])


def test_the_linearisation_is_of_the_goals_margin() -> None:
    model, image, label = classes(), grey(2), torch.tensor([0, 1])
    linear = Goal(model, label, Untargeted()).linearize(image)
    expected = linearize(model, image, label, Untargeted())
    assert torch.equal(linear.value, expected.value)
    assert torch.equal(linear.gradient, expected.gradient)
