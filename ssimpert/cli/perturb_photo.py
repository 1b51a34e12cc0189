"""One photo perturbed as ``perturb`` and ``compare`` do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssimpert.cli.perturb_run import PerturbRun
from ssimpert.cli.photo_loop import ProcessPhoto, WriteFiles
from ssimpert.cli.progress import Stage

if TYPE_CHECKING:
    from torch import Tensor

    from ssimpert.cli.workspace import Workspace
    from ssimpert.perturbation import PerturbResult


def perturb_photo(workspace: Workspace, perturb_run: PerturbRun) -> ProcessPhoto:
    """What perturbs a photo of the command ``perturb``."""

    def process_photo(index: int, image: Tensor, stage: Stage) -> WriteFiles:
        result = perturbed(workspace, perturb_run, index, image, stage)
        keeps_goal = perturb_run.png_keeps_goal
        return lambda folder: workspace.write_perturbation(index, image, result, folder, png_keeps_goal=keeps_goal)

    return process_photo


def perturbed(workspace: Workspace, perturb_run: PerturbRun, index: int, image: Tensor, stage: Stage) -> PerturbResult:
    """The photo at ``index``, which is ``image`` (1, 3, S, S), perturbed.

    Args:
        workspace: the photos and the model.
        perturb_run: the other arguments of :func:`ssimpert.perturb`.
        index: which photo, from 0.
        image: the photo, (1, 3, S, S) in [0, 1].
        stage: told of every step.
    """
    steps_done = 0

    def advance() -> None:
        nonlocal steps_done
        steps_done += 1
        stage("perturbing", steps_done, perturb_run.progress_steps)

    return perturb_run.perturb(workspace.classifier, image, workspace.support(index), advance)
