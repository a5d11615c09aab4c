"""What the benchmarks measure, each in a process of its own.

A module here runs as `python -m contestants.NAME SETTINGS`, started by
`harness.contest.Worker`.
"""
