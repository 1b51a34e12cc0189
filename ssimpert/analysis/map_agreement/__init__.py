"""How far two maps agree: metrics, and p-values from circular shifts."""
