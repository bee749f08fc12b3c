"""Nothing is asserted by the clock: an example that takes long on a busy machine is no failure of a property."""

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
