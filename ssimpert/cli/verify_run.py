"""``ssimpert verify``: from its options to the proof of each photo, and what is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssimpert.cli.constraint_options import ConstraintOptions
from ssimpert.cli.exit_codes import options_are_at_fault
from ssimpert.cli.feature_balls import FeatureBallSet
from ssimpert.cli.perturb_run import set_around
from ssimpert.cli.photo_loop import ProcessPhoto, WriteFiles
from ssimpert.cli.progress import Stage
from ssimpert.cli.region import Region, region_from_options

if TYPE_CHECKING:
    from torch import Tensor

    from solvers.constraints import Constraint
    from ssimpert.cli.workspace import Workspace
    from ssimpert.models import Classifier
    from ssimpert.verification import VerificationResult
    from ssimpert.verification.effort import EffortName

BYTES_OF_A_MEBIBYTE = 2**20


@dataclass(frozen=True)
class VerifyRun:
    """The arguments of :func:`ssimpert.verify`, without model and images.

    Attributes:
        constraint: as in :func:`ssimpert.verify`, or a set that needs the model.
        effort, time_limit, memory_limit, attack: as in :func:`ssimpert.verify`.
        region: where pixels may change; None for everywhere.
        options: all options for the record, with defaults filled in.
    """

    constraint: Constraint | FeatureBallSet
    effort: EffortName
    time_limit: float
    memory_limit: int
    attack: bool
    region: Region | None
    options: dict[str, Any]

    @classmethod
    def from_options(
        cls,
        images: list[str],
        constraint_options: ConstraintOptions,
        *,
        effort: EffortName,
        time_limit: float,
        mebibytes: int,
        attack: bool,
        support: list[Path] | None,
        outside: bool,
    ) -> VerifyRun:
        """The run that the options describe, checked before a model is loaded.

        Args:
            images: the images' names.
            constraint_options: the set.
            effort, time_limit, attack: as in :func:`ssimpert.verify`.
            mebibytes: the memory limit.
            support: a mask for all images, or one for each; None for every pixel.
            outside: whether the pixels that are not bright may change instead.

        Raises:
            ProblemError: a constraint is out of range.
            UsageError: an option is out of range, or nothing can be proved over the set.
            InputError: a mask can't be used.
        """
        from ssimpert.validation import check_positive
        from ssimpert.verification.checked_arguments import check_certified_set

        constraint = constraint_options.build()
        with options_are_at_fault():
            check_positive("--time-limit", time_limit)
            if not isinstance(constraint, FeatureBallSet):  # a ball is convex
                check_certified_set(constraint)
        return cls(
            constraint,
            effort,
            time_limit,
            mebibytes * BYTES_OF_A_MEBIBYTE,
            attack,
            region=region_from_options(images, support, outside=outside),
            options={
                **constraint_options.effective(constraint_options.name),
                "effort": effort,
                "time_limit": float(time_limit),
                "memory": mebibytes,
                "attack": attack,
                "outside": outside,
            },
        )

    def resolve(self, model: Classifier) -> dict[str, Any]:
        """The options for the record whose values ``model`` decides.

        Raises:
            UsageError: ``model`` has no layer that an option names.
            InputError: a layer of ``model`` has no rule for its bounds.
        """
        from ssimpert.verification.tracing import trace

        if isinstance(self.constraint, FeatureBallSet):
            with options_are_at_fault():
                self.constraint.check_layers(model)
        trace(model, model.mean.new_full((1, 3, model.input_size, model.input_size), 0.5))
        return {}


def verify_photo(workspace: Workspace, verify_run: VerifyRun) -> ProcessPhoto:
    """What verifies one photo."""

    def process_photo(index: int, image: Tensor, stage: Stage) -> WriteFiles:
        from ssimpert.verification import verify

        result = verify(
            workspace.classifier,
            image,
            set_around(verify_run.constraint, workspace.classifier, image),
            effort=verify_run.effort,
            time_limit=verify_run.time_limit,
            memory_limit=verify_run.memory_limit,
            attack=verify_run.attack,
            support=workspace.support(index),
            observer=lambda number, what, bound: stage(what, 0, None),
        )
        return lambda folder: _write(workspace, index, result, folder)

    return process_photo


def verdict_of(record: dict[str, Any]) -> str:
    """What became of a photo, in a word."""
    return str(record["result"]["verdict"])


def _write(workspace: Workspace, index: int, result: VerificationResult, folder: Path) -> dict[str, Any]:
    """Write the image that changes the label, if there is one, and return what the record says of the photo."""
    from ssimpert.cli.outputs import write_png
    from ssimpert.data import save_array
    from ssimpert.verification import Verdict

    (numbers,) = result.rows()
    name = workspace.classifier.label_name
    written: dict[str, Any] = {"files": []}
    if result.verdict[0] is Verdict.FALSIFIED:
        save_array(result.adversarial, folder / "adversarial.npy")
        # Rounding to 8 bits may undo the change, and may leave the set; the array is exact.
        label = int(workspace.classifier.predict(write_png(result.adversarial, folder)))
        file = {"pixels": "rounded", "success": label != numbers["label"], "label": label, "label_name": name(label)}
        written = {"file": file, "files": ["adversarial.npy", "adversarial.png"]}
    return {
        **workspace.photo_record(index, result.settings),
        "result": numbers
        | {
            "image": workspace.names[index],
            "success": result.verdict[0] is Verdict.VERIFIED,
            "label_name": name(numbers["label"]),
            "tightest_class_name": name(numbers["tightest_class"]),
            "adversarial_label_name": name(numbers["adversarial_label"]),
            "class_bound": result.class_bound[0].tolist(),
        },
        **written,
        "seconds": numbers["seconds"],
    }
