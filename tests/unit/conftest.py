"""What holds for every unit test."""

from hypothesis import settings

# A machine that is busy elsewhere is no failure.
settings.register_profile("portico", deadline=None)
settings.load_profile("portico")
