"""What results show in notebooks: a table and small pictures, with nothing that runs or is loaded."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import solvers
import ssimpert
from ssimpert.notebook_pictures import LEAST_WIDTH, SIDE, map_pictures, perturbation_pictures, photo_pictures
from ssimpert.perturbation import PerturbResult, perturb
from tests.ssimpert.perturbation.linear_classifier import TwoClasses, grey, score

HOSTILE = '<script>alert("x")</script>'


class Tags(HTMLParser):
    """The tags and attributes of HTML; fails where tags are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += f"{data}\n"

    def pictures(self) -> list[NDArray[np.uint8]]:
        found = []
        for tag, attributes in self.tags:
            if tag == "img":
                source = attributes["src"] or ""
                assert source.startswith("data:image/png;base64,")
                assert attributes["alt"]
                found.append(np.asarray(Image.open(BytesIO(base64.b64decode(source.partition(",")[2])))))
        return found


def perturbed(count: int) -> PerturbResult:
    model, image = TwoClasses(offset=0.0), grey(count)
    model.offset = float(score(model, image).detach().max()) + 0.01
    return perturb(model, image, solvers.LpBall(2, 1.0), steps=1)


def test_a_perturbation_shows_photo_perturbed_photo_and_change() -> None:
    result = perturbed(2)
    shown = Tags(result._repr_html_())
    pictures = shown.pictures()
    assert len(pictures) == 6
    clean = (result.adversarial - result.delta)[1, 0].double().numpy()
    assert np.array_equal(pictures[3][..., 0], np.rint(clean * 255))
    assert np.array_equal(pictures[4][..., 0], np.rint(result.adversarial[1, 0].double().numpy() * 255))
    signs = np.sign(pictures[5][..., 0].astype(float) - 127.5)
    delta = result.delta[1, 0].numpy()
    large = np.abs(delta) > 0.2 * np.abs(delta).max()
    assert np.array_equal(signs[large], np.sign(delta[large]))
    assert "photo 1\nperturbed\namplified " in shown.words


def test_only_the_first_images_have_pictures_and_the_view_stays_small() -> None:
    images = torch.rand(12, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    html = perturbation_pictures(images, 0.01 * (images - 0.5))
    shown = Tags(html)
    assert len(shown.pictures()) == 9
    assert {picture.shape for picture in shown.pictures()} == {(SIDE, SIDE, 3)}
    assert len(html) < 350_000  # noise, which compresses worst


def test_small_images_are_shown_larger() -> None:
    (tag,) = [
        attributes for tag, attributes in Tags(photo_pictures(torch.zeros(1, 1, 8, 8), ["a"])).tags if tag == "img"
    ]
    assert tag["width"] == str(LEAST_WIDTH)


@pytest.mark.parametrize("images", [torch.rand(1, 4, 8, 8), torch.rand(0, 3, 8, 8), torch.rand(3, 8, 8)])
def test_images_that_are_no_photos_have_no_pictures(images: torch.Tensor) -> None:
    assert perturbation_pictures(images, images) == ""
    assert photo_pictures(images, ["a"]) == ""


def test_numbers_that_are_not_finite_are_shown() -> None:
    images = torch.full((1, 3, 8, 8), float("nan"))
    assert len(Tags(perturbation_pictures(images, images)).pictures()) == 3
    (picture,) = Tags(map_pictures([("a map", torch.full((1, 8, 8), float("inf")))])).pictures()
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 1


def test_a_map_runs_from_dark_to_bright_and_is_named() -> None:
    values = torch.linspace(0, 5, 64).reshape(1, 8, 8)
    shown = Tags(map_pictures([("rms", values), (HOSTILE, values)]))
    brightness = shown.pictures()[0].astype(float).sum(axis=2).ravel()
    assert np.all(np.diff(brightness) >= 0)
    assert f"{HOSTILE}, image 0" in shown.words


def test_names_do_not_run() -> None:
    result = replace(perturbed(1), name=HOSTILE, messages=(HOSTILE,))
    for html in (result._repr_html_(), photo_pictures(torch.zeros(1, 3, 8, 8), [HOSTILE])):
        assert "<script" not in html
        assert HOSTILE in Tags(html).words or HOSTILE[:20] in Tags(html).words
        assert not re.search(r"\bon\w+=|https?:|<style|<iframe", html)


def test_composites_show_themselves() -> None:
    shown = Tags(ssimpert.composites(2, seed=0, size=64)._repr_html_())
    assert len(shown.pictures()) == 2


def test_solvers_show_a_table_alone() -> None:
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    problem = solvers.LinearProblem(gradient=x - 0.5, reference=x, constraints=[solvers.LpBall(2, 0.1)])
    result = solvers.solve(problem)
    for shown in (result, solvers.certify(problem, result.delta)):
        tags = {tag for tag, _ in Tags(shown._repr_html_()).tags}
        assert "table" in tags
        assert "img" not in tags
