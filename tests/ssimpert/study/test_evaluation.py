"""A record is what single calls of the library give for its image; errors never become records."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

import solvers
import ssimpert
from ssimpert.errors import InputError
from ssimpert.models import Classifier
from ssimpert.study import Study, cells, evaluation
from ssimpert.study.evaluation import CHANGED, OUT_OF_MEMORY, StudyEvaluator
from ssimpert.study.keys import unit_seed
from ssimpert.study.schema import PROVENANCE, deterministic_columns, record_schema
from tests.ssimpert.study.small_study import SIDE, WINDOWS, ToyDataset, keys_of, small, small_study, task_of

__all__ = ["small"]

OUTCOME = (
    "success", "label_before", "label_after", "margin_before", "margin_after", "l2_norm", "linf_norm", "ssim",
    "min_window_ssim", "contrast_distance", "violation", "steps", "shrink_share", "message",
)  # fmt: skip


def image_of(index: int) -> Tensor:
    return ToyDataset().item(index, SIDE).image[None]


def records_of(study: Study, items: tuple[int, ...], cell: int = 0) -> list[dict[str, Any]]:
    evaluator = StudyEvaluator(study, device="cpu")
    result = evaluator(task_of(evaluator, items, cell))
    assert result.failures == []
    assert [record["item"] for record in result.records] == [f"toy-{item}" for item in items]
    return result.records


def same(first: Any, second: Any) -> bool:
    return first == second or (isinstance(first, float) and math.isnan(first) and math.isnan(second))


def check_outcome(record: dict[str, Any], result: ssimpert.PerturbResult) -> None:
    (row,) = result.rows()
    for name in OUTCOME:
        assert same(record[name], row[name]), name


def check_scores(record: dict[str, Any], view: ssimpert.Comparison, perturbation: str) -> None:
    """Every score of the record is the comparison's, and none of a map or metric that is asked for is missing."""
    expected = {
        ("perturbation" if row.method == perturbation else row.method, row.map, row.metric): row
        for row in view.table().itertuples()
    }
    found = {(row["method"], row["map"], row["metric"]): row for row in record["scores"]}
    assert len(found) == len(record["scores"]) > 0
    assert set(found) == set(expected)
    for key, row in found.items():
        assert same(row["value"], expected[key].value), key
        assert same(row["p_value"], expected[key].p_value), key


def test_a_record_equals_single_calls(small: Classifier) -> None:
    study = small_study(formulations=WINDOWS, analysis={})
    (record,) = records_of(study, (2,))
    image = image_of(2)
    result = ssimpert.perturb(small, image, solvers.WindowSSIM(0.9, solvers.Window(8, 8, "full")), steps=2)
    check_outcome(record, result)
    assert record["rel_gap"] == result.history[-1]["rel_gap"]  # type: ignore[typeddict-item]
    view = ssimpert.compare(small, image, result, seed=unit_seed(0, record["key"]))
    check_scores(record, view, result.name)
    assert record["seed"] == unit_seed(0, record["key"])
    assert (record["data"], record["model"], record["formulation"], record["level"]) == (
        "toy", "small", "windows", 0.9,
    )  # fmt: skip
    assert record["labels"] == [("scene", "noise")]


FORMULATIONS: dict[str, tuple[dict[str, Any], Any]] = {
    "least level": (
        {"constraint": "l2", "radius": 0.1, "budget": "minimal", "steps": 4, "rounds": 3, "candidates": 2},
        lambda model, image: ssimpert.minimal_budget(
            model, image, solvers.LpBall(2, 0.1), steps=4, rounds=3, candidates=2
        ),
    ),
    "released": (
        {"constraint": "global-ssim", "distance": 0.01, "faithful": True, "steps": 2},
        lambda model, image: ssimpert.perturb(
            model, image, solvers.GlobalSSIM(0.01), recentred=True, faithful=True, steps=2
        ),
    ),
    "goal": (
        {"constraint": "linf", "radius": "8/255", "target": "elk", "margin_by": 0.1, "stop_at_success": False,
         "engine": "frank_wolfe", "steps": 2},
        lambda model, image: ssimpert.perturb(
            model, image, solvers.LpBall(math.inf, 8 / 255), margin=ssimpert.Targeted("elk").by(0.1), steps=2,
            engine="frank_wolfe", stop_at_success=False,
        ),
    ),
    "quantised": (
        {"constraint": "l2", "radius": 1, "quantize": True, "steps": 2, "shrink": False, "margin": "least-likely"},
        lambda model, image: ssimpert.perturb(
            model, image, solvers.LpBall(2, 1.0), steps=2, quantize=True, shrink=False, margin=ssimpert.LeastLikely(),
        ),
    ),
    "perceptual ball": (
        {"constraint": "perceptual-ball", "steps": 3, "gamma": 10, "layers": ["0"]},
        lambda model, image: ssimpert.perceptual_ball_lbfgs(model, image, gamma=10, iterations=3, layers=["0"]),
    ),
    "feature distance": (
        {"constraint": "perceptual-ball-constrained", "steps": 2, "radius": 0.2, "layers": ["0"], "max_iter": 20},
        lambda model, image: ssimpert.perceptual_ball_constrained(
            model, image, 0.2, steps=2, layers=["0"], settings={"eps_rel": 0.03, "max_iter": 20}
        ),
    ),
    "feature ball": (
        {"constraint": "feature-ball", "steps": 1, "radius": 0.2, "layers": ["0"], "max_iter": 20, "l2_radius": 2},
        lambda model, image: ssimpert.perturb(
            model,
            image,
            solvers.Intersection([
                solvers.FeatureBall(
                    0.2, ssimpert.feature_jacobian(ssimpert.deep_features(model, ["0"], "unit-channel"), image)
                ),
                solvers.LpBall(2, 2.0),
            ]),
            steps=1,
            settings={"eps_rel": 0.03, "max_iter": 20},
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULATIONS)
def test_every_kind_of_formulation_is_what_its_function_gives(name: str, small: Classifier) -> None:
    options, single = FORMULATIONS[name]
    study = small_study(formulations={"name": name, **options}, analysis={"metrics": []})
    (record,) = records_of(study, (1,))
    result = single(small, image_of(1))
    check_outcome(record, result)
    assert record["scores"] == []
    if isinstance(result, ssimpert.MinimalBudgetResult):
        assert same(record["found_level"], float(result.level))
        assert record["found_level_unit"] == "radius"
    elif isinstance(result, ssimpert.PerceptualBallResult):
        assert (record["found_level"], record["found_level_unit"]) == (float(result.gamma), "gamma")
    else:
        assert math.isnan(record["found_level"])
    verdict = result.verdict[0] if isinstance(result, ssimpert.QuantizedResult) else ""
    assert record["verdict"] == verdict


@pytest.mark.parametrize("attack", [{"name": "ddn", "passes": 3}, {"name": "l2-pgd", "passes": 3, "radius": 0.5}])
def test_an_attack_is_what_its_function_gives(attack: dict[str, Any], small: Classifier) -> None:
    pytest.importorskip("foolbox")
    study = small_study(formulations=(), attacks=attack, analysis={"metrics": []})
    for item in (0, 1):
        (record,) = records_of(study, (item,))
        image = image_of(item)
        result = ssimpert.foolbox_baseline(
            small, image, attack["name"], steps=3, radius=attack.get("radius"), seed=record["seed"]
        )
        check_outcome(record, result)
        assert (record["attack"], record["passes"], record["formulation"]) == (attack["name"], 3, "")


def test_no_record_depends_on_its_batch(small: Classifier) -> None:
    study = small_study(analysis={"controls": ["l2"], "attributions": ["smooth_grad"], "sanity": True})
    alone = [records_of(study, (item,))[0] for item in range(3)]
    for record, single in zip(records_of(study, (0, 1, 2)), alone, strict=True):
        for name in deterministic_columns(record_schema(study)):
            if name not in ("scores", "rel_gap"):
                value = single[name]
                close = pytest.approx(value, rel=1e-4, abs=1e-6, nan_ok=True) if isinstance(value, float) else value
                assert record[name] == close, name
        for row, other in zip(record["scores"], single["scores"], strict=True):
            assert row == other | {"value": pytest.approx(other["value"], rel=1e-3, abs=1e-3, nan_ok=True),
                                   "p_value": pytest.approx(other["p_value"], abs=0.02, nan_ok=True)}  # fmt: skip
        assert (record["batch"], single["batch"]) == (3, 1)


def test_the_same_task_gives_the_same_bytes_in_another_process_state(small: Classifier) -> None:
    study = small_study(analysis={"attributions": ["rise"], "controls": []})
    schema = record_schema(study)
    columns = list(deterministic_columns(schema))
    first = pa.Table.from_pylist(records_of(study, (3,)), schema=schema).select(columns)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    second = pa.Table.from_pylist(records_of(study, (3,)), schema=schema).select(columns)
    first_file, second_file = pa.BufferOutputStream(), pa.BufferOutputStream()
    for table, sink in ((first, first_file), (second, second_file)):
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    assert first_file.getvalue().equals(second_file.getvalue())


def test_records_have_the_columns_of_the_schema_and_keep_their_arrays(small: Classifier) -> None:
    image = image_of(0)
    for arrays in ("none", "delta", "images"):
        study = small_study(out={"arrays": arrays}, analysis={"metrics": ["localization"], "controls": []})
        schema = record_schema(study)
        records = records_of(study, (0,))
        assert set(records[0]) == set(schema.names)
        table = pa.Table.from_pylist(records, schema=schema)
        assert table.column("labels").to_pylist() == [[("scene", "noise")]]
        assert set(PROVENANCE) <= set(schema.names)
        if arrays == "none":
            assert "array_shape" not in schema.names
            continue
        result = ssimpert.perturb(small, image, solvers.LpBall(2, 0.5), steps=2)
        dtype = np.float16 if arrays == "delta" else np.uint8
        values = np.frombuffer(table.column(arrays)[0].as_py(), dtype).reshape(table.column("array_shape")[0].as_py())
        expected = result.delta if arrays == "delta" else result.adversarial * 255
        assert np.abs(values - expected[0].numpy()).max() <= (1e-3 if arrays == "delta" else 0.5)


def test_objects_are_measured_by_hand(small: Classifier) -> None:
    """The square of a toy image has its box at (4, 4, 12, 12)."""
    metrics = ["pointing", "localization"]
    study = small_study(analysis={"metrics": metrics, "controls": ["gaussian"], "maps": ["rms"]})
    (record,) = records_of(study, (0,))
    assert (record["object_class"], record["object_difficult"]) == ("square", False)
    scores = {(row["method"], row["map"], row["metric"]): row["value"] for row in record["scores"]}
    assert {metric for _, _, metric in scores} == {"energy_over_area", "pointing_hit", "best_box_iou"}
    assert {(method, kind) for method, kind, _ in scores} == {
        ("perturbation", "rms"), ("centred Gaussian", "centred_gaussian"),
    }  # fmt: skip
    # The middle of the image, (15.5, 15.5), is 4.5 pixels away from the square's corner in both directions.
    assert scores["centred Gaussian", "centred_gaussian", "pointing_hit"] == 1
    curves = {(row["method"], row["kind"]): row["values"] for row in record["box_curves"]}
    best = max(curves["centred Gaussian", "value"])
    assert best == scores["centred Gaussian", "centred_gaussian", "best_box_iou"]
    # At alpha 0 every pixel is kept: the box is the image, and 64 of its 1024 pixels are the square's.
    assert curves["centred Gaussian", "value"][0] == 64 / 1024
    assert [len(curves["perturbation", kind]) for kind in ("iou_largest", "iou_best", "value", "energy", "mean")] == [
        255, 255, 20, 20, 21,
    ]  # fmt: skip


def test_errors_become_failures_with_their_reason(small: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    study = small_study(data={"kind": "toy", "broken": 1}, analysis={"metrics": []})
    evaluator = StudyEvaluator(study, device="cpu")
    task = task_of(evaluator, (0, 1, 2))
    result = evaluator(task)
    assert [record["item"] for record in result.records] == ["toy-0", "toy-2"]
    (failure,) = result.failures
    assert (failure.key, failure.cell, failure.item, failure.tries) == (task.keys[1], 0, 1, 1)
    assert failure.reason == "unexpected OSError: the disk is on fire"
    assert failure.error == "OSError: the disk is on fire"
    assert result.provenance["worker"] == result.records[0]["worker"]
    assert result.provenance["versions"]["torch"] == torch.__version__


def test_units_that_fail_together_are_tried_one_by_one(small: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    run = evaluation.run_formulation
    bad = image_of(1)[0]
    batches: list[int] = []

    def fails_with(section: Any, level: Any, model: Classifier, images: Tensor) -> Any:
        batches.append(len(images))
        if any(torch.equal(image, bad) for image in images):
            raise InputError("image 1 is cursed")
        return run(section, level, model, images)

    monkeypatch.setattr(evaluation, "run_formulation", fails_with)
    study = small_study(analysis={"metrics": []})
    evaluator = StudyEvaluator(study, device="cpu")
    result = evaluator(task_of(evaluator, (0, 1, 2)))
    assert batches == [3, 1, 1, 1]
    assert [record["item"] for record in result.records] == ["toy-0", "toy-2"]
    assert [(failure.item, failure.reason, failure.tries) for failure in result.failures] == [
        (1, "image 1 is cursed", 2)
    ]


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_where_memory_runs_out_the_batch_is_halved(
    error: Exception, small: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = evaluation.run_formulation
    batches: list[int] = []

    def needs_memory(limit: int, section: Any, level: Any, model: Classifier, images: Tensor) -> Any:
        batches.append(len(images))
        if len(images) > limit:
            raise error
        return run(section, level, model, images)

    study = small_study(analysis={"metrics": []})
    evaluator = StudyEvaluator(study, device="cpu")
    task = task_of(evaluator, (0, 1, 2, 3, 4))
    monkeypatch.setattr(evaluation, "run_formulation", lambda *args: needs_memory(2, *args))
    result = evaluator(task)
    assert batches == [5, 3, 2, 1, 2]
    assert [record["batch"] for record in result.records] == [2, 2, 1, 2, 2]
    assert result.failures == []
    monkeypatch.setattr(evaluation, "run_formulation", lambda *args: needs_memory(0, *args))
    failed = evaluator(task_of(evaluator, (0,)))
    assert failed.records == []
    assert failed.failures[0].reason == OUT_OF_MEMORY


def test_an_image_or_a_model_that_changed_since_it_was_listed_is_refused(
    small: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_study(analysis={"metrics": []})
    evaluator = StudyEvaluator(study, device="cpu")
    task = task_of(evaluator, (0,))
    changed = small_study(data={"kind": "toy", "salt": 1}, analysis={"metrics": []})
    result = StudyEvaluator(changed, device="cpu")(task)
    assert (result.records, result.failures[0].reason) == ([], CHANGED)
    retrained = copy.deepcopy(small)
    retrained.network[0].bias.data += 1e-3
    monkeypatch.setattr("ssimpert.study.loaded_model.load_model", lambda *_, **__: retrained)
    result = StudyEvaluator(study, device="cpu")(task)
    assert (result.records, result.failures[0].reason) == ([], CHANGED)


def test_an_evaluator_travels_without_its_model_and_keeps_one_at_a_time(
    small: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []

    def load(name: str, *_: Any, **__: Any) -> Classifier:
        loads.append(name)
        return small

    monkeypatch.setattr("ssimpert.study.loaded_model.load_model", load)
    models = [{"name": "small"}, {"name": "other"}]
    study = small_study(models=models, formulations=[WINDOWS | {"threshold": [0.9, 0.8]}], analysis={"metrics": []})
    evaluator = StudyEvaluator(study, device="cpu")
    first = evaluator(task_of(evaluator, (0,)))
    assert loads == ["small"]
    travelled = pickle.loads(pickle.dumps(evaluator))
    assert len(pickle.dumps(evaluator)) < 10_000
    assert travelled(task_of(travelled, (0,), cell=1)).failures == []
    assert loads == ["small", "small"]
    assert travelled(task_of(travelled, (0,), cell=0)).records[0]["key"] == first.records[0]["key"]
    assert loads == ["small", "small"]
    assert travelled(task_of(travelled, (0,), cell=2)).records[0]["model"] == "other"
    assert loads == ["small", "small", "other"]


def test_items_of_several_data_sets_follow_one_another(small: Classifier) -> None:
    data = [{"kind": "toy", "n": 2}, {"kind": "toy", "name": "more", "n": 3, "salt": 1}]
    study = small_study(data=data, analysis={"metrics": []})
    evaluator = StudyEvaluator(study, device="cpu")
    (cell,) = cells(study)
    keys = keys_of(StudyEvaluator(small_study(data=data[1], analysis={"metrics": []}), device="cpu"), cell, (1,))
    task = task_of(evaluator, (0,))
    result = evaluator(type(task)(0, (0, 3), (*task.keys, *keys)))
    assert [(record["data"], record["item"]) for record in result.records] == [("toy", "toy-0"), ("more", "toy-1")]
    placed = StudyEvaluator(study, places=[(1, 1), (0, 0)], device="cpu")
    assert placed(type(task)(0, (1, 0), (*task.keys, *keys))).failures == []


def test_the_seed_of_repeats_differs_and_the_perturbation_does_not(small: Classifier) -> None:
    study = small_study(repeats=2, analysis={"controls": []})
    (first,), (second,) = records_of(study, (0,), 0), records_of(study, (0,), 1)
    assert (first["repeat"], second["repeat"]) == (0, 1)
    assert first["seed"] != second["seed"]
    assert first["key"] != second["key"]
    assert first["margin_after"] == second["margin_after"]
    values = [[row["p_value"] for row in record["scores"]] for record in (first, second)]
    assert values[0] != values[1]


def test_a_photo_through_the_embedded_classifier_equals_the_single_call(model: Classifier) -> None:
    study = Study(
        "photo",
        data={"kind": "samples", "names": ["coffee"]},
        models={"name": "efficientnet-lite0"},
        formulations={"name": "released", "constraint": "global-ssim", "faithful": True, "steps": 1},
        analysis={"metrics": []},
    )
    evaluator = StudyEvaluator(study, device="cpu")
    (record,) = evaluator(task_of(evaluator, (0,))).records
    image = ssimpert.load_image("coffee", size=224)
    result = ssimpert.perturb(model, image, solvers.GlobalSSIM(0.005), recentred=True, faithful=True, steps=1)
    check_outcome(record, result)
    assert record["item"] == "coffee"
