"""What ends the program, each with its exit status. The texts are for people: what is wrong, and the way out."""

EXIT_USAGE = 64
EXIT_UNAVAILABLE = 69
EXIT_CONFIGURATION = 78


class FatalError(Exception):
    """Ends the program with `exit_code`; the text is one clear line a mistake."""

    exit_code = 1


class UsageError(FatalError):
    """The command line asks for something that is not there."""

    exit_code = EXIT_USAGE


class RefusedError(FatalError):
    """A relay runs, and does not answer this user."""


class ConfigurationError(FatalError):
    """The configuration cannot be used; each line names the key."""

    exit_code = EXIT_CONFIGURATION


class UnavailableError(FatalError):
    """A port or the fast path is not available."""

    exit_code = EXIT_UNAVAILABLE
