"""Evidence whether Meta has a reply: results of its attempts, and echoes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from djmessenger import models

Outcome = models.Attempt.Outcome


@dataclass(kw_only=True)
class Evidence:
    """Message id and attempts of one reply, as answers and echoes show them."""

    mid: str = ""
    """Message id, if an answer or an echo proves that Meta has the reply. Otherwise an empty text."""
    unsure: list[int] = field(default_factory=list)
    """Numbers of the attempts whose message Meta has or may have."""
    attempts: int = 0

    @property
    def is_not_at_meta(self) -> bool:
        """True if each attempt is known to have ended without an acceptance."""
        return bool(self.attempts) and not (self.mid or self.unsure)


def evidence_of(replies: Iterable[models.Reply]) -> dict[int, Evidence]:
    """Return a dict of reply id to evidence, in two queries."""
    conversations = {reply.pk: reply.conversation_id for reply in replies}
    evidence = {pk: Evidence() for pk in conversations}
    tokens: dict[str, int] = {}
    attempts = models.Attempt.objects.filter(reply__in=list(conversations)).order_by("number")
    names = ("reply_id", "token", "mid", "number", "outcome")
    for reply_id, token, mid, number, outcome in attempts.values_list(*names):
        tokens[token] = reply_id
        one = evidence[reply_id]
        one.attempts += 1
        if outcome not in {Outcome.UNSENT, Outcome.REFUSED}:
            one.unsure.append(number)
        if mid:
            one.mid = mid
    echoes = models.Messaging.objects.filter(echo_token__in=list(tokens))
    for echoed, conversation_id, mid in echoes.values_list("echo_token", "conversation_id", "mid"):
        reply_id = tokens[echoed or ""]
        # The token is no secret: an echo with this token in another conversation proves nothing about this reply.
        # test_an_echo_for_another_person_settles_nothing
        if conversations[reply_id] == conversation_id and mid:
            evidence[reply_id].mid = evidence[reply_id].mid or mid
    return evidence
