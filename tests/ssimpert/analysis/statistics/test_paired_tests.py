"""Sign flips by enumeration, Holm by hand, effect sizes by loops and scipy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from ssimpert.analysis.statistics.paired_tests import cohens_dz, holm, rank_biserial, sign_flip_test
from ssimpert.errors import InputError


def enumerated(differences: list[float]) -> float:
    observed = abs(math.fsum(differences))
    patterns = list(itertools.product((1, -1), repeat=len(differences)))
    hits = sum(
        abs(math.fsum(s * d for s, d in zip(pattern, differences, strict=True))) >= observed - 1e-9
        for pattern in patterns
    )
    return hits / len(patterns)


@pytest.mark.parametrize(
    "differences",
    [
        [0.3],
        [0.3, -0.1, 0.2],
        [0.1, 0.1, 0.1, 0.1],
        [0.1, 0.2, 0.3, -0.6, 0.1],
        [0.0, 0.0, 0.5, 0.4],
        [0.0, 0.0],
        np.random.default_rng(0).normal(0.3, size=9).tolist(),
    ],
)
def test_the_exact_p_value_is_that_of_all_sign_flips(differences: list[float]) -> None:
    found = sign_flip_test(differences)
    assert found.p_value == enumerated(differences)
    assert (found.method, found.permutations, found.seed) == ("exact", 2 ** len(differences), None)


def test_exact_equals_scipys_permutation_test() -> None:
    differences = np.random.default_rng(2).normal(0.4, size=10)
    expected = stats.permutation_test(
        (differences, np.zeros(10)), lambda a, b: (a - b).mean(), permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip_test(differences).p_value == pytest.approx(expected.pvalue)


def test_sixteen_are_enumerated_and_seventeen_drawn() -> None:
    differences = np.random.default_rng(4).normal(0.3, size=17)
    exact, drawn = sign_flip_test(differences[:16]), sign_flip_test(differences, permutations=500, seed=3)
    assert (exact.method, exact.permutations) == ("exact", 2**16)
    assert (drawn.method, drawn.permutations, drawn.seed) == ("monte carlo", 500, 3)
    assert (drawn.p_value * 501) % 1 == pytest.approx(0, abs=1e-9)
    assert drawn == sign_flip_test(differences, permutations=500, seed=3)
    many = sign_flip_test(differences, permutations=100_000).p_value
    sums = np.zeros(1)
    for value in differences:
        sums = np.concatenate([sums + value, sums - value])
    assert many == pytest.approx((np.abs(sums) >= abs(differences.sum()) - 1e-9).mean(), abs=0.004)


def test_drawn_p_values_are_never_zero_and_opposites_agree() -> None:
    assert sign_flip_test(np.ones(40), permutations=999).p_value == 1 / 1000
    differences = np.random.default_rng(5).normal(0.2, size=40)
    assert sign_flip_test(differences).p_value == sign_flip_test(-differences).p_value


def test_p_values_are_uniform_when_nothing_differs() -> None:
    generator = np.random.default_rng(6)
    drawn = [sign_flip_test(generator.normal(size=20), permutations=199, seed=i).p_value for i in range(300)]
    exact = [sign_flip_test(generator.normal(size=9)).p_value for _ in range(300)]
    for p_values in (drawn, exact):
        assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_a_cluster_keeps_or_loses_its_sign_as_one() -> None:
    differences, clusters = [0.3, 0.2, -0.4, 0.5, 0.1, 0.6], ["a", "b", "a", "c", "b", "c"]
    found = sign_flip_test(differences, clusters=clusters)
    assert found.p_value == enumerated([0.3 - 0.4, 0.2 + 0.1, 0.5 + 0.6])
    assert found.units == 3
    assert found.p_value > sign_flip_test(differences).p_value


def test_no_differences_have_no_p_value() -> None:
    found = sign_flip_test([])
    assert math.isnan(found.p_value)
    assert (found.method, found.permutations) == ("", 0)


def test_holms_adjusted_p_values_are_those_computed_by_hand() -> None:
    """Sorted .005 .01 .03 .04 times 4 3 2 1 = .02 .03 .06 .04; the last is raised to .06."""
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6, 0.9]).tolist() == [1.0, 1.0, 1.0]
    assert holm([0.02]).tolist() == [0.02]
    assert holm([]).tolist() == []
    assert holm([0.01, 0.01, 0.02]).tolist() == pytest.approx([0.03, 0.03, 0.03])
    with_nan = holm([0.01, math.nan, 0.04])
    assert math.isnan(with_nan[1])
    assert with_nan[[0, 2]].tolist() == pytest.approx([0.02, 0.04])


def test_holm_rejects_what_stepping_down_rejects() -> None:
    """At any level: reject the smallest while p_(i) <= level / (m - i + 1), stop at the first that isn't."""
    generator = np.random.default_rng(7)
    for _ in range(50):
        p_values = generator.beta(0.3, 3, size=9).round(2)
        adjusted = holm(p_values)
        for level in (0.013, 0.052, 0.21):
            rejected: set[int] = set()
            for step, index in enumerate(np.argsort(p_values, kind="stable")):
                if p_values[index] > level / (9 - step):
                    break
                rejected.add(int(index))
            assert set(np.flatnonzero(adjusted <= level).tolist()) == rejected


def test_effect_sizes_equal_their_definitions() -> None:
    differences = np.random.default_rng(8).normal(0.2, size=25).round(1) * (np.arange(25) % 9 > 0)
    assert (differences == 0).any()
    expected = stats.ttest_1samp(differences, 0).statistic / math.sqrt(25)
    assert cohens_dz(differences) == pytest.approx(expected)
    nonzero = [d for d in differences.tolist() if d != 0]
    ranks = [sum(abs(b) < abs(a) for b in nonzero) + (sum(abs(b) == abs(a) for b in nonzero) + 1) / 2 for a in nonzero]
    signed = math.fsum(math.copysign(rank, d) for rank, d in zip(ranks, nonzero, strict=True))
    assert rank_biserial(differences) == pytest.approx(signed / math.fsum(ranks))
    assert rank_biserial([0.1, 0.2, 3.0]) == 1
    assert rank_biserial([-0.1, -0.2, 0.0]) == -1


def test_effect_sizes_that_do_not_exist_are_nan() -> None:
    assert math.isnan(cohens_dz([0.3]))
    assert math.isnan(cohens_dz([0.1] * 7))
    assert math.isnan(cohens_dz([0.0, 0.0]))
    assert math.isnan(rank_biserial([0.0, 0.0]))
    assert math.isnan(rank_biserial([]))


def test_errors_name_the_value() -> None:
    with pytest.raises(InputError, match="values must be finite, got inf"):
        sign_flip_test([0.1, math.inf])
    with pytest.raises(InputError, match="permutations must be an integer of at least 1, got 0"):
        sign_flip_test([0.1], permutations=0)
    with pytest.raises(InputError, match=r"seed must be an integer from 0 .*, got None"):
        sign_flip_test([0.1], seed=None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"p_values must lie in \[0, 1\], got 1\.2"):
        holm([0.1, 1.2])
    with pytest.raises(InputError, match=r"p_values must have one axis, \(m,\), got shape \(1, 1\)"):
        holm([[0.1]])
