"""The engine: one process owns the accelerator, and the others talk to it over a Unix socket.

    call -> server -> input_processor -> scheduler -> backend -> sampler -> detokenizer -> events

``in_process`` is the same engine in a caller's own process.
"""
