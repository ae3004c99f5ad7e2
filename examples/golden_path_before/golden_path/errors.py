"""What the service answers when it cannot do what was asked; each error knows its HTTP status."""

from __future__ import annotations


class ApplicationError(Exception):
    """Base of the errors that are told to the client as they are."""

    status = 500


class NotSignedIn(ApplicationError):
    """The request carries no token, or one that this service did not issue."""

    status = 401


class NotFound(ApplicationError):
    """There is no such thing."""

    status = 404


class Forbidden(ApplicationError):
    """There is such a thing, and it is somebody else's."""

    status = 403


class Refused(ApplicationError):
    """The request makes no sense as it is."""

    status = 422


class CircuitOpen(ApplicationError):
    """The database failed several times and is left alone for a while."""

    status = 503
