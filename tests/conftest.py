"""What holds for all tests."""

from hypothesis import settings

# A busy machine is no failure: speed is measured by the benchmarks, not by the tests.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
