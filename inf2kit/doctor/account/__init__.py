"""Checks that ask AWS."""
