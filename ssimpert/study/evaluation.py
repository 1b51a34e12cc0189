"""``StudyEvaluator``: computes the units of a task, with one loaded model that it keeps."""

from __future__ import annotations

import math
import os
import platform
import socket
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor

import solvers
from ssimpert.data.datasets.item import Dataset, Item
from ssimpert.errors import InputError
from ssimpert.linearization import Targeted
from ssimpert.models.forward_passes import ran_out_of_memory, release_cached_memory
from ssimpert.package_versions import package_versions
from ssimpert.perturbation import (
    MinimalBudgetResult,
    PerceptualBallResult,
    PerturbResult,
    QuantizedResult,
    foolbox_baseline,
    l2_control,
)
from ssimpert.perturbation.history import SolverRow
from ssimpert.study.class_labels import class_labels
from ssimpert.study.formulation_run import run_formulation
from ssimpert.study.grid import Cell, cells
from ssimpert.study.keys import cell_digest, unit_key, unit_seed
from ssimpert.study.loaded_model import LoadedModel, load_study_model
from ssimpert.study.sections.analysis import L2_CONTROL
from ssimpert.study.study import Study
from ssimpert.study.tasks import Task, TaskResult, UnitFailure
from ssimpert.study.unit_objects import UnitObjects, unit_objects
from ssimpert.study.unit_scores import box_curve_rows, compare_unit, score_rows

CHANGED = "the image, its annotation, the model or the study changed since the units were listed; list them anew"
OUT_OF_MEMORY = "out of memory with a single image"
# ddn draws noise for a whole batch where a gradient vanishes. One by one, no other image plays a part.
ONE_BY_ONE = ("ddn",)


@dataclass(frozen=True, eq=False)
class Unit:
    """A unit that is about to be computed.

    Attributes:
        position: the item's position in the item index.
        data: the data set, by its position in the study.
        key: the unit's key.
        seed: the unit's seed.
        item: the image with what is known of it.
    """

    position: int
    data: int
    key: str
    seed: int
    item: Item


class StudyEvaluator:
    """Computes the units of tasks. Data sets are opened at the first use, and the last model is kept.

    An evaluator can be pickled: it takes along neither models nor data sets.

    Every error of a unit becomes a :class:`UnitFailure` with its reason. Units that fail together are tried one by one,
    and where memory runs out, the batch is halved.
    """

    def __init__(
        self,
        study: Study,
        *,
        places: Sequence[tuple[int, int]] | None = None,
        device: str = "auto",
    ) -> None:
        """An evaluator of ``study``.

        Args:
            study: the study.
            places: for each position of the item index, the data set and the index in it; default: all items of the
                data sets in the study's order.
            device: where to compute, as for :func:`ssimpert.load_model`.
        """
        self.study, self.places, self.device = study, places, device
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        return {"study": self.study, "places": self.places, "device": self.device}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["study"], places=state["places"], device=state["device"])  # type: ignore[misc]

    def _forget(self) -> None:
        self._cells = cells(self.study)
        self._datasets: dict[int, Dataset] = {}
        self._loaded: tuple[int, LoadedModel] | None = None
        self._ends: list[int] = []

    def __call__(self, task: Task) -> TaskResult:
        """Compute every unit of ``task``: each gets a record or a failure.

        Raises:
            InputError: the model of the cell can't be loaded. No unit of the task is then at fault.
        """
        cell = self._cells[task.cell]
        loaded = self.loaded_model(cell.model)
        digest = cell_digest(self.study, cell, loaded.identity)
        units: list[Unit] = []
        failures: list[UnitFailure] = []
        for position, key in zip(task.items, task.keys, strict=True):
            try:
                units.append(self._unit(position, key, digest, loaded))
            except Exception as error:
                failures.append(_failure(position, key, cell, error, tries=1))
        records: list[dict[str, Any]] = []
        self._run(units, cell, digest, loaded, records, failures, tries=1)
        order = {key: rank for rank, key in enumerate(task.keys)}
        records.sort(key=lambda record: order[record["key"]])
        return TaskResult(records, failures, dict(provenance(loaded.classifier.mean.device)))

    def loaded_model(self, index: int) -> LoadedModel:
        """The model at ``index`` of the study, loaded if it is not the last one used."""
        if self._loaded is None or self._loaded[0] != index:
            self._loaded = None  # two models may not fit into memory
            release_cached_memory()
            self._loaded = (index, load_study_model(self.study.models[index], self.device))
        return self._loaded[1]

    def _unit(self, position: int, key: str, digest: bytes, loaded: LoadedModel) -> Unit:
        data, index = self._place(position)
        item = self._dataset(data).item(index, loaded.input_size)
        if unit_key(digest, item.identity) != key:
            raise InputError(CHANGED)
        return Unit(position, data, key, unit_seed(self.study.seed, key), item)

    def _dataset(self, data: int) -> Dataset:
        if data not in self._datasets:
            self._datasets[data] = self.study.data[data].open()
        return self._datasets[data]

    def _place(self, position: int) -> tuple[int, int]:
        """The data set of an item, and its index there."""
        if self.places is not None:
            return self.places[position]
        if not self._ends:
            self._ends = list(accumulate(len(self._dataset(data)) for data in range(len(self.study.data))))
        data = next(number for number, end in enumerate(self._ends) if position < end)
        return data, position - (self._ends[data - 1] if data else 0)

    def _run(
        self,
        units: list[Unit],
        cell: Cell,
        digest: bytes,
        loaded: LoadedModel,
        records: list[dict[str, Any]],
        failures: list[UnitFailure],
        *,
        tries: int,
    ) -> None:
        """Compute ``units`` together; where that fails, in halves or one by one. Fills ``records`` and ``failures``."""
        if not units:
            return
        try:
            records += self._records(units, cell, digest, loaded)
            return
        except Exception as error:
            if len(units) == 1:
                unit = units[0]
                failures.append(_failure(unit.position, unit.key, cell, error, tries=tries))
                return
            is_memory = _is_memory(error)
        # Outside of the handler, whose traceback would keep the tensors that filled the memory.
        if is_memory:
            release_cached_memory()
        size = (len(units) + 1) // 2 if is_memory else 1
        for start in range(0, len(units), size):
            self._run(units[start : start + size], cell, digest, loaded, records, failures, tries=tries + 1)

    def _records(self, units: list[Unit], cell: Cell, digest: bytes, loaded: LoadedModel) -> list[dict[str, Any]]:
        began = time.perf_counter()
        device = loaded.classifier.mean.device
        images = torch.stack([unit.item.image for unit in units]).to(device)
        result = self._perturbed(units, cell, loaded, images)
        section = self.study.analysis
        with_control = section.measures_maps and L2_CONTROL in section.controls
        control = l2_control(loaded.classifier, images, result) if with_control else None
        shared_seconds = (time.perf_counter() - began) / len(units)
        records = []
        for index, unit in enumerate(units):
            began = time.perf_counter()
            chosen = torch.tensor([index])
            outcome = result if len(units) == 1 else result.select(chosen)
            own_control = control if control is None or len(units) == 1 else control.select(chosen)
            record = self._record(unit, cell, digest, loaded, images[index : index + 1], outcome, own_control)
            record["seconds"] = shared_seconds + time.perf_counter() - began
            record["batch"] = len(units)
            records.append(record)
        return records

    def _perturbed(self, units: list[Unit], cell: Cell, loaded: LoadedModel, images: Tensor) -> PerturbResult:
        if cell.formulation is not None:
            section = self.study.formulations[cell.formulation]
            return run_formulation(section, cell.level, loaded.classifier, images)
        assert cell.attack is not None
        attack = self.study.attacks[cell.attack]

        def run(part: Tensor, seed: int) -> PerturbResult:
            return foolbox_baseline(
                loaded.classifier,
                part,
                attack.name,  # type: ignore[arg-type]
                margin=None if attack.target is None else Targeted(attack.target),
                steps=cell.passes,
                radius=cell.level,
                seed=seed,
            )

        if attack.name not in ONE_BY_ONE:
            return run(images, units[0].seed)
        parts = [run(images[index : index + 1], unit.seed) for index, unit in enumerate(units)]
        return parts[0] if len(parts) == 1 else PerturbResult.concatenate(parts)

    def _record(
        self,
        unit: Unit,
        cell: Cell,
        digest: bytes,
        loaded: LoadedModel,
        image: Tensor,
        result: PerturbResult,
        control: PerturbResult | None,
    ) -> dict[str, Any]:
        """The record of one unit, of its own image (1, 3, S, S) and its results."""
        section, device = self.study.analysis, image.device
        objects = self._objects(unit, loaded, int(result.label_before[0])) if section.needs_objects else None
        record: dict[str, Any] = {
            "key": unit.key,
            "cell": digest.hex(),
            "data": self.study.data[unit.data].label,
            "item": unit.item.name,
            "identity": unit.item.identity,
            **cell.names,
            "seed": unit.seed,
            "labels": list(unit.item.columns.items()),
            **outcome_columns(result),
            "object_class": "" if objects is None else objects.class_name,
            "object_difficult": objects is not None and objects.is_difficult,
            "scores": [],
        }
        if "localization" in section.metrics:
            record["box_curves"] = []
        if section.measures_maps:
            view = compare_unit(loaded.classifier, image, result, section, objects, control=control, seed=unit.seed)
            record["scores"] = score_rows(view, section, objects)
            if objects is not None and "localization" in section.metrics:
                record["box_curves"] = box_curve_rows(view, section, objects)
        record |= array_columns(result, self.study.out.arrays)
        return record | {"writer": "", "worker": worker_name(), "device": str(device)}

    def _objects(self, unit: Unit, loaded: LoadedModel, label: int) -> UnitObjects:
        return unit_objects(unit.item, label, class_labels(self._dataset(unit.data), loaded.classifier.labels))


def outcome_columns(result: PerturbResult) -> dict[str, Any]:
    """The columns :data:`ssimpert.study.schema.OUTCOME` of a single image, apart from its objects."""
    (row,) = result.rows()
    gaps = [cast("SolverRow", step)["rel_gap"] for step in result.history if "rel_gap" in step]
    level, unit = math.nan, ""
    if isinstance(result, MinimalBudgetResult):
        level, unit = float(result.level[0]), str(result.settings["level"])
    elif isinstance(result, PerceptualBallResult):
        level, unit = float(result.gamma[0]), "gamma"
    names = (
        "success", "label_before", "label_after", "margin_before", "margin_after", "l2_norm", "linf_norm", "ssim",
        "min_window_ssim", "contrast_distance", "violation", "steps", "shrink_share", "message",
    )  # fmt: skip
    return {name: row[name] for name in names} | {
        "rel_gap": float(gaps[-1]) if gaps else math.nan,
        "found_level": level,
        "found_level_unit": unit,
        "verdict": result.verdict[0] if isinstance(result, QuantizedResult) else "",
    }


def array_columns(result: PerturbResult, arrays: str) -> dict[str, Any]:
    """The arrays of a single image that a study keeps: bytes in the order (C, H, W), and the shape."""
    if arrays == "none":
        return {}
    if arrays == "delta":
        values = result.delta[0].to(torch.float16)
    else:
        values = (result.adversarial[0] * 255).round().to(torch.uint8)
    return {arrays: values.cpu().numpy().tobytes(), "array_shape": list(values.shape)}


def worker_name() -> str:
    """The process that computes, by its host and its number."""
    return f"{socket.gethostname()}-{os.getpid()}"


@cache
def provenance(device: torch.device) -> dict[str, Any]:
    """Where a task was computed: host, process, device and versions, as plain values."""
    is_cuda = device.type == "cuda"
    return {
        "worker": worker_name(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if is_cuda else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **package_versions()},
    }


def _is_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and ran_out_of_memory(error))


def _failure(position: int, key: str, cell: Cell, error: Exception, *, tries: int) -> UnitFailure:
    last_line = traceback.format_exception_only(error)[-1].strip()
    if _is_memory(error):
        reason = OUT_OF_MEMORY
    elif isinstance(error, (InputError, solvers.ProblemError, solvers.MethodError)):
        reason = str(error)
    else:
        reason = f"unexpected {last_line}"
    return UnitFailure(key=key, cell=cell.index, item=position, reason=reason, error=last_line, tries=tries)
