"""The one error of the benchmark: something that makes a figure worthless."""


class BenchError(Exception):
    """What went wrong and what to do about it. The run ends without a figure."""
