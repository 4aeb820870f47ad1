"""Side-by-side measurement of guest agents. See docs/benchmarks.md."""
