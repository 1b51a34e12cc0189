"""One propagation rule a file: how a layer bounds its output by linear functions of its inputs."""
