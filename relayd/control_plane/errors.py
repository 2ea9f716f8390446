"""What can go wrong, in the control plane's own terms; the HTTP side alone knows which status each is."""


class ControlPlaneError(Exception):
    """The text is one sentence that names the thing and the way out; callers of the API are shown it."""


class InvalidRequestError(ControlPlaneError):
    """The request can never succeed as it is."""


class NotFoundError(ControlPlaneError):
    """There is no such session, user, node or key."""


class ConflictError(ControlPlaneError):
    """The request contradicts what is there already."""


class NodeTakenError(ConflictError):
    """Another relay is heard under the same name."""


class UnauthenticatedError(ControlPlaneError):
    """No key, or none that is known."""


class ForbiddenError(ControlPlaneError):
    """The key lacks the scope."""


class TooLargeError(ControlPlaneError):
    """The body is longer than is taken."""


class TooSlowError(ControlPlaneError):
    """The store was asked for more than it can tell in the time there is."""


class StoreUnavailableError(ControlPlaneError):
    """The store cannot be read or written now; trying again later may help."""


class StoreTakenError(Exception):
    """Another control plane serves the store; the text is one line for the operator."""


class StoreUnusableError(Exception):
    """The store cannot be opened at all; the text is one line for the operator."""
