"""The commands. Heavy imports wait until a command runs, so that ``--help`` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ssimpert.cli import listings
from ssimpert.cli.errors import UsageError
from ssimpert.cli.goal import goal_of
from ssimpert.cli.option_groups import with_option_groups
from ssimpert.cli.options import (
    AsJson,
    ConstraintOptions,
    EngineOptions,
    ForwardName,
    Images,
    ModelOptions,
    Out,
    SearchOptions,
    SolverOptions,
)
from ssimpert.cli.run import Run, progress_bar

app = typer.Typer(
    name="ssimpert",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
    help="Adversarial perturbations under perceptual constraints, compared with class activation maps.",
    epilog="Exit codes: 0 done, 1 a failure named in one line, 2 wrong usage.",
)


@app.callback()
def configure(
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads. Default: 1 on machines of one or two cores, else PyTorch's choice."),
    ] = None,
) -> None:
    """Set the thread count once, before anything runs."""
    import os

    cores = os.cpu_count() or 1
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    elif cores <= 2:
        # Two threads on two busy cores can be twenty times slower than one.
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@app.command()
@with_option_groups
def perturb(
    images: Images,
    *,
    out: Out = Path("out/perturb"),
    classifier: ModelOptions,
    limit: ConstraintOptions,
    climb: EngineOptions,
    solver: SolverOptions,
    json: AsJson = False,
) -> None:
    """Change the label of each image; write adversarial.png, adversarial.npy and result.json."""
    goal = goal_of(images, limit, climb, solver)
    run = Run(images, out, classifier)
    result = run.perturb(goal)
    run.finish([run.record(result, k) for k in range(len(images))], as_json=json)
    if not json:
        from ssimpert.cli.tables import perturbation_table

        run.show(perturbation_table(images, [result], run.classifier.label_name))


@app.command()
@with_option_groups
def compare(
    images: Images,
    *,
    out: Out = Path("out/compare"),
    classifier: ModelOptions,
    limit: ConstraintOptions,
    climb: EngineOptions,
    solver: SolverOptions,
    layer: Annotated[
        str | None, typer.Option(help="Layer for the class activation map; default the model's own.")
    ] = None,
    cam: Annotated[
        str,
        typer.Option(help="What to compare with: grad_cam, grad_cam_plus_plus, hires_cam, layer_cam, guided_grad_cam."),
    ] = "grad_cam",
    attribution: Annotated[
        list[str] | None,
        typer.Option(help="Also compare this attribution (smooth_grad, integrated_gradients, rise, ...); repeatable."),
    ] = None,
    insertion_deletion: Annotated[
        bool,
        typer.Option("--insertion-deletion", help="Run insertion and deletion with every map; takes minutes."),
    ] = False,
    insertion_step: Annotated[
        int | None,
        typer.Option(min=1, help="Pixels a step of --insertion-deletion; default 8 rows, 1792 at 224x224."),
    ] = None,
    shifts: Annotated[
        int, typer.Option(help="Circular shifts for the p-values, at least 200; 0 leaves them out.")
    ] = 200,
    sanity: Annotated[
        bool, typer.Option("--sanity", help="Also compare the maps of the model with random weights.")
    ] = False,
    forward: Annotated[
        ForwardName,
        typer.Option(
            help="What occlusion, rise, insertion and deletion pass images through: the model, or a copy of it in "
            "ONNX Runtime (extra onnx), on the CPU in little more than half the time, after seconds to make it."
        ),
    ] = ForwardName.TORCH,
    json: AsJson = False,
) -> None:
    """Perturb, then compare with Grad-CAM and with the controls; also write agreement.parquet, figures and maps."""
    from ssimpert.cli import comparison

    if insertion_step is not None and not insertion_deletion:
        raise UsageError(f"--insertion-step {insertion_step} is for --insertion-deletion, which is not asked for")
    goal = goal_of(images, limit, climb, solver)
    run = Run(images, out, classifier)
    options: dict[str, Any] = {
        "layer": layer,
        "cam": cam,
        "attributions": attribution or [],
        "insertion_deletion": insertion_step or insertion_deletion,
        "sanity": sanity,
        "shifts": shifts,
    }
    comparison.check(run, options)
    options["forward"] = comparison.forward_of(run, options, forward)
    result = run.perturb(goal)
    if goal.region is not None:
        options["support"] = run.support(goal.region)
    comparison.compare_and_write(run, result, options, as_json=json)


@app.command()
@with_option_groups
def minimal(
    images: Images,
    *,
    out: Out = Path("out/minimal"),
    curve: Annotated[
        int | None,
        typer.Option(
            min=2, help="Also try so many levels around the least one; write curve.json, curve.png and curve.svg."
        ),
    ] = None,
    classifier: ModelOptions,
    limit: ConstraintOptions,
    search: SearchOptions,
    solver: SolverOptions,
    json: AsJson = False,
) -> None:
    """Find the least level of a set that changes each image's label; write adversarial.png, adversarial.npy and
    result.json.

    The level is 1 - threshold, distance or radius; the set's own is tried first. The array holds the perturbation
    exactly; rounded to the PNG's 8 bits, it may no longer fool: result.json says under 'file' what is left.
    """
    from ssimpert.cli.minimal import find_minimal, quest_of, write_curve

    quest = quest_of(images, limit, search, solver)
    run = Run(images, out, classifier)
    result = find_minimal(run, quest)
    records = [run.record(result, k) for k in range(len(images))]
    for record in records:
        record["result"]["level_unit"] = result.settings["level"]
    run.finish(records, as_json=json)
    if curve is not None:
        with progress_bar("trying levels", len(images)) as advance:
            for k in range(len(images)):
                write_curve(run, quest, result, k, curve)
                advance()
    if not json:
        from ssimpert.cli.tables import minimal_table

        run.show(minimal_table(images, result, run.classifier.label_name))


for listing in (listings.models, listings.samples, listings.methods):
    app.command()(listing)
