"""Containers without Docker: the processes of the image, on this machine."""
