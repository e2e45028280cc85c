"""How tests run here: no clock decides, the examples are the same each time, and so is the width.

A process that runs a share of the tests is told how wide its parent's terminal is; what the program
prints where it knows no terminal is for each test to say.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "sqlstable",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("sqlstable")

# Nobody knows a terminal's width but the tests that say one.
os.environ.pop("COLUMNS", None)
