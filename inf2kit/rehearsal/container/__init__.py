"""What stands in for the container: the image's processes on this machine, without Docker."""
