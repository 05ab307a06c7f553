"""Benchmarks: one command runs all, peers side by side in the same run. See docs/performance.md §1."""
