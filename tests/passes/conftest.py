"""Settings of the property tests in this folder."""

from hypothesis import HealthCheck, settings

# Test machines are shared: how long a draw takes says nothing about the code.
settings.register_profile("passes", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("passes")
