"""What the commands that perturb share: the images, the model, the files and the progress bar."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssimpert.cli.goal import Goal, margin_of
from ssimpert.cli.options import ModelOptions
from ssimpert.cli.region import Region

if TYPE_CHECKING:
    from torch import Tensor

    from ssimpert.models import Classifier
    from ssimpert.perturbation import PerturbResult


class Run:
    """One command's images, model and folders, checked before any image is perturbed."""

    def __init__(self, names: list[str], out: Path, options: ModelOptions) -> None:
        import torch

        from ssimpert.cli.outputs import folders_for, prepare_folder
        from ssimpert.data import load_image
        from ssimpert.models import load_model

        self.names = names
        self.folders = folders_for(names, out)
        for folder in self.folders:
            prepare_folder(folder)
        self.classifier: Classifier = load_model(options.model, weights=options.weights, device=options.device)
        size, place = self.classifier.input_size, self.classifier.mean.device
        self.batch: Tensor = torch.cat([load_image(name, size=size, device=place) for name in names])
        self.model_name = options.model

    def perturb(self, goal: Goal) -> PerturbResult:
        from ssimpert.perturbation import perturb as run_perturb

        with progress_bar("perturbing", goal.steps) as advance:
            return run_perturb(
                self.classifier,
                self.batch,
                goal.constraint,
                steps=goal.steps,
                margin=margin_of(goal.target),
                engine=goal.engine,
                faithful=goal.faithful,
                support=self.support(goal.region),
                stop_at_success=goal.stop_at_success,
                method=goal.method,
                settings=goal.settings,
                quantize=goal.quantize,
                observer=lambda state: advance(),
            )

    def support(self, region: Region | None) -> Tensor | None:
        """Where pixels may change, (B, 1, H, W) bool; None for everywhere."""
        if region is None:
            return None
        return region.masks(self.classifier.input_size).to(self.batch.device)

    def record(self, result: PerturbResult, index: int) -> dict[str, Any]:
        """Write one image's files and gather what result.json says of it."""
        from ssimpert import __version__
        from ssimpert.cli.outputs import write_images

        file = write_images(self.classifier, self.batch, result, index, self.folders[index])
        numbers = result.rows()[index]
        name = self.classifier.label_name
        return {
            "ssimpert": __version__,
            "image": self.names[index],
            "model": self.model_name,
            "settings": result.settings,
            "result": numbers
            | {
                "image": self.names[index],
                "label_before_name": name(numbers["label_before"]),
                "label_after_name": name(numbers["label_after"]),
            },
            "file": file | {"label_name": name(file["label"])},
            "history": [row for row in result.history if row["image"] == index],
            "seconds": result.seconds,
        }

    def finish(self, records: list[dict[str, Any]], *, as_json: bool) -> None:
        """Write every result.json; with ``--json`` print them as one document."""
        from ssimpert.cli.outputs import write_json

        for record, folder in zip(records, self.folders, strict=True):
            write_json(record, folder / "result.json")
        if as_json:
            print_json(records)

    def show(self, table: Any) -> None:
        from rich.console import Console

        Console().print(table)


def progress_bar(what: str, total: int | None) -> Any:
    """A progress bar on stderr, gone when done; yields a function that advances it by one."""
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    @contextmanager
    def bar() -> Any:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(what, total=total)
            yield lambda: progress.advance(task)

    return bar()


def print_json(document: Any) -> None:
    from ssimpert.records import json_text

    print(json_text(document))
