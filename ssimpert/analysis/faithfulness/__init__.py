"""Does a map rank the pixels that matter? Insertion and deletion."""
