"""The engines of ``perturb``: how an image moves from one linear step to the next."""
