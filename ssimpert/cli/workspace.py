"""What the commands that perturb share: the images, the model and the folders for the results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssimpert.cli.objects import Objects, comparison_keywords, seen_objects
from ssimpert.cli.options import ModelOptions
from ssimpert.cli.perturb_run import PerturbRun, margin_for_target
from ssimpert.cli.photos import PhotoSelection, load_selected
from ssimpert.cli.progress import progress_bar
from ssimpert.cli.region import Region

if TYPE_CHECKING:
    from torch import Tensor

    from ssimpert.models import Classifier
    from ssimpert.perturbation import PerturbResult


class Workspace:
    """The images, the model and the folders of one command, checked before any image is perturbed.

    Attributes:
        selection: the photos that the command's arguments mean, and why some were skipped.
        indices: which photos of the selection are used.
        names: what the user called the images: samples or files.
        photos: the images with their frames, and with what was done to them.
        folders: a folder for each image's results.
        classifier: the model.
        batch: the images, (B, 3, S, S) in [0, 1], at the model's size and on its device.
        model_name: what the user called the model.
    """

    def __init__(
        self, selection: PhotoSelection, out: Path, options: ModelOptions, objects: Objects | None = None
    ) -> None:
        """Load the model and the photos, and make the folders below ``out``. Photos that can't be used are skipped.

        ``objects``: the photos' objects, for ``compare``; a photo without them is skipped, too.

        Raises:
            InputError: a folder can't be written to, the model can't be loaded, or no photo can be used.
        """
        import torch

        from ssimpert.cli.outputs import folders_for, prepare_folder
        from ssimpert.models import load_model

        self.selection = selection
        folders = folders_for(selection.names, out)
        prepare_folder(out)
        self.classifier: Classifier = load_model(options.model, weights=options.weights, device=options.device)
        size, device = self.classifier.input_size, self.classifier.mean.device
        loaded = load_selected(selection, size, device, lambda photo: seen_objects(objects, photo))
        self.indices = [index for index, _, _ in loaded]
        self.photos = [photo for _, photo, _ in loaded]
        self._seen_objects = [seen for _, _, seen in loaded]
        self.names = [photo.name for photo in self.photos]
        self.folders = [folders[index] for index in self.indices]
        for folder in self.folders:
            prepare_folder(folder)
        self.batch: Tensor = torch.cat([photo.image for photo in self.photos])
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
                method=perturb_run.method,
                settings=perturb_run.settings,
                quantize=perturb_run.quantize,
                observer=lambda state: advance(),
            )

    def support(self, region: Region | None) -> Tensor | None:
        """Where pixels may change, (B, 1, H, W) bool on the images' device; None for everywhere."""
        if region is None:
            return None
        return region.masks(self.classifier.input_size)[self.indices].to(self.batch.device)

    def objects(self) -> dict[str, Any]:
        """The photos' objects as keywords of :func:`ssimpert.compare`; empty where none were given."""
        return comparison_keywords(self._seen_objects, self.batch.device)

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
            "photo": self._photo(index),
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

    def _photo(self, index: int) -> dict[str, Any]:
        """The photo's size in pixels, the part of the photo that the model sees, and what was done to the photo."""
        photo = self.photos[index]
        return {
            "width": photo.frame.width,
            "height": photo.frame.height,
            "seen_box": list(photo.frame.seen_box),
            "notes": list(photo.notes),
        }

    def show(self, table: Any) -> None:
        """Print a table of rich."""
        from rich.console import Console

        Console().print(table)


def print_json(document: Any) -> None:
    """Print ``document`` as strict JSON."""
    from ssimpert.records import json_text

    print(json_text(document))
