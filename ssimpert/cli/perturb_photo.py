"""One photo perturbed as ``perturb`` and ``compare`` do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssimpert.cli.perturb_run import PerturbRun, margin_for_target
from ssimpert.cli.photo_loop import ProcessPhoto, WriteFiles
from ssimpert.cli.progress import Stage

if TYPE_CHECKING:
    from torch import Tensor

    from ssimpert.cli.workspace import Workspace
    from ssimpert.perturbation import PerturbResult
    from ssimpert.perturbation.engines.loop import AscentState


def perturb_photo(workspace: Workspace, perturb_run: PerturbRun) -> ProcessPhoto:
    """What perturbs a photo of the command ``perturb``."""

    def process_photo(index: int, image: Tensor, stage: Stage) -> WriteFiles:
        result = perturbed(workspace, perturb_run, index, image, stage)
        return lambda folder: workspace.write_perturbation(index, image, result, folder)

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
    from ssimpert.perturbation import perturb

    steps_done = 0

    def observer(state: AscentState) -> None:
        nonlocal steps_done
        steps_done += 1
        stage("perturbing", steps_done, perturb_run.steps)

    return perturb(
        workspace.classifier,
        image,
        perturb_run.constraint,
        steps=perturb_run.steps,
        margin=margin_for_target(perturb_run.target),
        engine=perturb_run.engine,
        faithful=perturb_run.faithful,
        support=workspace.support(index),
        stop_at_success=perturb_run.stop_at_success,
        method=perturb_run.method,
        settings=perturb_run.settings,
        quantize=perturb_run.quantize,
        observer=observer,
    )
