"""Class activation maps and other attributions: what a classifier looks at."""
