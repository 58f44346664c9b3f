"""Rename tables, columns, indexes and constraints to the words of the glossary; rows are kept."""

import django.db.models.deletion
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
    ]
