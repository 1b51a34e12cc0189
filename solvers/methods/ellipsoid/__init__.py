"""The method ``ellipsoid``: balls of deep features."""
