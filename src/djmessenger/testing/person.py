"""Person who talks to the bot, with expectations about the messages on the screen."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from djmessenger import models
from djmessenger.testing.explanation import LastOutcome, line_of, transcript
from djmessenger.testing.looking import Expected, differences, shown
from messenger_emulator import Emulator
from messenger_emulator import Person as EmulatedPerson
from messenger_emulator.person import Act
from messenger_emulator.state import LIKE_STICKER, Bubble


class Kit(Protocol):
    """Part of ``Messenger`` that a person uses."""

    @property
    def emulator(self) -> Emulator: ...

    def settle(self) -> None: ...

    def run(self) -> None: ...

    def outcome(self, person: Person) -> LastOutcome: ...

    def waiting(self, person: Person) -> list[str]: ...


class Window:
    """Meta's window, in which the bot may write to a person."""

    def __init__(self, closes: float | None, now: float, *, is_by_ad: bool = False) -> None:
        self.closes = None if closes is None else datetime.datetime.fromtimestamp(closes, tz=datetime.UTC)
        """Time at which the window closes or closed; None if it never opened."""
        self.is_open = closes is not None and now <= closes
        self.is_by_ad = is_by_ad
        """True if a message after a click on an ad opened it, for up to seven days."""

    @property
    def is_closed(self) -> bool:
        return not self.is_open

    def __repr__(self) -> str:
        return f"<Window {'open' if self.is_open else 'closed'}, closes {self.closes}>"


class Person:
    """One person in one conversation. An act is posted to the bot, and its replies are sent before it returns.

    An act raises ``RuleFailed`` if a rule raised, and ``ReplyRefused`` if Graph refused a reply. A tap on an item that
    the person does not see raises ``NotOnScreen``.
    """

    def __init__(self, messenger: Kit, screen: EmulatedPerson) -> None:
        self.messenger = messenger
        self.screen = screen
        """Person of the emulator: thread, quick replies, menu and opened links."""
        self._seen = 0

    def __repr__(self) -> str:
        return f"<Person {self.screen.name} {self.psid}>"

    # Identity

    @property
    def psid(self) -> str:
        """Page-scoped id."""
        return self.screen.id

    @property
    def name(self) -> str:
        return self.screen.name

    @property
    def row(self) -> models.FBUserProfile:
        """Row of the person, read again; raises ``DoesNotExist`` before the first message."""
        self.messenger.run()
        return models.FBUserProfile.objects.get(pk=self.psid)

    @property
    def conversation(self) -> models.Conversation:
        """Row of the conversation, read again; raises ``DoesNotExist`` before the first message."""
        self.messenger.run()
        return models.Conversation.objects.get(page__page_id=self.screen.page.account_id, person_id=self.psid)

    @property
    def window(self) -> Window:
        screen = self.screen
        return Window(screen.window_ends, self.messenger.emulator.clock(), is_by_ad=screen.is_window_by_ad)

    # Acts

    def says(self, text: str, *, reply_to: Bubble | None = None) -> None:
        """Write a text."""
        self.does("says", text, reply_to=reply_to.mid if reply_to is not None else "")

    def taps(self, title: str, *, on: str = "") -> None:
        """Tap the quick reply, button, menu item or question with this title; ``on`` names the card."""
        if on:
            self.does("taps_card", on, title)
        else:
            self.does("taps", title)

    def gets_started(self) -> None:
        """Tap Get Started; the settings have to switch it on."""
        self.does("gets_started")

    def sends_image(self, url: str = "https://cdn.example.com/picture.jpg", *, text: str = "") -> None:
        self.does("sends_attachment", "image", url, text=text)

    def sends_audio(self, url: str = "https://cdn.example.com/voice.mp4") -> None:
        self.does("sends_attachment", "audio", url)

    def sends_video(self, url: str = "https://cdn.example.com/video.mp4") -> None:
        self.does("sends_attachment", "video", url)

    def sends_file(self, url: str = "https://cdn.example.com/paper.pdf") -> None:
        self.does("sends_attachment", "file", url)

    def sends_sticker(self, sticker_id: int = LIKE_STICKER) -> None:
        """Send a sticker, by default the thumb."""
        self.does("sends_sticker", sticker_id)

    def sends_location(self, lat: float, long: float, title: str = "") -> None:
        self.does("sends_location", lat, long, title)

    def reacts(self, emoji: str = "\u2764\ufe0f", to: Bubble | None = None) -> None:
        """React to a message, by default to the newest of the Page."""
        self.does("reacts", emoji, to.mid if to is not None else "")

    def edits(self, text: str) -> None:
        """Edit the own newest message."""
        self.does("edits", text)

    def reads(self) -> None:
        """Read all messages of the Page."""
        self.does("reads")

    def opens_link(self, ref: str, *, source: str = "SHORTLINK", **extra: Any) -> None:
        """Open the conversation by an m.me link or an ad."""
        self.does("opens_link", ref, source=source, **extra)

    def blocks(self) -> None:
        """Block the Page. Graph refuses its messages from now on; these refusals do not fail the test."""
        self.screen.blocked = True

    def unblocks(self) -> None:
        self.screen.blocked = False

    def does(self, act: str, *args: Any, **options: Any) -> Act | None:
        """Perform any act of the emulator's ``Person`` by its name: ``does("gives_phone", "+43...")``."""
        self.messenger.settle()
        self._seen = len(self.screen.received)
        method: Callable[..., Act | None] = getattr(self.screen, act)
        result = method(*args, **options)
        self.messenger.settle()
        return result

    # Expectations

    def sees(
        self,
        text: Expected | None = None,
        *,
        buttons: Sequence[Expected] | None = None,
        quick_replies: Sequence[Expected] | None = None,
        cards: Sequence[Expected] | Mapping[str, Sequence[Expected]] | None = None,
        image: Expected | bool | None = None,
    ) -> Bubble:
        """Expect the next message since the person's last act, and return it.

        ``text`` is the exact text, a compiled pattern to search for, or ``...`` for any text. ``buttons``,
        ``quick_replies`` and ``cards`` are all titles in order; a mapping of ``cards`` also names the buttons of
        each card. ``image`` is an address, or True for any image. An argument that is left out is not checked.
        """
        __tracebackhide__ = True
        self.messenger.settle()
        if self._seen >= len(self.screen.received):
            self.messenger.run()
        received = self.screen.received
        expectations = {
            "buttons": buttons,
            "quick_replies": quick_replies,
            "cards": cards,
            "image": image,
        }
        if self._seen >= len(received):
            self._fail(self._describe(text, expectations), ["no further message came"])
        bubble = received[self._seen]
        wrong = list(differences(bubble, text, **expectations))  # type: ignore[arg-type]
        if wrong:
            self._fail(self._describe(text, expectations), [f"next came: {line_of(bubble)}", *wrong])
        self._seen += 1
        return bubble

    def sees_nothing(self) -> None:
        """Expect no further message since the person's last act."""
        __tracebackhide__ = True
        self.messenger.run()
        more = self.screen.received[self._seen :]
        if more:
            self._fail("nothing", [f"came: {line_of(bubble)}" for bubble in more])

    @property
    def is_shown_typing(self) -> bool:
        """Return whether the person sees the typing indicator."""
        self.messenger.run()
        return self.screen.typing

    @property
    def outcome(self) -> LastOutcome:
        """Outcome of the person's last event; raises ``LookupError`` if there was none."""
        self.messenger.run()
        return self.messenger.outcome(self)

    def transcript(self) -> str:
        """Return the conversation as text, each reply with its rule."""
        self.messenger.run()
        return self._transcript()

    def _transcript(self) -> str:
        mids = [bubble.mid for bubble in self.screen.received]
        rules = dict(models.Reply.objects.filter(mid__in=mids).values_list("mid", "rule"))
        return transcript(
            self.screen.first_name,
            self.screen.page.name,
            self.screen.thread,
            {str(k): v for k, v in rules.items()},
        )

    @staticmethod
    def _describe(text: Expected | None, expectations: Mapping[str, Any]) -> str:
        words = [] if text is None else [shown(text)]
        for name, value in expectations.items():
            if value is not None:
                listed = isinstance(value, (list, tuple))
                inner = f"[{', '.join(map(shown, value))}]" if listed else shown(value)
                words.append(f"{name.replace('_', ' ')} {inner}")
        return ", ".join(words) or "a message"

    def _fail(self, expected: str, reasons: Sequence[str]) -> None:
        __tracebackhide__ = True
        try:
            outcome = f"Outcome of the last event\n{self.messenger.outcome(self)}"
        except LookupError:
            outcome = "No event of this person has been handled."
        waiting = self.messenger.waiting(self)
        raise AssertionError(
            "\n".join(
                [
                    f"{self.screen.first_name} ({self.screen.locale}) was to see {expected}, but",
                    *(f"  {line}" for line in reasons),
                    "",
                    "Transcript",
                    self._transcript(),
                    "",
                    *waiting,
                    outcome,
                ]
            )
        )
