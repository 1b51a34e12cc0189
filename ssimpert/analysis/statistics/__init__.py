"""Tables of many images: summaries, intervals, paired tests, files."""
