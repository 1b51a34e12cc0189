"""``ssimpert doctor``: what is installed here, whether it works, and what to do where something does not."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import typer

from ssimpert.cli.exit_codes import FAILED
from ssimpert.cli.json_output import print_json
from ssimpert.cli.options import AsJson
from ssimpert.cli.terminal import cell, show, table

REQUIRED = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "numba",
    "cvxpy",
    "clarabel",
    "scs",
    "timm",
    "pillow",
    "matplotlib",
)
OPTIONAL = {"foolbox": "baselines", "torchmetrics": "lpips", "onnxruntime": "onnx", "distributed": "cluster"}
# The gap that the self-test solves to, and the seconds beyond which it is slow, compilation included.
SELF_TEST_GAP, SELF_TEST_SECONDS = 1e-2, 5.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: its name.
        found: what was found, in words.
        ok: False where commands will fail.
        remedy: what to do, or empty.
    """

    what: str
    found: str
    ok: bool = True
    remedy: str = ""


def doctor(json: AsJson = False) -> None:
    """Check this installation: versions, threads, devices, torchvision, solvers, and a problem solved and certified.

    The check takes seconds. The exit code is 1 where something that commands need does not work.
    """
    checks = (_versions, _threads, _devices, _torchvision, _solvers, _self_test)
    findings = [finding for check in checks for finding in check()]
    if json:
        print_json([asdict(finding) for finding in findings])
    else:
        shown = table("What is here", None if all(entry.ok for entry in findings) else "FAULT: commands will fail.")
        for heading in ("what", "found", "remedy"):
            shown.add_column(heading)
        for entry in findings:
            shown.add_row(
                cell(entry.what),
                cell(entry.found) if entry.ok else cell(("FAULT: ", "bold"), entry.found),
                cell(entry.remedy),
            )
        show(shown)
    if not all(entry.ok for entry in findings):
        raise typer.Exit(FAILED)


def _versions() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    from ssimpert import __version__

    yield Finding("ssimpert", __version__)
    yield Finding("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in REQUIRED:
        try:
            yield Finding(name, version(name))
        except PackageNotFoundError:
            yield Finding(name, "not installed", ok=False, remedy=f"pip install {name}")
    for name, extra in OPTIONAL.items():
        try:
            yield Finding(name, version(name))
        except PackageNotFoundError:
            yield Finding(name, "not installed (optional)", remedy=f"pip install 'ssimpert[{extra}]'")


def _threads() -> Iterator[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    words = f"{threads} of torch, {cores} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}"
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    words += f", load {load:.1f}"
    is_busy = threads > 1 and load + threads > cores + 1
    yield Finding("threads", words, remedy="the cores are busy: --threads 1 may be faster" if is_busy else "")


def _devices() -> Iterator[Finding]:
    import torch

    names = [f"cuda:{k} {torch.cuda.get_device_name(k)}" for k in range(torch.cuda.device_count())]
    names += ["mps"] if torch.backends.mps.is_available() else []
    yield Finding("devices", ", ".join(["cpu", *names]))


def _torchvision() -> Iterator[Finding]:
    from ssimpert.torchvision_compat import is_mended

    try:
        import torchvision.models  # noqa: F401
    except Exception as error:
        # A broken wheel may fail with any error.
        yield Finding(
            "import torchvision",
            f"{type(error).__name__}: {error}",
            ok=False,
            remedy="install the torchvision that is made for this torch: pip install -c constraints.txt torchvision",
        )
        return
    words = "mended: its compiled operators are missing, which nothing here needs" if is_mended() else "works"
    yield Finding("import torchvision", words)


def _solvers() -> Iterator[Finding]:
    import solvers

    missing = {info.name: info.unavailable() for info in solvers.methods()}
    available = [name for name, reason in missing.items() if not reason]
    yield Finding("solver methods", ", ".join(available))
    for name, reason in missing.items():
        if reason:
            yield Finding(name, f"not here: {reason}", remedy="install it to use this method")


def _self_test() -> Iterator[Finding]:
    """Solve a small problem of overlapping windows, and let the certificate judge the answer."""
    import numpy as np

    import solvers

    generator = np.random.default_rng(0)
    reference, gradient = generator.random((1, 3, 32, 32)), generator.normal(size=(1, 3, 32, 32))
    sets = [solvers.WindowSSIM(0.95, solvers.Window.uniform(7)), solvers.Box(0.0, 1.0)]
    what = "self-test"
    try:
        problem = solvers.LinearProblem(gradient=gradient, reference=reference, constraints=sets)
        result = solvers.solve(problem, settings=solvers.Settings(eps_rel=SELF_TEST_GAP, max_iter=500))
        certificate = solvers.certify(problem, result.delta, result.dual)
    except Exception as error:
        # Whatever is broken here is to be named, not to end the command.
        yield Finding(what, f"{type(error).__name__}: {error}", ok=False, remedy="install again: make setup")
        return
    gap, seconds = float(certificate.rel_gap[0]), result.setup_time + result.solve_time
    words = f"windows of 32x32 pixels by {result.method}: certified gap {gap:.1e} in {seconds:.1f} s"
    if not 0 <= gap <= SELF_TEST_GAP:
        yield Finding(what, f"{words}, not {SELF_TEST_GAP:g}", ok=False, remedy="install again: make setup")
    else:
        slow = "slow: are the cores busy? try --threads 1" if seconds > SELF_TEST_SECONDS else ""
        yield Finding(what, words, remedy=slow)
