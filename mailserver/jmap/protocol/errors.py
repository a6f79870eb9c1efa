"""What a client is told when a request or a method call fails (RFC 8620 §3.6)."""

from collections.abc import Sequence
from enum import StrEnum

_URN = "urn:ietf:params:jmap:error:"


class Problem(StrEnum):
    """The request-level error types (RFC 8620 §3.6.1)."""

    UNKNOWN_CAPABILITY = _URN + "unknownCapability"
    NOT_JSON = _URN + "notJSON"
    NOT_REQUEST = _URN + "notRequest"
    LIMIT = _URN + "limit"
    BLANK = "about:blank"  # the HTTP status says it all (RFC 7807 §4.2)


class RequestError(Exception):
    """The request as a whole is refused; `detail` is shown to the peer."""

    def __init__(
        self, problem: Problem, detail: str, *, status: int = 400, limit: str | None = None
    ) -> None:
        super().__init__(detail)
        self.problem = problem
        self.detail = detail
        self.status = status
        self.limit = limit

    def body(self) -> dict[str, object]:
        """Return the problem details object (RFC 7807)."""
        shown: dict[str, object] = {
            "type": self.problem.value,
            "status": self.status,
            "detail": self.detail,
        }
        if self.limit is not None:
            shown["limit"] = self.limit
        return shown


class MethodError(Exception):
    """One method call is refused; `description` is shown to the peer (RFC 8620 §3.6.2)."""

    def __init__(self, kind: str, description: str | None = None) -> None:
        super().__init__(description or kind)
        self.kind = kind
        self.description = description

    def body(self) -> dict[str, object]:
        """Return the arguments of the `error` response."""
        shown: dict[str, object] = {"type": self.kind}
        if self.description is not None:
            shown["description"] = self.description
        return shown


def invalid_arguments(description: str) -> MethodError:
    """Return the error for a missing, unknown or wrong argument."""
    return MethodError("invalidArguments", description)


class SetError(Exception):
    """One object of a /set is refused, the others are not (RFC 8620 §5.3)."""

    def __init__(
        self,
        kind: str,
        description: str | None = None,
        *,
        properties: Sequence[str] | None = None,
        **more: object,  # what the specification of the type adds: existingId, notFound, …
    ) -> None:
        super().__init__(description or kind)
        self.kind = kind
        self.description = description
        self.properties = properties
        self.more = more

    def body(self) -> dict[str, object]:
        """Return the SetError object."""
        shown: dict[str, object] = {"type": self.kind}
        if self.description is not None:
            shown["description"] = self.description
        if self.properties is not None:
            shown["properties"] = list(self.properties)
        return shown | self.more


def invalid_properties(properties: Sequence[str], description: str | None = None) -> SetError:
    """Return the error for an object whose properties are wrong, missing or not to be set."""
    return SetError("invalidProperties", description, properties=properties)
