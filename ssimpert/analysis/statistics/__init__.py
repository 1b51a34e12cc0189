"""Tables of many images: summaries, intervals, paired tests, files."""

from ssimpert.analysis.statistics.bootstrap import Interval, bootstrap_interval
from ssimpert.analysis.statistics.paired_tests import SignFlipTest, cohens_dz, holm, rank_biserial, sign_flip_test
from ssimpert.analysis.statistics.summaries import paired_differences, summarize
from ssimpert.analysis.statistics.table import RUN_COLUMNS, agreement_table, check_table

__all__ = [
    "RUN_COLUMNS",
    "Interval",
    "SignFlipTest",
    "agreement_table",
    "bootstrap_interval",
    "check_table",
    "cohens_dz",
    "holm",
    "paired_differences",
    "rank_biserial",
    "sign_flip_test",
    "summarize",
]
