"""The commands. Heavy imports wait until a command runs, so that ``--help`` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ssimpert.cli.constraints import ConstraintName
from ssimpert.cli.run import Goal, Run, print_json, progress_bar

app = typer.Typer(
    name="ssimpert",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
    help="Adversarial perturbations under perceptual constraints, compared with class activation maps.",
    epilog="Exit codes: 0 done, 1 a failure named in one line, 2 wrong usage.",
)

Images = Annotated[list[str], typer.Argument(help="Samples (see `ssimpert samples`) or picture files.")]
Out = Annotated[Path, typer.Option(help="Folder for the results; made if missing.")]
ModelName = Annotated[str, typer.Option("--model", help="See `ssimpert models`.")]
Weights = Annotated[str | None, typer.Option(help="State-dict file for the model, or 'random'.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")]
Constraint = Annotated[ConstraintName, typer.Option(help="What the perturbation must keep to.")]
Distance = Annotated[
    float | None, typer.Option(help="global-ssim: e, the bound on d2 = sqrt(1 - S2), 0 < e < 1. Default 0.005.")
]
Threshold = Annotated[
    float | None, typer.Option(help="window-ssim: least SSIM in every window, 0 < t < 1. Default 0.95.")
]
WindowSize = Annotated[int | None, typer.Option(help="window-ssim: the window's side in pixels. Default 8.")]
Stride = Annotated[
    int | None, typer.Option(help="window-ssim: step between windows; equal to the size for tiles. Default 8.")
]
Sigma = Annotated[float | None, typer.Option(help="window-ssim: Gaussian weights of this sigma; uniform without.")]
Border = Annotated[
    str | None, typer.Option(help="window-ssim: full (windows hang over the edge) or valid. Default full.")
]
Luminance = Annotated[
    str | None, typer.Option(help="window-ssim: bound on 1 - S1, or 'split', or 'preserve'. Default 1e-3.")
]
Radius = Annotated[float | None, typer.Option(help="l2, linf, l1: the radius. Default 0.5, 2/255, 50.")]
Steps = Annotated[int, typer.Option(min=1, help="Most steps per image.")]
Recentred = Annotated[
    bool | None,
    typer.Option(
        "--recentred/--held",
        help="Keep to the set around the current iterate, or around the original image. "
        "Default: re-centred for global-ssim (the published method), held for the others.",
    ),
]
Faithful = Annotated[bool, typer.Option("--faithful", help="global-ssim: the released code's behaviour.")]
Quantize = Annotated[
    bool,
    typer.Option(
        "--quantize/--no-quantize",
        help="Move the result onto 8-bit pixels so that the PNG itself still fools and keeps to the set. "
        "Without: the PNG is the result rounded, and result.json says under 'file' what is left of it.",
    ),
]
Target = Annotated[int | None, typer.Option(help="Aim at this class instead of any other.")]
Method = Annotated[str, typer.Option(help="Solver method, see `ssimpert methods`.")]
EpsRel = Annotated[float, typer.Option(help="Certified relative gap at which a step counts as solved.")]
MaxIter = Annotated[int, typer.Option(help="Most iterations of an iterative solver, per step.")]
Force = Annotated[bool, typer.Option("--force", help="Let a CVXPY method try a problem beyond its size limit.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]


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
def perturb(
    images: Images,
    out: Out = Path("out/perturb"),
    model: ModelName = "efficientnet-lite0",
    weights: Weights = None,
    device: Device = "auto",
    constraint: Constraint = ConstraintName.GLOBAL_SSIM,
    distance: Distance = None,
    threshold: Threshold = None,
    window_size: WindowSize = None,
    stride: Stride = None,
    sigma: Sigma = None,
    border: Border = None,
    luminance: Luminance = None,
    radius: Radius = None,
    steps: Steps = 20,
    recentred: Recentred = None,
    faithful: Faithful = False,
    target: Target = None,
    quantize: Quantize = False,
    method: Method = "auto",
    eps_rel: EpsRel = 1e-3,
    max_iter: MaxIter = 2000,
    force: Force = False,
    json: AsJson = False,
) -> None:
    """Change the label of each image; write adversarial.png, adversarial.npy and result.json."""
    goal = Goal(
        constraint,
        {
            "distance": distance,
            "threshold": threshold,
            "window_size": window_size,
            "stride": stride,
            "sigma": sigma,
            "border": border,
            "luminance": luminance,
            "radius": radius,
        },
        steps=steps,
        recentred=recentred,
        faithful=faithful,
        target=target,
        quantize=quantize,
        method=method,
        settings={"eps_rel": eps_rel, "max_iter": max_iter, "force": force},
    )
    run = Run(images, out, model, weights, device)
    result = run.perturb(goal)
    run.finish([run.record(result, k) for k in range(len(images))], as_json=json)
    if not json:
        from ssimpert.cli.tables import perturbation_table

        run.show(perturbation_table(images, [result], run.classifier.label_name))


@app.command()
def compare(
    images: Images,
    out: Out = Path("out/compare"),
    model: ModelName = "efficientnet-lite0",
    weights: Weights = None,
    device: Device = "auto",
    constraint: Constraint = ConstraintName.GLOBAL_SSIM,
    distance: Distance = None,
    threshold: Threshold = None,
    window_size: WindowSize = None,
    stride: Stride = None,
    sigma: Sigma = None,
    border: Border = None,
    luminance: Luminance = None,
    radius: Radius = None,
    steps: Steps = 20,
    recentred: Recentred = None,
    faithful: Faithful = False,
    target: Target = None,
    quantize: Quantize = False,
    method: Method = "auto",
    eps_rel: EpsRel = 1e-3,
    max_iter: MaxIter = 2000,
    force: Force = False,
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
    shifts: Annotated[
        int, typer.Option(help="Circular shifts for the p-values, at least 200; 0 leaves them out.")
    ] = 200,
    sanity: Annotated[
        bool, typer.Option("--sanity", help="Also compare the maps of the model with random weights.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Perturb, then compare with Grad-CAM and with the controls; also write agreement.parquet, figures and maps."""
    from ssimpert.cli import comparison

    goal = Goal(
        constraint,
        {
            "distance": distance,
            "threshold": threshold,
            "window_size": window_size,
            "stride": stride,
            "sigma": sigma,
            "border": border,
            "luminance": luminance,
            "radius": radius,
        },
        steps=steps,
        recentred=recentred,
        faithful=faithful,
        target=target,
        quantize=quantize,
        method=method,
        settings={"eps_rel": eps_rel, "max_iter": max_iter, "force": force},
    )
    run = Run(images, out, model, weights, device)
    options = {
        "layer": layer,
        "cam": cam,
        "attributions": attribution or [],
        "insertion_deletion": insertion_deletion,
        "sanity": sanity,
        "shifts": shifts,
    }
    comparison.check(run, options)
    comparison.compare_and_write(run, run.perturb(goal), options, as_json=json)


@app.command()
def models(json: AsJson = False) -> None:
    """List the classifiers that can be loaded."""
    from ssimpert.models import models as known_models

    columns = ("name", "input_size", "weights", "description")
    _listing("Models", columns, [{key: getattr(entry, key) for key in columns} for entry in known_models()], json)


@app.command()
def samples(json: AsJson = False) -> None:
    """List the pictures that come with it."""
    from ssimpert.data import samples as known_samples

    columns = ("name", "kind", "description", "licence")
    _listing("Samples", columns, [{key: getattr(entry, key) for key in columns} for entry in known_samples()], json)


@app.command()
def methods(
    conformance: Annotated[
        bool,
        typer.Option("--conformance", help="Try every method on standard problems; takes minutes."),
    ] = False,
    method: Annotated[list[str] | None, typer.Option(help="With --conformance: this method only; repeatable.")] = None,
    problem: Annotated[
        list[str] | None, typer.Option(help="With --conformance: problems like this, e.g. 'tiles*'; repeatable.")
    ] = None,
    json: AsJson = False,
) -> None:
    """List the solver methods and what each can take, or check them with --conformance."""
    import solvers

    if conformance:
        _conformance(method or [], problem or [], as_json=json)
        return
    if method or problem:
        raise typer.BadParameter("--method and --problem go with --conformance")
    if json:
        print_json(
            [
                {
                    "name": info.name,
                    "problems": [kind.__name__ for kind in info.problems],
                    "required": sorted(info.required),
                    "any_of": sorted(info.any_of),
                    "optional": sorted(info.optional),
                    "windows": info.windows,
                    "exact": info.exact,
                    "devices": list(info.devices),
                    "unavailable": info.unavailable(),
                    "description": info.description,
                }
                for info in solvers.methods()
            ]
        )
        return
    from rich.console import Console

    from ssimpert.cli.tables import methods_table

    Console().print(methods_table())


def _conformance(methods: list[str], problems: list[str], *, as_json: bool) -> None:
    """Exit code 1 where a method failed, or where none could be tried."""
    from rich.console import Console

    from ssimpert.cli import conformance

    report = conformance.run(methods, problems, progress_bar)
    if as_json:
        print_json(conformance.document(report))
    else:
        Console().print(conformance.table(report))
        for row in report.failures:
            Console().print(str(row), markup=False, highlight=False)
    if not report.passed:
        raise typer.Exit(1)


def _listing(title: str, columns: tuple[str, ...], rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column.replace("_", " "))
    for row in rows:
        # Escaped: an extra's name in brackets would be taken for markup.
        table.add_row(*("" if row[column] is None else escape(str(row[column])) for column in columns))
    Console().print(table)
