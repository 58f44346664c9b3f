"""The sample policy of the documentation, and the part of it that runs in any project."""

from __future__ import annotations

from typing import Any

DJM_DEFAULT_ROUTING_POLICY: dict[str, Any] = {
    "rules": [
        {
            "type": "DEFAULT",
            "name": "default rule",
            "filters": [
                {
                    "name": "djmessenger.filtering.TimeFilter",
                    "args": {
                        "start_time": "2016-1-1T00:00:00Z-0800",
                        "end_time": "2017-1-1T01:00:00Z-0800",
                    },
                }
            ],
            "handlers": [
                {"name": "djmessenger.handling.UserProfileHandler"},
                {"name": "djmessenger.handling.SaveMessagingHandler"},
            ],
        },
        {
            "type": "STICKER",
            "name": "ThumbUp Rule",
            "filters": [{"name": "djmessenger.filtering.ThumbUpFilter"}],
            "handlers": [{"name": "djmessenger.handling.ThumbUpHandler"}],
            "repliers": [
                {
                    "name": "djmessenger.replying.SimpleMessageReplier",
                    "args": {
                        "localized_string": {
                            "base_string": "Thank you for your thumb!!!",
                            "translations": {"zh_TW": "謝謝您的讚"},
                        }
                    },
                },
                {
                    "name": "djmessenger.replying.ImageReplier",
                    "args": {"url": "https://dl.dropboxusercontent.com/u/717667/icons/betatesting.png"},
                },
            ],
        },
        {
            "type": "SIMPLE_TEXT",
            "name": "Hello Chinese Rule",
            "filters": [{"name": "djmessenger.filtering.SimpleTextRegexFilter", "args": {"regex": "^你好$"}}],
            "repliers": [
                {
                    "name": "djmessenger.replying.SimpleMessageReplier",
                    "args": {
                        "localized_string": {
                            "base_string": "您也好",
                            "translations": {"en_US": "Hello to you, too!"},
                        }
                    },
                }
            ],
        },
        {
            "type": "SIMPLE_TEXT",
            "name": "Hi Rule",
            "filters": [{"name": "djmessenger.filtering.SimpleTextRegexFilter", "args": {"regex": "^hi$"}}],
            "repliers": [
                {
                    "name": "djmessenger.replying.SimpleMessageReplier",
                    "args": {
                        "localized_string": {
                            "base_string": "Hi you, too!",
                            "translations": {"zh_TW": "您也好"},
                        }
                    },
                }
            ],
        },
        {
            "type": "SIMPLE_TEXT",
            "name": "buttons Rule",
            "filters": [
                {"name": "djmessenger.filtering.SimpleTextRegexFilter", "args": {"regex": "^buttons$"}}
            ],
            "repliers": [
                {
                    "name": "testapp.sending.MyButtonSender",
                    "args": {
                        "localized_string": {
                            "base_string": "Please choose a button",
                            "translations": {"zh_TW": "請選擇一個按鈕"},
                        }
                    },
                }
            ],
        },
        {
            "type": "LOCATION",
            "name": "Location Rule",
            "filters": [{"name": "djmessenger.filtering.LocationFilter"}],
            "handlers": [{"name": "djmessenger.handling.LocationHandler"}],
        },
        {
            "type": "PERSISTENT_MENU_ONE",
            "name": "PM1 Rule",
            "repliers": [
                {
                    "name": "djmessenger.replying.SimpleMessageReplier",
                    "args": {
                        "localized_string": {
                            "base_string": "This is help info",
                            "translations": {"zh_TW": "這是幫助訊息"},
                        }
                    },
                },
                {
                    "name": "testapp.sending.MyQuickReplySender",
                    "args": {
                        "localized_string": {
                            "base_string": "Please choose a QR",
                            "translations": {"zh_TW": "請選擇快速回覆"},
                        }
                    },
                },
            ],
        },
        {
            "type": "QUICK_REPLY",
            "name": "QR1 Rule",
            "handlers": [{"name": "testapp.handling.MyQuickReplyHandler"}],
            "repliers": [
                {
                    "name": "djmessenger.replying.SimpleMessageReplier",
                    "args": {
                        "localized_string": {
                            "base_string": "Thanks for the quick reply",
                            "translations": {"zh_TW": "謝謝您的快速回覆"},
                        }
                    },
                }
            ],
        },
    ]
}
"""Sample policy as printed in the documentation; three of its classes belong to a test project."""


def _runs_anywhere(rule: dict[str, Any]) -> dict[str, Any]:
    """Return the rule without the expired filter, classes of another project, and a picture that is offline."""
    kept = {key: rule[key] for key in ("type", "name")}
    for stage in ("filters", "handlers", "repliers"):
        entries = [
            entry
            for entry in rule.get(stage, [])
            if not entry["name"].startswith("testapp.")
            and entry["name"] != "djmessenger.filtering.TimeFilter"
            and "dropboxusercontent" not in entry.get("args", {}).get("url", "")
        ]
        if entries:
            kept[stage] = entries
    return kept


RUNNABLE_ROUTING_POLICY: dict[str, Any] = {
    "rules": [
        rule
        for rule in map(_runs_anywhere, DJM_DEFAULT_ROUTING_POLICY["rules"])
        if rule["name"] not in {"buttons Rule", "QR1 Rule"}
    ]
}
"""Default value of ``DJM_ROUTING_POLICY``."""
