"""The gateway owns the endpoint's port: ``/ping``, ``/metrics``, admission, streams, and an orderly shutdown.

request -> gateway -> invocations -> responses -> model server -> worker (inference.py) -> engine
                                        \\-------- stream: true -------------------------->/
"""
