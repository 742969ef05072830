"""A load benchmark that checks itself: what was sent, what came back, and whether the figures can be right.

    plan ── senders ── loops ── samples ── metrics ── checks ── report

``run`` puts them together; ``calibrate`` measures what the planner wants.
"""
