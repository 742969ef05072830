"""Keeping the processes of one endpoint alive, and ending them together.

A ``watchdog`` in each worker keeps one ``supervisor`` running; the supervisor keeps the engine and the
gateway running. They share ``run_state`` (files and exit statuses) and ``heartbeat`` (progress in shared
memory).
"""
