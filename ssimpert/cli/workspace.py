"""What the commands that perturb share: the photos, the model and the folder for the results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssimpert.cli.objects import Objects, comparison_keywords, seen_objects
from ssimpert.cli.options import ModelOptions, OutputOptions
from ssimpert.cli.output_folder import OutputFolder, Photo
from ssimpert.cli.photo_loop import Outcome, ProcessPhoto, change_of_label, process_photos
from ssimpert.cli.photos import PhotoSelection, try_photos
from ssimpert.cli.region import Region
from ssimpert.cli.run_record import file_hash, photo_hash, weights_record

if TYPE_CHECKING:
    from torch import Tensor

    from ssimpert.models import Classifier
    from ssimpert.perturbation import PerturbResult


class Workspace:
    """The photos, the model and the folder of one command, checked before any photo is perturbed.

    Attributes:
        selection: the photos that the command's arguments mean, and why some were skipped.
        tried: the photos that can be used, without their pixels.
        names: what the user called these photos: samples or files.
        photos: the photos by name and content.
        output: the folder ``--out``, with a folder for each photo.
        classifier: the model.
        model_name: what the user called the model.
        region: where pixels may change; None for everywhere.
    """

    def __init__(
        self,
        selection: PhotoSelection,
        options: ModelOptions,
        output_options: OutputOptions,
        run: dict[str, Any],
        *,
        resolve: Callable[[Classifier], dict[str, Any]],
        region: Region | None = None,
        objects: Objects | None = None,
    ) -> None:
        """Open the folder ``--out``, load the model, and try every photo. The folder is locked until the process ends.

        Photos that can't be used are skipped.

        Args:
            selection: the photos.
            options: the model and the device.
            output_options: the folder for the results, and whether results that are there are made again.
            run: what decides the results, from :func:`ssimpert.cli.run_record.run_record`.
            resolve: checks the options against the model, and gives those whose values the model decides.
            region: where pixels may change; None for everywhere.
            objects: the photos' objects, for ``compare``; a photo without them is skipped, too.

        Raises:
            InputError: the folder can't be written to, the model can't be loaded, or no photo can be used.
            UsageError: the folder has results of other options, weights or versions, or ``resolve`` refuses.
        """
        from ssimpert.models import load_model

        self.selection, self.model_name, self.region = selection, options.model, region
        # The default folder has room for every photo to come.
        self._in_folder_itself = output_options.out is not None and selection.is_single
        self.output = OutputFolder(output_options.folder(run["command"]), run, redo=output_options.redo)
        self.classifier: Classifier = load_model(options.model, weights=options.weights, device=options.device)
        self.output.run = run | weights_record(self.classifier)
        self.output.run["options"] = run["options"] | resolve(self.classifier)
        self.output.check_run()
        self.tried = try_photos(selection, self.classifier.input_size, lambda photo: seen_objects(objects, photo))
        self.names = [photo.name for photo in self.tried]
        self.photos = [self._by_content(index) for index in range(len(self.tried))]
        for index in range(len(self.tried)):
            self.support(index)
        masks_read = () if region is None else region.files
        named = [options.weights, *(() if objects is None else objects.files)]
        self._inputs = [*map(Path, selection.names), *masks_read, *(Path(file) for file in named if file)]

    @property
    def folders(self) -> list[Path]:
        """A folder for each photo's results."""
        return self.output.folders

    def load(self, index: int) -> Tensor:
        """The photo at ``index``, (1, 3, S, S) in [0, 1], at the model's size and on its device."""
        from ssimpert.data import load_image

        return load_image(self.names[index], size=self.classifier.input_size, device=self.classifier.mean.device)

    def support(self, index: int) -> Tensor | None:
        """Where pixels of the photo at ``index`` may change, (1, 1, S, S) bool on its device; None for everywhere."""
        if self.region is None:
            return None
        mask = self.region.mask(self.tried[index].position, self.classifier.input_size)
        return mask.to(self.classifier.mean.device)

    def objects(self, index: int) -> dict[str, Any]:
        """The objects of the photo at ``index`` as keywords of :func:`ssimpert.compare`; empty without objects."""
        return comparison_keywords([self.tried[index].seen], self.classifier.mean.device)

    def _by_content(self, index: int) -> Photo:
        photo = self.tried[index]
        mask = None if self.region is None else file_hash(self.region.files[photo.position])
        return Photo(
            photo.name, photo_hash(photo.name), mask, None if photo.seen is None else photo.seen.content_hash()
        )

    def process(
        self, description: str, process_photo: ProcessPhoto, outcome: Outcome = change_of_label
    ) -> list[dict[str, Any]]:
        """Process the photos one by one; see :func:`ssimpert.cli.photo_loop.process_photos`.

        Raises:
            InputError: a result would leave the folder ``--out``, or replace an input or a file of somebody else.
            UsageError: a photo's folder has another photo's result, or results of other options.
            Stopped: a signal came.
        """
        self.output.claim(self.photos, self._inputs, in_folder_itself=self._in_folder_itself)
        return process_photos(description, self.output, self.photos, self.load, process_photo, outcome)

    def photo_record(self, index: int, settings: dict[str, Any]) -> dict[str, Any]:
        """How the record of a photo begins: the photo, the model, and the settings of the result."""
        from ssimpert import __version__

        return {
            "ssimpert": __version__,
            "image": self.names[index],
            "photo": self.tried[index].record(),
            "model": self.model_name,
            "settings": settings,
        }

    def write_perturbation(
        self, index: int, image: Tensor, result: PerturbResult, folder: Path, *, png_keeps_goal: bool = False
    ) -> dict[str, Any]:
        """Write the perturbed picture of one photo, and return what the record says about this photo.

        Args:
            index: which photo, from 0.
            image: the photo, (1, 3, S, S) in [0, 1].
            result: the perturbation of ``image``.
            folder: an existing folder for the files.
            png_keeps_goal: whether the PNG is quantized where rounding would undo the result.
        """
        from ssimpert.cli.outputs import write_images
        from ssimpert.report.conditions import conditions

        file = write_images(self.classifier, image, result, folder, png_keeps_goal=png_keeps_goal)
        (numbers,) = result.rows()
        name = self.classifier.label_name
        return {
            **self.photo_record(index, result.settings),
            "conditions": conditions(result),
            "result": numbers
            | {
                "image": self.names[index],
                "label_before_name": name(numbers["label_before"]),
                "label_after_name": name(numbers["label_after"]),
            },
            "file": file | {"label_name": name(file["label"])},
            "files": ["adversarial.npy", "adversarial.png"],
            "history": list(result.history),
            "seconds": result.seconds,
        }

    def show(self, table: Any) -> None:
        """Print a table of rich."""
        from ssimpert.cli.terminal import show

        show(table)
