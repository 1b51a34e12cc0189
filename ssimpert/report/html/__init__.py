"""A report as one HTML file that opens from the disk, without a network.

Found here: what a report shows, as plain values (``view``), the readers that make them from a folder of results
(``run_report``, ``result_folder``, ``photo_view``, ``run_tables``, ``solver_plot``) and from a study
(``study_report``), arrays as pictures (``pictures``), plots (``line_plot``), words for numbers and maps
(``numbers_in_words``, ``map_meanings``), and the page (``page``, ``template``) with its script and style sheet
(``bundle``).
"""
