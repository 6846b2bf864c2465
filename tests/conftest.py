"""What holds for every test: no settings from the developer's shell, and property tests that don't race the clock."""

import os

from hypothesis import HealthCheck, settings

from protocol.settings import PREFIX

# The same examples everywhere, however busy the machine is; others are looked for with `--hypothesis-profile=explore`.
settings.register_profile("explore", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", settings.get_profile("explore"), derandomize=True, database=None)
settings.load_profile("repeatable")

# Before anything is imported or started: a session-scoped process would inherit them too.
for variable in [variable for variable in os.environ if variable.startswith(PREFIX)]:
    del os.environ[variable]

pytest_plugins = ["tests.postgres", "tests.system.served"]  # started once a session, for whoever asks for them
