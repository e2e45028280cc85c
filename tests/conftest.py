"""How Hypothesis runs here: no clock decides, and the same examples each time."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "sqlstable",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("sqlstable")
