"""Margins against their definition, written out with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssimpert.errors import InputError
from ssimpert.linearization import Targeted, Untargeted

LOGITS = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 4.5], [0.0, 0.0, -1.0]])
LABEL = torch.tensor([1, 0, 0])


def test_untargeted_margin_is_the_best_other_logit_less_the_own() -> None:
    values = LOGITS.numpy()
    expected = [max(np.delete(row, own)) - row[own] for row, own in zip(values, LABEL.tolist(), strict=True)]
    assert Untargeted()(LOGITS, LABEL).tolist() == pytest.approx(expected)


def test_targeted_margin_is_positive_exactly_where_the_target_wins() -> None:
    margin = Targeted(2)(LOGITS, LABEL)
    assert margin.tolist() == pytest.approx([-1.0, -0.5, -1.0])
    won = torch.tensor([[0.0, 1.0, 1.5]])
    assert float(Targeted(2)(won, torch.tensor([0]))) == pytest.approx(0.5)


def test_class_zero_is_a_label_like_any_other() -> None:
    assert float(Untargeted()(torch.tensor([[2.0, 1.0]]), torch.tensor([0]))) == -1.0


def test_target_outside_the_classes_is_refused_with_the_range() -> None:
    with pytest.raises(InputError, match=r"target class 7 does not exist.*0 to 2"):
        Targeted(7).check(3)
    with pytest.raises(InputError, match="at least 2 classes"):
        Untargeted().check(1)
