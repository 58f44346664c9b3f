"""Internal: system checks of secrets and tokens. No message shows any part of them."""

from __future__ import annotations

import re
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage

from djmessenger.checks import are_right, is_debug, new_error, new_warning, register
from djmessenger.secret import Secret
from djmessenger.settings.declared import SETTINGS, app_settings, value_as_set
from djmessenger.settings.setting import SecretSetting, texts_in

_SECRETS = [name for name, setting in SETTINGS.items() if isinstance(setting, SecretSetting)]
"""Names of the settings that are secrets."""

_SECRET_OF_META = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)
"""Form of the app secrets in the App Dashboard."""


@register(*_SECRETS, "DJM_PAGES", tags=(checks.Tags.security,))
def check_form_of_secrets(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Report secrets of blanks alone, and app secrets of another form than Meta's."""
    messages = [
        new_error(
            "E061",
            f"{name} contains only blanks, so it counts as empty.",
            "Set the secret itself, or remove the setting. A variable of the environment may have lost its value.",
            "going-live",
        )
        for name in [*_SECRETS, "DJM_PAGES"]
        if not app_settings.problem(name) and _has_blank(name)
    ]
    is_examined = not is_debug() and are_right("DJM_APP_SECRET")
    if is_examined and not all(map(_has_form, app_settings.DJM_APP_SECRET.values())):
        messages.append(
            new_warning(
                "W062",
                "DJM_APP_SECRET is not 32 hexadecimal digits, as the secrets of Meta are, so callbacks may be refused.",
                "Copy the app secret again from the App Dashboard (App settings, Basic). It is no token of a Page.",
                "going-live",
            )
        )
    return messages


def _has_blank(name: str) -> bool:
    """Return whether a secret of a setting consists of blanks."""
    if name == "DJM_PAGES":
        # No variable holds an entry, because it has a token in it.
        tokens = (app_settings.page_value(page_id, "token") for page_id in app_settings.DJM_PAGES)
        return any(isinstance(token, str) and token.isspace() for token in tokens)
    return any(text.isspace() for text in texts_in(value_as_set(name)))


def _has_form(secret: Secret) -> bool:
    return _SECRET_OF_META.fullmatch(secret.reveal()) is not None
