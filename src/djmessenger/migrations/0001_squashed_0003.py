"""Tables of the first development versions, whose three migrations this one replaces.

No file may be named ``0001_initial``: the package of 2016 recorded that name, and Django would take its tables for ours.
"""

import uuid

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    replaces = [
        ("djmessenger", "0001_initial"),
        ("djmessenger", "0002_sweep"),
        ("djmessenger", "0003_slow_lanes"),
    ]

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="ProfileSnapshot",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("page_id", models.CharField(max_length=64, verbose_name="page id")),
                ("platform", models.CharField(max_length=16, verbose_name="platform")),
                (
                    "before",
                    models.JSONField(
                        help_text="Property to its value; null where it was not set.", verbose_name="before"
                    ),
                ),
                (
                    "is_complete",
                    models.BooleanField(
                        default=False,
                        help_text="Not when the change was interrupted; the next one goes on.",
                        verbose_name="complete",
                    ),
                ),
                (
                    "date_created",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="begun"),
                ),
            ],
            options={
                "verbose_name": "former profile",
                "verbose_name_plural": "former profiles",
                "indexes": [models.Index(fields=["page_id", "platform", "id"], name="djm_profile_page")],
            },
        ),
        migrations.CreateModel(
            name="FBUserProfile",
            fields=[
                (
                    "psid",
                    models.CharField(
                        help_text="Known to this Page alone.",
                        max_length=64,
                        primary_key=True,
                        serialize=False,
                        verbose_name="page-scoped id",
                    ),
                ),
                ("first_name", models.CharField(blank=True, max_length=255, verbose_name="first name")),
                ("last_name", models.CharField(blank=True, max_length=255, verbose_name="last name")),
                (
                    "profile_pic",
                    models.TextField(
                        blank=True,
                        help_text="Address on Meta's servers; it expires.",
                        verbose_name="profile picture",
                    ),
                ),
                (
                    "locale",
                    models.CharField(
                        blank=True,
                        help_text="As Facebook spells it, such as en_US.",
                        max_length=16,
                        verbose_name="locale",
                    ),
                ),
                (
                    "timezone",
                    models.FloatField(
                        blank=True,
                        help_text="Hours from UTC, such as 5.75.",
                        null=True,
                        verbose_name="time zone",
                    ),
                ),
                ("gender", models.CharField(blank=True, max_length=32, verbose_name="gender")),
                (
                    "date_joined",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="date joined"),
                ),
                ("is_active", models.BooleanField(default=True, verbose_name="active")),
                ("thumbups", models.PositiveIntegerField(default=0, verbose_name="thumbs up")),
                (
                    "profile_state",
                    models.CharField(
                        choices=[
                            ("new", "not asked yet"),
                            ("fetched", "fetched"),
                            ("refused", "refused by Meta"),
                        ],
                        default="new",
                        editable=False,
                        max_length=8,
                        verbose_name="profile",
                    ),
                ),
                (
                    "date_profile",
                    models.DateTimeField(blank=True, editable=False, null=True, verbose_name="profile asked"),
                ),
                (
                    "date_unreachable",
                    models.DateTimeField(
                        blank=True,
                        editable=False,
                        help_text="Meta said that this person receives nothing from the Page; a new message ends it.",
                        null=True,
                        verbose_name="unreachable since",
                    ),
                ),
            ],
            options={
                "verbose_name": "person",
                "verbose_name_plural": "persons",
            },
        ),
        migrations.CreateModel(
            name="Page",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("page_id", models.CharField(max_length=64, unique=True, verbose_name="page id")),
                ("name", models.CharField(blank=True, max_length=255, verbose_name="name")),
                (
                    "channel",
                    models.CharField(
                        choices=[("messenger", "Messenger"), ("instagram", "Instagram")],
                        default="messenger",
                        max_length=16,
                        verbose_name="channel",
                    ),
                ),
                (
                    "login",
                    models.CharField(
                        choices=[("facebook", "Facebook Login"), ("instagram", "Instagram Login")],
                        default="facebook",
                        help_text="How an Instagram account gave its token; it decides which host is spoken to.",
                        max_length=16,
                        verbose_name="login",
                    ),
                ),
                (
                    "token_ciphertext",
                    models.TextField(
                        blank=True,
                        editable=False,
                        help_text="Encrypted with DJM_TOKEN_KEYS.",
                        verbose_name="access token",
                    ),
                ),
                (
                    "app_id",
                    models.CharField(
                        blank=True,
                        help_text="The Meta app of the Page; callbacks that another app signed are ignored. Its secret is set.",
                        max_length=64,
                        verbose_name="app id",
                    ),
                ),
                (
                    "version",
                    models.CharField(
                        blank=True,
                        help_text="Such as v26.0; empty: as the settings say.",
                        max_length=16,
                        verbose_name="Graph version",
                    ),
                ),
                (
                    "policy",
                    models.CharField(
                        blank=True,
                        help_text="A dotted path of rules or of a dict, or a JSON file; empty: the project's policy.",
                        max_length=255,
                        verbose_name="policy",
                    ),
                ),
                (
                    "language",
                    models.CharField(
                        blank=True,
                        help_text="For persons whose own is not known, such as de; empty: the project's.",
                        max_length=16,
                        verbose_name="language",
                    ),
                ),
                (
                    "is_logged",
                    models.BooleanField(
                        default=False,
                        help_text="Keep a line for each call to Graph, without texts.",
                        verbose_name="request log",
                    ),
                ),
                (
                    "date_created",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, verbose_name="first seen"
                    ),
                ),
                (
                    "paused_until",
                    models.DateTimeField(
                        blank=True,
                        help_text="Nothing is sent for this Page before.",
                        null=True,
                        verbose_name="paused until",
                    ),
                ),
                ("pause_reason", models.TextField(blank=True, verbose_name="why paused")),
                (
                    "paused_token",
                    models.CharField(
                        blank=True,
                        editable=False,
                        help_text="A hash of the token that Graph refused; another token ends the pause.",
                        max_length=16,
                        verbose_name="dead token",
                    ),
                ),
                (
                    "date_last_echo",
                    models.DateTimeField(
                        blank=True, editable=False, null=True, verbose_name="last echo of ours"
                    ),
                ),
                (
                    "echo_lag",
                    models.FloatField(
                        blank=True,
                        editable=False,
                        help_text="Seconds; a slow maximum.",
                        null=True,
                        verbose_name="echo lag",
                    ),
                ),
                (
                    "date_last_callback",
                    models.DateTimeField(blank=True, editable=False, null=True, verbose_name="last callback"),
                ),
            ],
            options={
                "verbose_name": "page",
                "verbose_name_plural": "pages",
            },
        ),
        migrations.CreateModel(
            name="Callback",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("sha256", models.CharField(max_length=64, unique=True, verbose_name="hash of the body")),
                ("body", models.BinaryField(verbose_name="body")),
                (
                    "app_id",
                    models.CharField(
                        blank=True,
                        help_text="The app whose secret signed it, where known.",
                        max_length=64,
                        verbose_name="app id",
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("new", "to be split"),
                            ("split", "split"),
                            ("quarantined", "not understood"),
                        ],
                        default="new",
                        max_length=12,
                        verbose_name="state",
                    ),
                ),
                ("error", models.TextField(blank=True, verbose_name="error")),
                (
                    "copies",
                    models.PositiveIntegerField(
                        default=1, help_text="How often Meta sent the same bytes.", verbose_name="copies"
                    ),
                ),
                (
                    "date_received",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="received"),
                ),
            ],
            options={
                "verbose_name": "callback",
                "verbose_name_plural": "callbacks",
                "permissions": [("replay_callback", "Can have callbacks split again")],
                "indexes": [
                    models.Index(fields=["date_received"], name="djm_callback_received"),
                    models.Index(
                        condition=models.Q(("state", "new")), fields=["id"], name="djm_callback_new"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Conversation",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "state",
                    models.JSONField(
                        blank=True,
                        default=dict,
                        help_text="What the rules remember; saved with the event.",
                        verbose_name="state",
                    ),
                ),
                (
                    "date_last_inbound",
                    models.DateTimeField(
                        blank=True,
                        editable=False,
                        help_text="Opens Meta's window of 24 hours.",
                        null=True,
                        verbose_name="last message of the person",
                    ),
                ),
                (
                    "date_last_activity",
                    models.DateTimeField(
                        db_index=True,
                        default=django.utils.timezone.now,
                        editable=False,
                        verbose_name="last activity",
                    ),
                ),
                (
                    "person",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="conversations",
                        to="djmessenger.fbuserprofile",
                        verbose_name="person",
                    ),
                ),
                (
                    "page",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="conversations",
                        to="djmessenger.page",
                        verbose_name="page",
                    ),
                ),
            ],
            options={
                "verbose_name": "conversation",
                "verbose_name_plural": "conversations",
            },
        ),
        migrations.CreateModel(
            name="Messaging",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("type", models.CharField(max_length=64, verbose_name="type")),
                ("body", models.JSONField(help_text="The item as Meta sent it.", verbose_name="body")),
                (
                    "key",
                    models.CharField(
                        help_text="The same for the same event.",
                        max_length=128,
                        null=True,
                        unique=True,
                        verbose_name="key",
                    ),
                ),
                (
                    "mid",
                    models.CharField(blank=True, db_index=True, max_length=255, verbose_name="message id"),
                ),
                (
                    "echo_token",
                    models.CharField(
                        blank=True,
                        db_index=True,
                        help_text="Names the attempt that this echo proves.",
                        max_length=64,
                        null=True,
                        verbose_name="token of the echo",
                    ),
                ),
                (
                    "is_standby",
                    models.BooleanField(
                        default=False, help_text="Another app has the conversation.", verbose_name="standby"
                    ),
                ),
                (
                    "timestamp",
                    models.BigIntegerField(
                        help_text="Milliseconds since 1970, UTC.", verbose_name="time of the event"
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("new", "waiting"),
                            ("done", "done"),
                            ("failed", "failed"),
                            ("ignored", "ignored"),
                            ("paused", "paused"),
                        ],
                        default="new",
                        max_length=8,
                        verbose_name="state",
                    ),
                ),
                ("reason", models.CharField(blank=True, max_length=255, verbose_name="reason")),
                ("outcome", models.JSONField(blank=True, null=True, verbose_name="outcome")),
                ("error", models.TextField(blank=True, verbose_name="traceback")),
                ("tries", models.PositiveSmallIntegerField(default=0, verbose_name="failed tries")),
                ("not_before", models.DateTimeField(blank=True, null=True, verbose_name="not before")),
                (
                    "is_kept",
                    models.BooleanField(
                        default=False, help_text="Not removed when old rows are.", verbose_name="kept"
                    ),
                ),
                (
                    "date_received",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="received"),
                ),
                ("date_handled", models.DateTimeField(blank=True, null=True, verbose_name="handled")),
                (
                    "callback",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="messagings",
                        to="djmessenger.callback",
                        verbose_name="callback",
                    ),
                ),
                (
                    "conversation",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="messagings",
                        to="djmessenger.conversation",
                        verbose_name="conversation",
                    ),
                ),
                (
                    "page",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="messagings",
                        to="djmessenger.page",
                        verbose_name="page",
                    ),
                ),
            ],
            options={
                "verbose_name": "messaging",
                "verbose_name_plural": "messagings",
                "permissions": [("replay_messaging", "Can have messagings handled again")],
            },
        ),
        migrations.CreateModel(
            name="GraphCall",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("date", models.DateTimeField(default=django.utils.timezone.now, verbose_name="time")),
                ("method", models.CharField(max_length=8, verbose_name="method")),
                ("path", models.CharField(help_text="Ids are hashed.", max_length=255, verbose_name="path")),
                ("status", models.PositiveIntegerField(blank=True, null=True, verbose_name="HTTP status")),
                (
                    "outcome",
                    models.CharField(
                        help_text="ok, or the kind of error.", max_length=64, verbose_name="outcome"
                    ),
                ),
                ("code", models.BigIntegerField(blank=True, null=True, verbose_name="code")),
                ("subcode", models.BigIntegerField(blank=True, null=True, verbose_name="subcode")),
                ("ms", models.FloatField(help_text="Milliseconds.", verbose_name="duration")),
                ("fbtrace_id", models.CharField(blank=True, max_length=64, verbose_name="trace id")),
                (
                    "page",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="graph_calls",
                        to="djmessenger.page",
                        verbose_name="page",
                    ),
                ),
            ],
            options={
                "verbose_name": "Graph call",
                "verbose_name_plural": "Graph calls",
            },
        ),
        migrations.AddField(
            model_name="fbuserprofile",
            name="page",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="persons",
                to="djmessenger.page",
                verbose_name="page",
            ),
        ),
        migrations.CreateModel(
            name="Reply",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uuid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("rule", models.CharField(blank=True, max_length=255, verbose_name="rule")),
                ("type", models.CharField(max_length=32, verbose_name="type")),
                (
                    "data",
                    models.JSONField(
                        help_text="The body of the call, without the recipient.", verbose_name="data"
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("queued", "queued"),
                            ("sending", "being sent"),
                            ("sent", "sent"),
                            ("failed", "failed"),
                            ("unknown", "Meta may have it"),
                            ("parked", "set aside"),
                            ("expired", "too late"),
                        ],
                        default="queued",
                        max_length=8,
                        verbose_name="fate",
                    ),
                ),
                (
                    "is_parked_when_unsure",
                    models.BooleanField(
                        help_text="Rather than sent again. Unset: as DJM_WHEN_UNSURE says.",
                        null=True,
                        verbose_name="set aside when unsure",
                    ),
                ),
                ("not_before", models.DateTimeField(blank=True, null=True, verbose_name="not before")),
                (
                    "vouched_wait",
                    models.FloatField(
                        default=0.0,
                        help_text="In seconds that were watched, not by the clock.",
                        verbose_name="waited for the echo",
                    ),
                ),
                (
                    "mid",
                    models.CharField(
                        blank=True, max_length=255, null=True, unique=True, verbose_name="message id"
                    ),
                ),
                ("response", models.JSONField(blank=True, null=True, verbose_name="Graph's answer")),
                (
                    "status_code",
                    models.PositiveIntegerField(blank=True, null=True, verbose_name="HTTP status"),
                ),
                ("error", models.TextField(blank=True, verbose_name="error")),
                (
                    "date_sent",
                    models.DateTimeField(
                        default=django.utils.timezone.now,
                        help_text="Time of queueing until it is sent.",
                        verbose_name="sent",
                    ),
                ),
                ("date_delivered", models.DateTimeField(blank=True, null=True, verbose_name="delivered")),
                ("date_read", models.DateTimeField(blank=True, null=True, verbose_name="read")),
                (
                    "conversation",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="replies",
                        to="djmessenger.conversation",
                        verbose_name="conversation",
                    ),
                ),
                (
                    "messaging",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="replies",
                        to="djmessenger.messaging",
                        verbose_name="answers",
                    ),
                ),
                (
                    "recipient",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        to="djmessenger.fbuserprofile",
                        verbose_name="person",
                    ),
                ),
            ],
            options={
                "verbose_name": "reply",
                "verbose_name_plural": "replies",
                "permissions": [("resend_reply", "Can send replies again")],
            },
        ),
        migrations.CreateModel(
            name="Attempt",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.PositiveSmallIntegerField(verbose_name="number")),
                (
                    "token",
                    models.CharField(
                        help_text="Comes back in the echo of the message.",
                        max_length=64,
                        unique=True,
                        verbose_name="token",
                    ),
                ),
                ("epoch", models.BigIntegerField(verbose_name="claim of the lane")),
                (
                    "outcome",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("", "not known"),
                            ("accepted", "accepted"),
                            ("unsent", "not sent"),
                            ("refused", "refused"),
                            ("unknown", "Meta may have it"),
                        ],
                        default="",
                        max_length=8,
                        verbose_name="outcome",
                    ),
                ),
                (
                    "status_code",
                    models.PositiveIntegerField(blank=True, null=True, verbose_name="HTTP status"),
                ),
                ("code", models.BigIntegerField(blank=True, null=True, verbose_name="code")),
                ("subcode", models.BigIntegerField(blank=True, null=True, verbose_name="subcode")),
                ("fbtrace_id", models.CharField(blank=True, max_length=64, verbose_name="trace id")),
                ("mid", models.CharField(blank=True, max_length=255, verbose_name="message id")),
                (
                    "date_started",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="started"),
                ),
                ("date_ended", models.DateTimeField(blank=True, null=True, verbose_name="ended")),
                (
                    "reply",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="attempts",
                        to="djmessenger.reply",
                        verbose_name="reply",
                    ),
                ),
            ],
            options={
                "verbose_name": "attempt",
                "verbose_name_plural": "attempts",
            },
        ),
        migrations.CreateModel(
            name="UploadedFile",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("sha256", models.CharField(max_length=64, verbose_name="hash of the content")),
                (
                    "kind",
                    models.CharField(
                        help_text="As Meta calls it: image, audio, video or file.",
                        max_length=16,
                        verbose_name="kind",
                    ),
                ),
                ("attachment_id", models.CharField(max_length=64, verbose_name="attachment id")),
                (
                    "date_created",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="uploaded"),
                ),
                ("date_expires", models.DateTimeField(db_index=True, verbose_name="expires")),
                (
                    "page",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="uploaded_files",
                        to="djmessenger.page",
                        verbose_name="page",
                    ),
                ),
            ],
            options={
                "verbose_name": "uploaded file",
                "verbose_name_plural": "uploaded files",
            },
        ),
        migrations.CreateModel(
            name="UserLocation",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("latitude", models.DecimalField(decimal_places=16, max_digits=19, verbose_name="latitude")),
                (
                    "longitude",
                    models.DecimalField(decimal_places=16, max_digits=19, verbose_name="longitude"),
                ),
                ("title", models.CharField(blank=True, max_length=255, verbose_name="title")),
                ("url", models.TextField(blank=True, verbose_name="address of the map")),
                ("mid", models.CharField(blank=True, max_length=255, verbose_name="message id")),
                (
                    "seq",
                    models.BigIntegerField(
                        blank=True,
                        help_text="Sent by Meta until 2019 only.",
                        null=True,
                        verbose_name="sequence number",
                    ),
                ),
                ("timestamp", models.DateTimeField(blank=True, null=True, verbose_name="sent")),
                (
                    "date_created",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, verbose_name="stored"
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        to="djmessenger.fbuserprofile",
                        verbose_name="person",
                    ),
                ),
            ],
            options={
                "verbose_name": "location",
                "verbose_name_plural": "locations",
            },
        ),
        migrations.CreateModel(
            name="Lane",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("in", "incoming"), ("out", "outgoing")],
                        max_length=3,
                        verbose_name="direction",
                    ),
                ),
                (
                    "ready_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="Or due, where it lies ahead.",
                        null=True,
                        verbose_name="waiting since",
                    ),
                ),
                ("leased_until", models.DateTimeField(blank=True, null=True, verbose_name="held until")),
                ("epoch", models.BigIntegerField(default=0, verbose_name="number of claims")),
                ("owner", models.CharField(blank=True, max_length=64, verbose_name="held by")),
                (
                    "is_slow",
                    models.BooleanField(
                        db_default=False,
                        default=False,
                        help_text="Waits for a thread for slow work.",
                        verbose_name="slow",
                    ),
                ),
                (
                    "conversation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="lanes",
                        to="djmessenger.conversation",
                        verbose_name="conversation",
                    ),
                ),
            ],
            options={
                "verbose_name": "conversation queue",
                "verbose_name_plural": "conversation queues",
                "indexes": [
                    models.Index(
                        condition=models.Q(("ready_at__isnull", False)),
                        fields=["kind", "is_slow", "ready_at"],
                        name="djm_lane_waiting",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("conversation", "kind"), name="djm_lane_conversation_kind"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Sweep",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("date_free", models.DateTimeField(verbose_name="free from")),
            ],
            options={
                "verbose_name": "sweep",
                "verbose_name_plural": "sweeps",
            },
        ),
        migrations.AddIndex(
            model_name="messaging",
            index=models.Index(fields=["conversation", "timestamp", "id"], name="djm_messaging_dialogue"),
        ),
        migrations.AddIndex(
            model_name="messaging",
            index=models.Index(
                condition=models.Q(("state", "new")),
                fields=["conversation", "timestamp", "id"],
                name="djm_messaging_waiting",
            ),
        ),
        migrations.AddIndex(
            model_name="messaging",
            index=models.Index(fields=["date_received"], name="djm_messaging_received"),
        ),
        migrations.AddIndex(
            model_name="graphcall",
            index=models.Index(fields=["page", "id"], name="djm_graphcall_page"),
        ),
        migrations.AddConstraint(
            model_name="conversation",
            constraint=models.UniqueConstraint(
                fields=("page", "person"), name="djm_conversation_page_person"
            ),
        ),
        migrations.AddIndex(
            model_name="reply",
            index=models.Index(fields=["conversation", "id"], name="djm_reply_dialogue"),
        ),
        migrations.AddIndex(
            model_name="reply",
            index=models.Index(
                condition=models.Q(("state__in", ["queued", "sending", "unknown"])),
                fields=["conversation", "id"],
                name="djm_reply_open",
            ),
        ),
        migrations.AddConstraint(
            model_name="attempt",
            constraint=models.UniqueConstraint(fields=("reply", "number"), name="djm_attempt_reply_number"),
        ),
        migrations.AddConstraint(
            model_name="uploadedfile",
            constraint=models.UniqueConstraint(
                fields=("page", "sha256", "kind"), name="djm_uploaded_page_hash_kind"
            ),
        ),
    ]
