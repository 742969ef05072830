"""Figures, never asserted: each is a ratio of things measured side by side in one run on one machine."""
