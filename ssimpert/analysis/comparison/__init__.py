"""``compare``: the maps of a perturbation against a class activation map, beside controls."""
