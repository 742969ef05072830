"""The engine: one process owns the accelerator, and everyone else talks to it over a Unix socket.

    request ─► gate ─► model server ─► worker (inference.py) ─► server ─► scheduler ─► slots ─► backend
                 └────────── streams ──────────────────────────►┘

``supervisor`` starts ``server`` and ``gate`` and keeps them running.
"""
