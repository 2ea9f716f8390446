"""The ports on uvloop: the reference, and the fallback where nothing faster runs."""
