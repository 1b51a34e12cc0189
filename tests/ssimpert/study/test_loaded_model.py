"""What identifies a model: its name, its weights and how images are prepared for it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from ssimpert.errors import InputError
from ssimpert.models import Classifier
from ssimpert.models.weights_hash import weights_hash
from ssimpert.study import ModelSection
from ssimpert.study.loaded_model import LoadedModel, load_study_model
from tests.ssimpert.study.small_study import small, small_classifier

__all__ = ["small"]


def identity(classifier: Classifier, name: str = "small", input_size: int | None = None) -> str:
    return LoadedModel(ModelSection(name=name, input_size=input_size), classifier).identity


def test_every_weight_counts_and_the_same_weights_have_the_same_hash() -> None:
    network = small_classifier().network
    before = weights_hash(network)
    assert before == weights_hash(small_classifier().network)
    for name, value in network.state_dict().items():
        changed = copy.deepcopy(network)
        flat = changed.state_dict()[name].view(-1)
        flat[-1] = torch.nextafter(flat[-1], torch.tensor(torch.inf))
        assert weights_hash(changed) != before, name
        assert value.numel()
    assert weights_hash(copy.deepcopy(network).double()) != before


def test_name_colours_size_and_labels_count() -> None:
    plain = small_classifier()

    def changed(**changes: Any) -> Classifier:
        options: dict[str, Any] = {"labels": plain.labels, "mean": (0.5,) * 3, "std": (0.5,) * 3} | changes
        return Classifier(plain.network, name="x", input_size=32, **options)

    identities = [
        identity(plain),
        identity(plain, name="other"),
        identity(plain, input_size=64),
        identity(changed(std=(0.4,) * 3)),
        identity(changed(mean=(0.4,) * 3)),
        identity(changed(labels=list("abcde"))),
    ]
    assert len(set(identities)) == len(identities)
    assert identity(plain, input_size=32) == identity(changed()) == identities[0]


def test_labels_are_names_or_a_file_of_names(small: Classifier, tmp_path: Path) -> None:
    names = load_study_model(ModelSection(name="small", labels=("a", "b", "c", "d", "e"))).classifier.labels
    assert names == ("a", "b", "c", "d", "e")
    path = tmp_path / "labels.txt"
    path.write_text("one\ntwo\n\nthree \nfour\nfive\n")
    assert load_study_model(ModelSection(name="small", labels=str(path))).classifier.labels[2] == "three"
    with pytest.raises(InputError, match="has 5 classes, but labels = the names given name 2"):
        load_study_model(ModelSection(name="small", labels=("a", "b")))
    with pytest.raises(InputError, match="can't be read as a text file"):
        load_study_model(ModelSection(name="small", labels=str(tmp_path / "absent.txt")))
