"""Rename tables, columns, indexes and constraints to the words of the glossary, and reword the texts of fields.

Rows are kept.
"""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("djmessenger", "0001_squashed_0003"),
    ]

    operations = [
        migrations.RenameModel(old_name="Lane", new_name="ConversationQueue"),
        migrations.RenameIndex(
            model_name="conversationqueue", old_name="djm_lane_waiting", new_name="djm_queue_due"
        ),
        migrations.RemoveConstraint(model_name="conversationqueue", name="djm_lane_conversation_kind"),
        migrations.AddConstraint(
            model_name="conversationqueue",
            constraint=models.UniqueConstraint(
                fields=("conversation", "kind"), name="djm_queue_conversation_kind"
            ),
        ),
        migrations.RenameField(model_name="conversationqueue", old_name="epoch", new_name="fencing_token"),
        migrations.RenameField(model_name="attempt", old_name="epoch", new_name="fencing_token"),
        migrations.RenameField(model_name="reply", old_name="vouched_wait", new_name="observed_wait"),
        migrations.AlterField(
            model_name="conversationqueue",
            name="fencing_token",
            field=models.BigIntegerField(default=0, verbose_name="fencing token"),
        ),
        migrations.AlterField(
            model_name="attempt",
            name="fencing_token",
            field=models.BigIntegerField(verbose_name="fencing token"),
        ),
        migrations.AlterField(
            model_name="conversationqueue",
            name="conversation",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="queues",
                to="djmessenger.conversation",
                verbose_name="conversation",
            ),
        ),
        migrations.AlterField(
            model_name="attempt",
            name="outcome",
            field=models.CharField(
                blank=True,
                choices=[
                    ("", "no result yet"),
                    ("accepted", "accepted"),
                    ("unsent", "not sent"),
                    ("refused", "refused"),
                    ("unknown", "fate unknown"),
                ],
                default="",
                max_length=8,
                verbose_name="outcome",
            ),
        ),
        migrations.AlterField(
            model_name="attempt",
            name="token",
            field=models.CharField(
                help_text="Sent with the message. The echo of the message returns it.",
                max_length=64,
                unique=True,
                verbose_name="token",
            ),
        ),
        migrations.AlterField(
            model_name="callback",
            name="app_id",
            field=models.CharField(
                blank=True,
                help_text="The Meta app whose secret signed it, if known.",
                max_length=64,
                verbose_name="app id",
            ),
        ),
        migrations.AlterField(
            model_name="callback",
            name="copies",
            field=models.PositiveIntegerField(
                default=1, help_text="Number of times that Meta sent the same bytes.", verbose_name="copies"
            ),
        ),
        migrations.AlterField(
            model_name="callback",
            name="state",
            field=models.CharField(
                choices=[
                    ("new", "waiting for the split"),
                    ("split", "split"),
                    ("quarantined", "quarantined"),
                ],
                default="new",
                max_length=12,
                verbose_name="state",
            ),
        ),
        migrations.AlterField(
            model_name="conversation",
            name="date_last_inbound",
            field=models.DateTimeField(
                blank=True,
                editable=False,
                help_text="Meta accepts responses until 24 hours after this time.",
                null=True,
                verbose_name="last message of the person",
            ),
        ),
        migrations.AlterField(
            model_name="conversation",
            name="state",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text="Data that the rules keep about this conversation, saved together with each event.",
                verbose_name="state",
            ),
        ),
        migrations.AlterField(
            model_name="conversationqueue",
            name="is_slow",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="The queue waits for a free thread for slow rules.",
                verbose_name="slow",
            ),
        ),
        migrations.AlterField(
            model_name="conversationqueue",
            name="leased_until",
            field=models.DateTimeField(blank=True, null=True, verbose_name="leased until"),
        ),
        migrations.AlterField(
            model_name="conversationqueue",
            name="owner",
            field=models.CharField(
                blank=True,
                help_text="Host name and process id of the worker.",
                max_length=64,
                verbose_name="leased by",
            ),
        ),
        migrations.AlterField(
            model_name="conversationqueue",
            name="ready_at",
            field=models.DateTimeField(
                blank=True,
                help_text="When the queue became due. In the future: when it will be due. Empty: no work waits.",
                null=True,
                verbose_name="due since",
            ),
        ),
        migrations.AlterField(
            model_name="fbuserprofile",
            name="date_profile",
            field=models.DateTimeField(
                blank=True, editable=False, null=True, verbose_name="profile requested"
            ),
        ),
        migrations.AlterField(
            model_name="fbuserprofile",
            name="date_unreachable",
            field=models.DateTimeField(
                blank=True,
                editable=False,
                help_text="Since then Meta refuses messages to this person. A new message of the person clears it.",
                null=True,
                verbose_name="unreachable since",
            ),
        ),
        migrations.AlterField(
            model_name="fbuserprofile",
            name="locale",
            field=models.CharField(
                blank=True,
                help_text="In the form that Facebook uses, such as en_US.",
                max_length=16,
                verbose_name="locale",
            ),
        ),
        migrations.AlterField(
            model_name="fbuserprofile",
            name="profile_pic",
            field=models.TextField(
                blank=True,
                help_text="Address on Meta's servers, valid for a limited time.",
                verbose_name="profile picture",
            ),
        ),
        migrations.AlterField(
            model_name="fbuserprofile",
            name="profile_state",
            field=models.CharField(
                choices=[
                    ("new", "not requested yet"),
                    ("fetched", "fetched"),
                    ("refused", "refused by Meta"),
                ],
                default="new",
                editable=False,
                max_length=8,
                verbose_name="profile",
            ),
        ),
        migrations.AlterField(
            model_name="fbuserprofile",
            name="psid",
            field=models.CharField(
                help_text="Meta gives each Page a different id for the same person.",
                max_length=64,
                primary_key=True,
                serialize=False,
                verbose_name="page-scoped id",
            ),
        ),
        migrations.AlterField(
            model_name="graphcall",
            name="outcome",
            field=models.CharField(
                help_text="ok, or the class of the error.", max_length=64, verbose_name="outcome"
            ),
        ),
        migrations.AlterField(
            model_name="messaging",
            name="body",
            field=models.JSONField(
                help_text="The item of the callback as Meta sent it.", verbose_name="body"
            ),
        ),
        migrations.AlterField(
            model_name="messaging",
            name="echo_token",
            field=models.CharField(
                blank=True,
                db_index=True,
                help_text="Token of the attempt that this echo confirms.",
                max_length=64,
                null=True,
                verbose_name="token of the echo",
            ),
        ),
        migrations.AlterField(
            model_name="messaging",
            name="is_kept",
            field=models.BooleanField(
                default=False, help_text="Not removed together with old rows.", verbose_name="kept"
            ),
        ),
        migrations.AlterField(
            model_name="messaging",
            name="is_standby",
            field=models.BooleanField(
                default=False,
                help_text="Another app controlled the conversation when the event came.",
                verbose_name="standby",
            ),
        ),
        migrations.AlterField(
            model_name="messaging",
            name="key",
            field=models.CharField(
                help_text="The same each time Meta sends the same event.",
                max_length=128,
                null=True,
                unique=True,
                verbose_name="key",
            ),
        ),
        migrations.AlterField(
            model_name="messaging",
            name="timestamp",
            field=models.BigIntegerField(
                help_text="Milliseconds since 1970-01-01 UTC.", verbose_name="time of the event"
            ),
        ),
        migrations.AlterField(
            model_name="page",
            name="app_id",
            field=models.CharField(
                blank=True,
                help_text="The Meta app of the Page. Its secret must be in DJM_APP_SECRET. Callbacks of other apps are ignored.",
                max_length=64,
                verbose_name="app id",
            ),
        ),
        migrations.AlterField(
            model_name="page",
            name="date_last_echo",
            field=models.DateTimeField(
                blank=True, editable=False, null=True, verbose_name="last echo of the bot"
            ),
        ),
        migrations.AlterField(
            model_name="page",
            name="echo_lag",
            field=models.FloatField(
                blank=True,
                editable=False,
                help_text="Seconds between a send and its echo: a maximum that decreases slowly.",
                null=True,
                verbose_name="echo lag",
            ),
        ),
        migrations.AlterField(
            model_name="page",
            name="is_logged",
            field=models.BooleanField(
                default=False,
                help_text="Store a line for each call to Graph, without texts.",
                verbose_name="request log",
            ),
        ),
        migrations.AlterField(
            model_name="page",
            name="language",
            field=models.CharField(
                blank=True,
                help_text="Language for persons whose language is unknown, such as de. Empty: the project's language.",
                max_length=16,
                verbose_name="language",
            ),
        ),
        migrations.AlterField(
            model_name="page",
            name="login",
            field=models.CharField(
                choices=[("facebook", "Facebook Login"), ("instagram", "Instagram Login")],
                default="facebook",
                help_text="Login with which the token of an Instagram account was made. It decides the host of the API.",
                max_length=16,
                verbose_name="login",
            ),
        ),
        migrations.AlterField(
            model_name="page",
            name="pause_reason",
            field=models.TextField(blank=True, verbose_name="reason of the pause"),
        ),
        migrations.AlterField(
            model_name="page",
            name="paused_token",
            field=models.CharField(
                blank=True,
                editable=False,
                help_text="Hash of the token that Graph refused. A new token ends the pause.",
                max_length=16,
                verbose_name="refused token",
            ),
        ),
        migrations.AlterField(
            model_name="page",
            name="paused_until",
            field=models.DateTimeField(
                blank=True,
                help_text="No reply is sent for this Page before this time.",
                null=True,
                verbose_name="paused until",
            ),
        ),
        migrations.AlterField(
            model_name="page",
            name="policy",
            field=models.CharField(
                blank=True,
                help_text="Dotted path of a module of rules or of a dict, or a JSON file. Empty: the project's policy.",
                max_length=255,
                verbose_name="policy",
            ),
        ),
        migrations.AlterField(
            model_name="page",
            name="token_ciphertext",
            field=models.TextField(
                blank=True,
                editable=False,
                help_text="Encrypted with the newest key of DJM_TOKEN_KEYS.",
                verbose_name="access token",
            ),
        ),
        migrations.AlterField(
            model_name="page",
            name="version",
            field=models.CharField(
                blank=True,
                help_text="Such as v26.0. Empty: the version in the settings.",
                max_length=16,
                verbose_name="Graph version",
            ),
        ),
        migrations.AlterField(
            model_name="profilesnapshot",
            name="before",
            field=models.JSONField(
                help_text="Value of each property; null if it was not set.", verbose_name="before"
            ),
        ),
        migrations.AlterField(
            model_name="profilesnapshot",
            name="is_complete",
            field=models.BooleanField(
                default=False,
                help_text="Unset if the change was interrupted. The next change completes it.",
                verbose_name="complete",
            ),
        ),
        migrations.AlterField(
            model_name="reply",
            name="data",
            field=models.JSONField(
                help_text="Body of the call to Meta, without the recipient.", verbose_name="data"
            ),
        ),
        migrations.AlterField(
            model_name="reply",
            name="date_sent",
            field=models.DateTimeField(
                default=django.utils.timezone.now,
                help_text="Until the reply is sent: the time when it was queued.",
                verbose_name="sent",
            ),
        ),
        migrations.AlterField(
            model_name="reply",
            name="is_parked_when_unsure",
            field=models.BooleanField(
                help_text="If unknown whether Meta has the reply: park it (yes) or resend it (no). Unset: DJM_WHEN_UNSURE.",
                null=True,
                verbose_name="park if fate unknown",
            ),
        ),
        migrations.AlterField(
            model_name="reply",
            name="observed_wait",
            field=models.FloatField(
                default=0.0,
                help_text="Seconds of waiting in which an echo would have been noticed.",
                verbose_name="observed wait",
            ),
        ),
        migrations.AlterField(
            model_name="reply",
            name="state",
            field=models.CharField(
                choices=[
                    ("queued", "queued"),
                    ("sending", "being sent"),
                    ("sent", "sent"),
                    ("failed", "failed"),
                    ("unknown", "fate unknown"),
                    ("parked", "parked"),
                    ("expired", "expired"),
                ],
                default="queued",
                max_length=8,
                verbose_name="state",
            ),
        ),
        migrations.AlterField(
            model_name="uploadedfile",
            name="kind",
            field=models.CharField(
                help_text="Meta's word: image, audio, video or file.", max_length=16, verbose_name="kind"
            ),
        ),
        migrations.AlterField(
            model_name="userlocation",
            name="seq",
            field=models.BigIntegerField(
                blank=True,
                help_text="Meta sent it until 2019 only.",
                null=True,
                verbose_name="sequence number",
            ),
        ),
    ]
