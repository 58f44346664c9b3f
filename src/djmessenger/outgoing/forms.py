"""Templates with questions: customer feedback, customer information, instant form.

Sources: Messenger Platform, "Customer feedback template" and "Structured information template", read November
2026.
"""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from djmessenger.outgoing.base import Inside, Part, TextLike, Writer, present
from djmessenger.outgoing.templates import Template

if TYPE_CHECKING:
    from collections.abc import Mapping

QUESTION_TYPES = ("csat", "nps", "ces", "free_form")
SCORE_LABELS = ("neg_pos", "hard_easy", "dis_sat", "unlike_like", "poor_great", "none")
SCORE_OPTIONS = {
    "csat": ("one_to_five", "five_stars", "five_emojis"),
    "nps": ("zero_to_ten",),
    "ces": ("one_to_seven",),
    "free_form": (),
}
_QUESTION_ID = re.compile(r"[A-Za-z0-9_]+")
_COUNTRY = re.compile(r"[A-Z]{2}")
_URL = re.compile(r"https?://|www\.", re.IGNORECASE)


@dataclass(frozen=True)
class Question(Part):
    """A question of ``type`` csat, nps, ces or free_form, with a title of 5 to 85 characters.

    ``follow_up`` is the placeholder of a free text below the score, at most 65 characters.
    """

    id: str
    type: str
    title: TextLike = ""
    _: KW_ONLY
    score_label: str = ""
    score_option: str = ""
    follow_up: TextLike = ""

    def write(self, out: Writer) -> dict[str, Any]:
        if not _QUESTION_ID.fullmatch(out.plain("id", self.id, "feedback.question.id")):
            out.refuse("id", f"{self.id!r} has characters other than letters, digits and underscores")
        kind = out.choice("type", self.type, QUESTION_TYPES)
        if not kind:
            out.refuse("type", f"is missing: one of {', '.join(QUESTION_TYPES)}")
        title = out.text("title", self.title, "feedback.question.title", required=False)
        least = out.row("feedback.question.title.least")
        if title and isinstance(least.value, int) and len(title) < least.value:
            out.over("title", f"{len(title)} characters, at least {least.value}", least)
        follow_up = out.text("follow_up", self.follow_up, "feedback.placeholder", required=False)
        return {
            "id": self.id,
            "type": kind,
            **present(
                title=title,
                score_label=out.choice("score_label", self.score_label, SCORE_LABELS),
                score_option=out.choice("score_option", self.score_option, SCORE_OPTIONS[kind]),
                follow_up={"type": "free_form", "placeholder": follow_up} if follow_up else None,
            ),
        }


@dataclass(frozen=True)
class CustomerFeedback(Template):
    """Form with one question about the opinion of the person; in development at Meta.

    Meta accepts it up to seven days after the person's last message, with ``tag="CUSTOMER_FEEDBACK"``.
    """

    kind: ClassVar[str] = "customer_feedback"
    template_type: ClassVar[str] = "customer_feedback"
    content_type_tag: ClassVar[str] = "CUSTOMER_FEEDBACK"
    inside: ClassVar[Mapping[str, Inside]] = {"question": Question}

    title: TextLike
    question: Question
    privacy_url: str
    _: KW_ONLY
    subtitle: TextLike = ""
    button_title: TextLike = ""
    expires_in_days: int = 1

    def payload_of(self, out: Writer) -> dict[str, Any]:
        button_title = out.text("button_title", self.button_title, "feedback.button_title", required=False)
        if _URL.search(button_title):
            out.refuse("button_title", "must not contain a URL")
        return {
            "title": out.text("title", self.title, "feedback.title"),
            **present(
                subtitle=out.text("subtitle", self.subtitle, "feedback.subtitle", required=False),
                button_title=button_title,
            ),
            "feedback_screens": [{"questions": [out.part("question", self.question, Question)]}],
            "business_privacy": {"url": out.url("privacy_url", self.privacy_url)},
            "expires_in_days": out.number("expires_in_days", self.expires_in_days, "feedback.days"),
        }


@dataclass(frozen=True)
class CustomerInformation(Template):
    """Form for an address and contact details, for shipping; ``countries`` are codes of two capital letters.

    The overrides are sent to Meta unchanged.
    """

    kind: ClassVar[str] = "customer_information"
    template_type: ClassVar[str] = "customer_information"

    countries: tuple[str, ...] | list[str]
    privacy_url: str
    _: KW_ONLY
    expires_in_days: int = 1
    purpose: str = "SHIPPING"
    address_overrides: Mapping[str, Any] | None = None
    contact_overrides: Mapping[str, Any] | None = None

    def payload_of(self, out: Writer) -> dict[str, Any]:
        out.count("countries", self.countries)
        for index, country in enumerate(self.countries):
            if not _COUNTRY.fullmatch(out.plain(f"countries[{index}]", country)):
                out.refuse(f"countries[{index}]", f"{country!r} is not a country code of two capital letters")
        return {
            "countries": list(self.countries),
            "business_privacy": {"url": out.url("privacy_url", self.privacy_url)},
            "expires_in_days": out.number("expires_in_days", self.expires_in_days, "information.days"),
            **present(
                purpose=out.choice("purpose", self.purpose, ("SHIPPING",)),
                address_overrides=out.mapping("address_overrides", self.address_overrides),
                contact_overrides=out.mapping("contact_overrides", self.contact_overrides),
            ),
        }


@dataclass(frozen=True)
class InstantForm(Template):
    """A form of the Page by its id; in development at Meta."""

    kind: ClassVar[str] = "instant_form"
    template_type: ClassVar[str] = "instant_form"

    form_id: str

    def payload_of(self, out: Writer) -> dict[str, Any]:
        return {"form_id": out.plain("form_id", self.form_id)}
