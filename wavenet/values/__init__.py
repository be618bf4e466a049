"""Checks of values that come from outside: integers, sizes, and text for a terminal."""
