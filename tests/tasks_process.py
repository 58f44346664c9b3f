"""Process of the tests of Django Tasks: callbacks are posted, and the backend's own worker runs the tasks.

It prints one JSON object with what it saw.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.tasks_settings"
django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.utils import timezone  # noqa: E402
from django_tasks_db.models import DBTaskResult  # noqa: E402

from djmessenger import bot, models  # noqa: E402
from djmessenger.emulator import EmulatorTransport  # noqa: E402
from messenger_emulator import Emulator  # noqa: E402
from tests import pipeline_tools as tools  # noqa: E402


def run() -> None:
    """Run the tasks that may run now."""
    call_command("db_worker", batch=True, interval=0.01, startup_delay=False, reload=False, verbosity=0)


def finish_wake_ups() -> None:
    """Wait until the thread of the dispatcher has enqueued what is pending."""
    dispatcher: Any = bot.get_dispatcher()
    dispatcher._publisher.stop(tools.LONG)


def main() -> dict[str, object]:
    call_command("migrate", verbosity=0)
    emulator = Emulator()
    emulator.add_page(tools.PAGE, settings.DJM_PAGE_ACCESS_TOKEN, app_secret=settings.DJM_APP_SECRET)
    person = emulator.add_person(tools.PAGE, person_id=tools.PSID)
    person.says("hello")
    bot.use_transport(EmulatorTransport(emulator))
    waiting = DBTaskResult.objects.filter(status="READY")
    statuses = [tools.post(tools.text(f"m_{number}", str(number))) for number in range(3)]
    finish_wake_ups()
    seen: dict[str, object] = {
        "statuses": statuses,
        "texts in the request": len(person.texts),
        "one to three tasks after three callbacks": 1 <= waiting.count() <= 3,
    }
    run()
    later = [task.run_after for task in waiting]
    seen |= {
        "texts": len(person.texts),
        "failed tasks": DBTaskResult.objects.filter(status="FAILED").count(),
        "tasks for later": len(later),
        "all later": all(moment is not None and moment > timezone.now() for moment in later),
    }
    # A wake-up is lost: the row waits without a task. The task that was left for later sweeps.
    conversation = models.Conversation.objects.get()
    tools.queue(conversation, "without a wake-up")
    finish_wake_ups()
    models.ConversationQueue.objects.update(ready_at=None)
    models.Sweep.objects.all().delete()
    DBTaskResult.objects.filter(status="READY").update(run_after=timezone.now())
    run()
    return seen | {"last text": person.texts[-1]}


sys.stdout.write(f"{json.dumps(main())}\n")
