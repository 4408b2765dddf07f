"""How asking the remediation service can fail. Apart from `_http`, whose imports only a started agent needs."""


class ControllerError(Exception):
    """The remediation service could not be asked, or its answer is no answer."""


class RefusedError(ControllerError):
    """Nobody listens there: trying again soon costs nothing."""


class UnauthorizedError(ControllerError):
    """The remediation service does not take the token (401 or 403)."""


class NeverError(ControllerError):
    """The remediation service will not take this very message, now or later (400, 413 and their like)."""
