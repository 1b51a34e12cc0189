"""What the commands that perturb share: the images, the model and the folders for the results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssimpert.cli.options import ModelOptions
from ssimpert.cli.perturb_run import PerturbRun, margin_for_target
from ssimpert.cli.progress import progress_bar
from ssimpert.cli.region import Region

if TYPE_CHECKING:
    from torch import Tensor

    from ssimpert.models import Classifier
    from ssimpert.perturbation import PerturbResult


class Workspace:
    """The images, the model and the folders of one command, checked before any image is perturbed.

    Attributes:
        names: what the user called the images: samples or files.
        folders: a folder for each image's results.
        classifier: the model.
        batch: the images, (B, 3, S, S) in [0, 1], at the model's size and on its device.
        model_name: what the user called the model.
    """

    def __init__(self, names: list[str], out: Path, options: ModelOptions) -> None:
        """Make the folders below ``out``, load the model and the images.

        Raises:
            InputError: a folder can't be written to, or the model or an image can't be loaded.
        """
        import torch

        from ssimpert.cli.outputs import folders_for, prepare_folder
        from ssimpert.data import load_image
        from ssimpert.models import load_model

        self.names = names
        self.folders = folders_for(names, out)
        for folder in self.folders:
            prepare_folder(folder)
        self.classifier: Classifier = load_model(options.model, weights=options.weights, device=options.device)
        size, device = self.classifier.input_size, self.classifier.mean.device
        self.batch: Tensor = torch.cat([load_image(name, size=size, device=device) for name in names])
        self.model_name = options.model

    def perturb(self, perturb_run: PerturbRun) -> PerturbResult:
        """Perturb all images, with a progress bar."""
        from ssimpert.perturbation import perturb as run_perturb

        with progress_bar("perturbing", perturb_run.steps) as advance:
            return run_perturb(
                self.classifier,
                self.batch,
                perturb_run.constraint,
                steps=perturb_run.steps,
                margin=margin_for_target(perturb_run.target),
                engine=perturb_run.engine,
                faithful=perturb_run.faithful,
                support=self.support(perturb_run.region),
                stop_at_success=perturb_run.stop_at_success,
                shrink=perturb_run.shrink,
                method=perturb_run.method,
                settings=perturb_run.settings,
                quantize=perturb_run.quantize,
                observer=lambda state: advance(),
            )

    def support(self, region: Region | None) -> Tensor | None:
        """Where pixels may change, (B, 1, H, W) bool on the images' device; None for everywhere."""
        if region is None:
            return None
        return region.masks(self.classifier.input_size).to(self.batch.device)

    def record(self, result: PerturbResult, index: int) -> dict[str, Any]:
        """Write the files of the image at ``index``, and return what result.json says about this image."""
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
        """Write result.json for every image; with ``as_json`` also print all of them as one document."""
        from ssimpert.cli.outputs import write_json

        for record, folder in zip(records, self.folders, strict=True):
            write_json(record, folder / "result.json")
        if as_json:
            print_json(records)

    def show(self, table: Any) -> None:
        """Print a table of rich."""
        from rich.console import Console

        Console().print(table)


def print_json(document: Any) -> None:
    """Print ``document`` as strict JSON."""
    from ssimpert.records import json_text

    print(json_text(document))
