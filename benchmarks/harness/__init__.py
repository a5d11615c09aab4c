"""What the benchmarks share: contestants in processes, and a report."""
