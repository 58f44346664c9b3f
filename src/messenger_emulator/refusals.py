"""Refusals of Graph: the envelope, and one constructor for each refusal of the emulator.

Codes, subcodes and wording: Messenger Platform, "Error codes" (June 2026); Graph API, "Error handling"; the
validator's own messages as quoted in public reports. Meta does not document the HTTP statuses: 400 here, and 500 for
a transient error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METHOD_EXCEPTION = "GraphMethodException"


class Refusal(Exception):
    """Refusal of a call, with all values of its error envelope."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        subcode: int | None = None,
        type: str = "OAuthException",  # noqa: A002
        status: int = 400,
        transient: bool = False,
        user_title: str = "",
        user_message: str = "",
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        numbered: bool = True,
    ) -> None:
        self.code = code
        self.subcode = subcode
        self.message = f"(#{code}) {message}" if numbered else message
        self.type = type
        self.status = status
        self.transient = transient
        self.user_title = user_title
        self.user_message = user_message
        self.data = data
        self.headers = dict(headers or {})
        super().__init__(self.message)

    def envelope(self, trace: str) -> dict[str, Any]:
        """Return the body of the answer."""
        error: dict[str, Any] = {"message": self.message, "type": self.type, "code": self.code}
        if self.subcode is not None:
            error["error_subcode"] = self.subcode
        if self.transient:
            error["is_transient"] = True
        if self.user_title:
            error["error_user_title"] = self.user_title
        if self.user_message:
            error["error_user_msg"] = self.user_message
        if self.data is not None:
            error["error_data"] = self.data
        error["fbtrace_id"] = trace
        return {"error": error}


def missing(path: str) -> Refusal:
    return Refusal(100, f"The parameter {path} is required")


def bad(message: str, subcode: int | None = None, path: str = "") -> Refusal:
    data = {"blame_field_specs": [[path]]} if path else None
    return Refusal(100, message, subcode=subcode, data=data)


def too_long(path: str, limit: int) -> Refusal:
    return Refusal(100, f"Length of param {path} must be less than or equal to {limit}")


def too_short(path: str, limit: int) -> Refusal:
    return Refusal(100, f"Length of param {path} must be greater than or equal to {limit}")


def too_many(path: str) -> Refusal:
    return Refusal(105, f"param {path} has too many elements.")


def too_few(path: str) -> Refusal:
    return Refusal(194, f"param {path} has too few elements.")


def not_a(kind: str, path: str) -> Refusal:
    return Refusal(100, f"Param {path} must be {kind}.")


def not_one_of(path: str, allowed: Any) -> Refusal:
    return Refusal(100, f"Param {path} must be one of {{{', '.join(sorted(allowed)).upper()}}}")


def invalid_keys(keys: Any, path: str) -> Refusal:
    return Refusal(100, f'Invalid keys "{", ".join(keys)}" were found in param "{path}".')


def no_such_object(method: str, name: str) -> Refusal:
    return Refusal(
        100,
        f"Unsupported {method.lower()} request. Object with ID '{name}' does not exist, cannot be loaded due to "
        "missing permissions, or does not support this operation. Please read the Graph API documentation at "
        "https://developers.facebook.com/docs/graph-api",
        subcode=33,
        type=METHOD_EXCEPTION,
        numbered=False,
    )


def unknown_path(path: str) -> Refusal:
    return Refusal(2500, f"Unknown path components: {path}", numbered=False)


def token_required() -> Refusal:
    return Refusal(
        2500,
        "An active access token must be used to query information about the current user.",
        numbered=False,
    )


def token_unknown() -> Refusal:
    return Refusal(190, "Invalid OAuth access token - Cannot parse access token", numbered=False)


_TOKEN_ENDS = {
    458: "The user has not authorized application.",
    459: "You cannot access the app till you log in to www.facebook.com and follow the instructions given.",
    460: "The session has been invalidated because the user changed their password or Facebook has changed "
    "the session for security reasons.",
    463: "Session has expired.",
    464: "Sessions for the user are not allowed because the user is not a confirmed user.",
    467: "The access token is invalid because the user logged out.",
    492: "The user must be an administrator, editor, or moderator of the page in order to impersonate it.",
}


def token_dead(subcode: int = 463) -> Refusal:
    text = _TOKEN_ENDS.get(subcode, "The session is invalid.")
    return Refusal(190, f"Error validating access token: {text}", subcode=subcode, numbered=False)


def proof_missing() -> Refusal:
    message = "API calls from the server require an appsecret_proof argument"
    return Refusal(100, message, type=METHOD_EXCEPTION, numbered=False)


def proof_wrong() -> Refusal:
    message = "Invalid appsecret_proof provided in the API argument"
    return Refusal(100, message, type=METHOD_EXCEPTION, numbered=False)


def permission_missing(name: str) -> Refusal:
    return Refusal(200, f"Requires {name} permission to manage the object")


def no_matching_user() -> Refusal:
    return bad("No matching user found", 2018001, "recipient")


def person_unavailable() -> Refusal:
    return Refusal(551, "This person isn't available right now.", subcode=1545041)


def other_app_controls() -> Refusal:
    message = "Message failed to send because another app is controlling this thread now."
    return Refusal(10, message, subcode=2018300)


def instagram_other_app_controls() -> Refusal:
    return Refusal(100, "The app is not the owner of the thread.", subcode=2534037)


def retired_tag() -> Refusal:
    return Refusal(100, "Invalid parameter", subcode=1893061, numbered=False)


def window_closed() -> Refusal:
    message = "This message is sent outside of allowed window."
    return Refusal(10, message, subcode=2018278)


def instagram_window_closed() -> Refusal:
    return Refusal(10, "This message is sent outside of allowed window.", subcode=2534022)


def page_restricted() -> Refusal:
    return Refusal(10, "The Page is temporarily restricted from sending messages.", subcode=1893063)


def throttled(headers: Mapping[str, str] | None = None) -> Refusal:
    return Refusal(613, "Calls to this api have exceeded the rate limit.", headers=headers)


def business_throttled(headers: Mapping[str, str] | None = None) -> Refusal:
    message = "There have been too many calls to this Messenger account. Wait a bit and try again."
    return Refusal(80006, message, headers=headers)


def temporary() -> Refusal:
    message = "Service temporarily unavailable"
    return Refusal(2, message, status=500, transient=True, numbered=False)


def malformed_body() -> Refusal:
    return Refusal(100, "The request body could not be parsed.")
