"""Data sets as studies read them: item by item, each with its identity, its annotation and its frame."""
