"""What is tried before a release: the distribution (``try_distribution``) and all Pythons (``all_pythons``)."""
