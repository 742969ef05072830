r"""The engine: one process owns the accelerator, and the others talk to it over a Unix socket.

    request -> gateway -> model server -> worker (inference.py) -> server -> scheduler -> backend
                  \------------- stream: true ------------------>/

``supervisor`` starts ``server`` and ``gateway`` and keeps them running.
"""
