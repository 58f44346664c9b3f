"""Documented codes of Graph errors with their meaning; ``djmessenger.graph.errors`` reads the table.

Source of a row unless the row names another: the Messenger Platform's page "Error codes" (25 Jun 2026) and the
Graph API's guide "Handle errors". Rows marked "seen" rest on public reports of answers only.
"""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """Class name of the error, meaning of the code, and an action if that of the class is too general."""

    kind: str
    meaning: str
    action: str = ""


RETRY, THROTTLED, RESTRICTED = "RetryLater", "Throttled", "PageRestricted"
TOKEN, PERMISSION, PERSON = "TokenError", "PermissionMissing", "PersonUnreachable"
WINDOW, THREAD, REJECTED, UNKNOWN = "WindowClosed", "ThreadTaken", "MessageRejected", "UnknownFate"

NEW_TOKEN = "Create a new Page access token and store it; the queued messages go out then."  # noqa: S105

CODES: dict[tuple[int, int | None], Row] = {
    (1, None): Row(UNKNOWN, "unknown error, perhaps temporary"),
    (1, 99): Row(PERMISSION, "unknown error that mostly means a missing permission or access level"),
    (1, 1357046): Row(UNKNOWN, "Graph could not write its answer; the message may have been delivered"),
    (1, 2018382): Row(REJECTED, "the instant form's id is wrong or the form cannot be used"),
    (2, None): Row(UNKNOWN, "temporary failure of the service"),
    (2, 2018344): Row(
        PERMISSION, "terms of labels not accepted", "An admin of the Page accepts the terms of labels."
    ),
    (3, None): Row(PERMISSION, "the app lacks the capability for this call"),
    (4, None): Row(THROTTLED, "limit of calls of the app reached"),
    (4, 2018022): Row(THROTTLED, "too many sends to phone numbers"),
    (4, 2018354): Row(WINDOW, "marketing message sooner than the chosen frequency"),
    (9, None): Row(THROTTLED, "too many requests of one kind"),
    (9, 2018352): Row(THROTTLED, "too many marketing opt-in requests"),
    (10, None): Row(PERMISSION, "permission denied, or the id belongs to an Instant Game"),
    (10, 2018278): Row(WINDOW, "outside the allowed window"),
    (10, 2018065): Row(WINDOW, "outside the allowed window; only news Pages could send now"),
    (10, 2018108): Row(PERSON, "the person cannot receive messages from the Page now"),
    (10, 2018336): Row(PERSON, "the conversation is under the privacy rules of Europe or Japan"),
    (10, 1404170): Row(PERMISSION, "the Page may not ask for marketing opt-ins"),
    (10, 1893015): Row(PERSON, "the person stopped notifications on this topic"),
    (10, 1893063): Row(RESTRICTED, "the Page is restricted for a while for breaking a policy"),
    (10, 2534022): Row(WINDOW, "Instagram: outside the allowed window"),
    (10, 2534077): Row(
        PERMISSION,
        "Instagram: link to the Page or two-factor login cannot be verified",
        "Link the Instagram account to the Page again and check its two-factor login.",
    ),
    (17, None): Row(THROTTLED, "limit of calls of the user reached"),
    (32, None): Row(THROTTLED, "limit of calls of the Page reached"),
    (100, None): Row(REJECTED, "a parameter is wrong"),
    (100, 33): Row(REJECTED, "the object does not exist, may not be seen, or does not support the call"),
    (100, 1893061): Row(
        REJECTED, "the message tag is retired (seen)", "Send a utility template instead of the retired tag."
    ),
    (100, 2018001): Row(PERSON, "no such person for this Page"),
    (100, 2018008): Row(
        REJECTED, "the file's URL could not be fetched", "Make the URL reachable for Meta, then send again."
    ),
    (100, 2018014): Row(REJECTED, "message and sender_action in one call"),
    (100, 2018034): Row(REJECTED, "the message is empty (seen)"),
    (100, 2018047): Row(REJECTED, "the upload failed, or the file is of another type than it says"),
    (100, 2018074): Row(
        REJECTED,
        "the attachment's id is wrong, of another Page, or expired",
        "Upload the file again and send with the new id.",
    ),
    (100, 2018109): Row(REJECTED, "the attachment is too large"),
    (100, 2018145): Row(
        REJECTED, "a persistent menu needs the get-started button (seen)", "Set get_started before the menu."
    ),
    (100, 2018164): Row(REJECTED, "the app's id is wrong"),
    (100, 2018218): Row(REJECTED, "no profile can be had for this person (seen)"),
    (100, 2018294): Row(REJECTED, "fetching the video took too long, or it is damaged"),
    (100, 2018320): Row(REJECTED, "a product's id is wrong"),
    (100, 2018328): Row(REJECTED, "product templates need Graph v8.0 or later"),
    (100, 2534013): Row(PERMISSION, "Instagram: no Page is linked"),
    (100, 2534014): Row(PERSON, "Instagram: no such person"),
    (100, 2534015): Row(REJECTED, "Instagram: the message's data are wrong"),
    (100, 2534025): Row(REJECTED, "Instagram: the comment cannot be answered"),
    (100, 2534029): Row(PERSON, "Instagram: the business is blocked"),
    (100, 2534037): Row(THREAD, "Instagram: another app has the conversation"),
    (102, None): Row(TOKEN, "the session is not valid", NEW_TOKEN),
    (105, None): Row(REJECTED, "a list has too many items (seen)"),
    (190, None): Row(TOKEN, "the token is not valid", NEW_TOKEN),
    (190, 458): Row(TOKEN, "the app was removed", "Add the app to the Page again, then create a new token."),
    (190, 459): Row(
        TOKEN,
        "the account behind the token is at a checkpoint",
        "Its owner logs in at facebook.com and clears it.",
    ),
    (190, 460): Row(TOKEN, "the password behind the token was changed", NEW_TOKEN),
    (190, 463): Row(TOKEN, "the token expired", NEW_TOKEN),
    (190, 464): Row(
        TOKEN, "the account behind the token is not confirmed", "Its owner confirms the account."
    ),
    (190, 467): Row(TOKEN, "the token is not valid", NEW_TOKEN),
    (190, 492): Row(
        TOKEN,
        "the account behind the token lost its role on the Page",
        "Give the role back, or create a new token.",
    ),
    (194, None): Row(REJECTED, "a list has too few items (seen)"),
    (200, None): Row(PERMISSION, "the app may message only people with a role on it"),
    (200, 1545041): Row(PERSON, "the person is not available"),
    (200, 2018021): Row(PERMISSION, "messages to phone numbers need a fee to be accepted"),
    (200, 2018027): Row(PERMISSION, "messages to phone numbers need a permission"),
    (200, 2018028): Row(PERMISSION, "pages_messaging is not approved"),
    (200, 2534041): Row(
        PERMISSION,
        "Instagram: the owner switched access to messages off",
        "The owner of the account allows access to messages in its settings.",
    ),
    (230, None): Row(
        PERMISSION, "the token lacks pages_messaging, or on Instagram the person has not written yet (seen)"
    ),
    (341, None): Row(THROTTLED, "limit of the app reached"),
    (368, None): Row(RESTRICTED, "blocked for a while for breaking a policy"),
    (551, None): Row(PERSON, "the person does not receive messages from the Page"),
    (551, 1545041): Row(PERSON, "the person is not available now"),
    (613, None): Row(THROTTLED, "rate of calls reached"),
    (613, 1893016): Row(REJECTED, "opt-in for this topic was asked for before"),
    (613, 2018338): Row(
        THROTTLED, "the rate of tagged messages looks abusive", "Send fewer tagged messages."
    ),
    (613, 2534040): Row(THROTTLED, "rate of calls of Instagram or Messenger reached"),
    (613, 1996): Row(THROTTLED, "the volume of calls is unusual"),
    (1200, None): Row(UNKNOWN, "temporary failure of sending"),
    (2022, None): Row(PERMISSION, "commerce messages are switched off for the Page"),
    (2500, None): Row(REJECTED, "the path or the query is not known to Graph"),
    (10303, None): Row(REJECTED, "the account linking token is not valid"),
    (10900, None): Row(REJECTED, "the comment or post was answered already (seen)"),
    (10903, None): Row(REJECTED, "the comment or post cannot be answered (seen)"),
    (24001, None): Row(REJECTED, "payments are retired"),
    (24002, None): Row(REJECTED, "payments are retired"),
    (24005, None): Row(REJECTED, "payments are retired"),
    (36103, None): Row(PERMISSION, "the Instagram account is not eligible"),
    (80001, None): Row(THROTTLED, "calls for the Page are throttled"),
    (80002, None): Row(THROTTLED, "calls for the Instagram account are throttled"),
    (80006, None): Row(THROTTLED, "calls for Messenger are throttled"),
    (9000001, None): Row(REJECTED, "the message was deleted or is too old to be read"),
}
"""Rows by code and subcode; the subcode ``None`` stands for any subcode without a row."""

NUMBERS: dict[int, Row] = {
    1545041: Row(PERSON, "the person is not available"),
    2018144: Row(WINDOW, "cap of an Instant Game's notifications reached"),
    2018171: Row(THREAD, "the conversation is not visible to this app"),
    2018234: Row(THREAD, "the conversation is not visible to this app"),
    2018247: Row(PERMISSION, "no permission for a field of the profile"),
    2018300: Row(THREAD, "another app has the conversation"),
    2018321: Row(THREAD, "Messenger's automated answers have the conversation"),
    **{
        number: Row(REJECTED, "the media template is wrong")
        for number in (2018173, 2018175, *range(2018182, 2018189))
    },
    **{number: Row(REJECTED, "the calling API refused") for number in range(2018389, 2018397)},
    **{number: Row(REJECTED, "a code of Messenger Extensions") for number in (2018154, 2018163, 2018166)},
    **{number: Row(REJECTED, "a code of Messenger Extensions") for number in range(2071010, 2071026)},
}
"""Rows of numbers that Meta's page prints without their code; they arrive as code or as subcode."""

RANGES: tuple[tuple[range, Row], ...] = (
    (range(200, 300), Row(PERMISSION, "a permission is missing")),
    (range(80001, 80015), Row(THROTTLED, "calls of this business use case are throttled")),
    (range(2018173, 2018189), Row(REJECTED, "the media template is wrong")),
    (range(2300000, 2300100), Row(REJECTED, "the Marketing Messages API refused")),
)

UNSURE = frozenset({1, 2, 1200})
"""Codes after which the message may have been delivered, unless the subcode has a row of its own."""


def find(code: int | None, subcode: int | None) -> Row | None:
    """Return the row of a code and subcode, or ``None`` if Meta documents neither."""
    if code is None:
        return NUMBERS.get(subcode) if subcode is not None else None
    exact = CODES.get((code, subcode))
    if exact is not None:
        return exact
    if code not in UNSURE and subcode is not None:
        row = _SUBCODES.get(subcode) or NUMBERS.get(subcode)
        if row is not None:
            return row
    row = CODES.get((code, None)) or NUMBERS.get(code) or _SUBCODES.get(code)
    if row is not None:
        return row
    return next((row for numbers, row in RANGES if code in numbers), None)


LONG_SUBCODE = 1_000_000
"""Lowest subcode that has the same meaning under every code."""

_SUBCODES: dict[int, Row] = {
    subcode: row
    for (code, subcode), row in CODES.items()
    if subcode is not None and subcode >= LONG_SUBCODE and code not in UNSURE
}
"""Rows by long subcode alone; a short subcode (33, 99, 463) has a meaning only with its code."""
