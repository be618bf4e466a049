"""Benchmarks of sampling, training and live processing, each beside a reference."""
