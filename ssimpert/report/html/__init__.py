"""A report as one HTML file that opens from the disk, without a network.

Found here: what a report shows, as plain values (``view``); a folder of results (``result_folder``) and its report
(``report_of_run``, ``run_tables``); one photo of it (``photo_view``, ``photo_words``, ``photo_facts``,
``photo_pictures``, ``photo_plots``, ``solver_plot``); a study (``report_of_study``); arrays as pictures (``pictures``),
plots (``line_plot``), words for numbers and maps (``numbers_in_words``, ``map_meanings``); and the page (``page``,
``template``) with its script and style sheet (``bundle``).
"""

from ssimpert.report.html.page import report_page, write_report
from ssimpert.report.html.report_of_run import run_report
from ssimpert.report.html.report_of_study import UnitCounts, study_report

__all__ = ["UnitCounts", "report_page", "run_report", "study_report", "write_report"]
