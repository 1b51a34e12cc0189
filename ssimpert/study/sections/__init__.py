"""The sections of a study: what each key means, and which values it takes."""
