"""Does a map rank the pixels that matter? Insertion and deletion."""

from ssimpert.analysis.faithfulness.insertion_deletion import deletion, insertion, insertion_deletion

__all__ = ["deletion", "insertion", "insertion_deletion"]
