"""What can go wrong, as types.

RemediationError
├── NotJSONError            the webhook's body is not JSON: it can never be right (400)
├── StoreUnavailableError   nothing can be written now: the sender should come again (503)
│   └── StoreLockedError    another process has this database
├── SchemaError             the database was written by a newer version
├── SourceError             Prometheus or Alertmanager did not answer, or answered nonsense
│   └── UnreachableError    it gave no answer at all: asking it more now only costs time
├── NotFoundError           no such incident or handler (404)
└── ConflictError           the incident is not in a state for that (409)

`policy.PolicyError` stands beside its loader.
"""


class RemediationError(Exception):
    """Base of everything that this package raises on purpose."""


class NotJSONError(RemediationError):
    """A webhook body that is not JSON."""


class StoreUnavailableError(RemediationError):
    """The store cannot commit now; the text says why. Nothing of the call was kept."""


class StoreLockedError(StoreUnavailableError):
    """Another process holds the database."""


class SchemaError(RemediationError):
    """The database's schema is newer than this program."""


class SourceError(RemediationError):
    """A source of truth gave no usable answer. Whoever asked must not act on a guess."""


class UnreachableError(SourceError):
    """A source of truth gave no answer at all."""


class NotFoundError(RemediationError):
    """No such incident, handler or policy entry."""


class ConflictError(RemediationError):
    """The thing exists, but is not in a state in which this may be done to it."""
