"""What comes out of a study: its records as pivots, curves and comparisons, with intervals and tests."""
