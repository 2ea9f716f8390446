from hypothesis import HealthCheck, settings

# Derandomized: the same examples every time, so that a failure elsewhere is a failure here.
settings.register_profile(
    "quick",
    max_examples=100,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("quick")
