"""Programs that measure this project; see docs/benchmarks.md."""
