"""Files on this machine: uploaded once for each Page, sent by id, uploaded anew when Meta has dropped them."""

from __future__ import annotations

import datetime
import threading

import pytest
from django.db import connection
from django.utils import timezone

from djmessenger import bot, models
from djmessenger.emulator import EmulatorTransport
from djmessenger.graph.errors import NotSent, UnknownFate
from djmessenger.outgoing import File, Image
from djmessenger.outgoing.local_files import LocalPath
from djmessenger.pipeline import uploads
from tests import pipeline_tools as tools

pytestmark = pytest.mark.django_db

OTHER = "104233987650099"
PIXEL = bytes.fromhex(
    "47494638396101000100800000ffffff00000021f90401000000002c00000000010001000002024401003b"
)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "pixel.gif"
    path.write_bytes(PIXEL)
    return path


class Talk:
    """A person's conversation with a Page of the emulator; what is queued is sent at once."""

    def __init__(self, world, page_id=tools.PAGE):
        self.person = world.add_person(page_id)
        self.person.says("hello")
        self.conversation = models.Conversation.objects.between(page_id, self.person.id)
        self.conversation.date_last_inbound = timezone.now()
        self.conversation.save()

    def queue(self, message, channel="messenger"):
        (body,) = message.requests(channel=channel)
        return models.Reply.objects.queue(self.conversation, body, type=message.kind)

    def send(self, message=None, **options):
        reply = self.queue(message, **options) if message is not None else None
        tools.pass_time(3600)
        bot.get_engine().drain_queue("out", self.conversation.pk)
        reply = reply or models.Reply.objects.latest("id")
        reply.refresh_from_db()
        return reply


@pytest.fixture
def talk(emulator):
    return Talk(emulator)


def calls(world, edge):
    return [call for call in world.calls if call.path.endswith(edge)]


def files_of(world):
    return [call.files for call in calls(world, "/message_attachments")]


def test_a_file_is_uploaded_and_sent_by_its_id(emulator, talk, picture):
    reply = talk.send(Image(path=picture))
    assert reply.state == "sent"
    assert files_of(emulator) == [["pixel.gif"]]
    row = models.UploadedFile.objects.get()
    assert row.attachment_id in emulator.pages[tools.PAGE].attachments
    (message,) = calls(emulator, "/messages")
    assert message.body["message"]["attachment"]["payload"] == {"attachment_id": row.attachment_id}
    assert str(picture) not in repr(emulator.calls)


def test_the_row_keeps_what_was_asked_for(talk, picture):
    """A replay of the reply starts from the file, not from an id that may be gone."""
    assert uploads.has_file(talk.send(Image(path=picture)).data)


def test_the_same_content_is_uploaded_once_whatever_its_name(emulator, talk, picture, tmp_path):
    copy = tmp_path / "copy.gif"
    copy.write_bytes(PIXEL)
    somebody = Talk(emulator)
    for who, path in ((talk, picture), (talk, copy), (somebody, picture)):
        assert who.send(Image(path=path)).state == "sent"
    assert len(files_of(emulator)) == 1


def test_other_content_under_the_same_name_is_another_file(emulator, talk, picture):
    talk.send(Image(path=picture))
    picture.write_bytes(PIXEL + b"\0")
    talk.send(Image(path=picture))
    assert len(files_of(emulator)) == models.UploadedFile.objects.count() == 2


def test_another_kind_is_another_upload(emulator, talk, picture):
    talk.send(Image(path=picture))
    talk.send(File(path=picture))
    assert list(models.UploadedFile.objects.order_by("id").values_list("kind", flat=True)) == [
        "image",
        "file",
    ]


def test_another_page_uploads_its_own(emulator, talk, picture, settings):
    settings.DJM_PAGE_ID = tools.PAGE
    settings.DJM_PAGES = {OTHER: {"token": "token-of-the-other"}}
    emulator.add_page(OTHER, "token-of-the-other", app_secret=settings.DJM_APP_SECRET, require_proof=True)
    talk.send(Image(path=picture))
    assert Talk(emulator, OTHER).send(Image(path=picture)).state == "sent"
    assert sorted(models.UploadedFile.objects.values_list("page__page_id", flat=True)) == [tools.PAGE, OTHER]


def test_an_expired_id_is_not_used_and_its_row_goes(emulator, talk, picture):
    talk.send(Image(path=picture))
    row = models.UploadedFile.objects.get()
    assert datetime.timedelta(days=88) < row.date_expires - timezone.now() < datetime.timedelta(days=90)
    models.UploadedFile.objects.update(date_expires=timezone.now())
    assert talk.send(Image(path=picture)).state == "sent"
    assert len(files_of(emulator)) == 2
    assert models.UploadedFile.objects.get().attachment_id != row.attachment_id


def test_an_id_that_meta_dropped_is_replaced_once(emulator, talk, picture):
    talk.send(Image(path=picture))
    old = models.UploadedFile.objects.get().attachment_id
    emulator.pages[tools.PAGE].attachments.clear()
    reply = talk.send(Image(path=picture))
    assert reply.state == "sent"
    assert list(reply.attempts.order_by("id").values_list("outcome", "subcode")) == [
        ("refused", 2018074),
        ("accepted", None),
    ]
    assert models.UploadedFile.objects.get().attachment_id != old


def test_a_second_refusal_is_the_end(emulator, talk, picture):
    refused = {"code": 100, "subcode": 2018074, "message": "No such attachment"}
    emulator.faults.on("refused", where="/messages", times=5, **refused)
    reply = talk.send(Image(path=picture))
    assert (reply.state, reply.attempts.count()) == ("failed", 2)
    assert len(files_of(emulator)) == 2


def test_an_authors_own_dead_id_is_refused_at_once(emulator, talk):
    reply = talk.send(Image(attachment_id="123"))
    assert (reply.state, reply.attempts.count()) == ("failed", 1)


def test_a_file_that_is_gone_fails_the_reply_and_the_queue_goes_on(emulator, talk, picture):
    first = talk.queue(Image(path=picture))
    picture.unlink()
    second = tools.queue(talk.conversation)
    talk.send()
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.state, second.state) == ("failed", "sent")
    assert "pixel.gif" in first.error


def test_no_transaction_is_open_while_meta_is_asked(emulator, talk, picture):
    """The reply is not under way either: after a crash the next worker reads that it was not sent."""
    seen = []

    class Spy(EmulatorTransport):
        def send(self, request, /):
            states = list(models.Reply.objects.values_list("state", flat=True))
            seen.append((len(connection.savepoint_ids), request.url.rpartition("/")[2], states))
            return super().send(request)

    outside = len(connection.savepoint_ids)
    bot.use_transport(Spy(emulator))
    talk.send(Image(path=picture))
    assert seen == [(outside, "message_attachments", ["queued"]), (outside, "messages", ["sending"])]


def test_an_upload_may_take_longer_than_a_message(emulator, talk, picture, settings):
    settings.DJM_UPLOAD_TIMEOUT, settings.DJM_GRAPH_TIMEOUT = 33.0, 7.0
    seen = []

    class Spy(EmulatorTransport):
        def send(self, request, /):
            seen.append(request.timeout)
            return super().send(request)

    bot.use_transport(Spy(emulator))
    talk.send(Image(path=picture))
    assert seen == [33.0, 7.0]


@pytest.mark.parametrize("fault", ["timeout_before", "timeout_after", "server_error", "unreachable"])
def test_an_upload_of_unknown_fate_is_made_again(emulator, talk, picture, fault):
    """An upload shows nothing to the person, so no echo is expected."""
    emulator.faults.on(fault, where="/message_attachments", times=1)
    reply = talk.send(Image(path=picture))
    assert reply.state == "queued"
    assert list(reply.attempts.values_list("outcome", flat=True)) == ["unsent"]
    assert talk.send().state == "sent"
    assert len(calls(emulator, "/messages")) == 1


def test_an_upload_that_is_refused_fails_the_reply(emulator, talk, picture):
    emulator.faults.on(
        "refused", where="/message_attachments", times=1, code=100, subcode=2018047, message="No"
    )
    reply = talk.send(Image(path=picture))
    assert (reply.state, reply.attempts.get().outcome) == ("failed", "refused")


def test_on_instagram_the_platform_is_named(emulator, picture, settings):
    account = "17840000000001"
    settings.DJM_PAGE_ID = tools.PAGE
    settings.DJM_PAGES = {account: {"token": "token-of-insta", "channel": "instagram"}}
    emulator.add_page(
        "104233987650077",
        "token-of-insta",
        app_secret=settings.DJM_APP_SECRET,
        channel="instagram",
        account_id=account,
    )
    person = emulator.add_person("104233987650077")
    person.says("hello")
    conversation = models.Conversation.objects.between(account, person.id)
    (body,) = Image(path=picture).requests(channel="instagram")
    reply = models.Reply.objects.queue(conversation, body, type="image")
    bot.get_engine().drain_queue("out", conversation.pk)
    reply.refresh_from_db()
    assert reply.state == "sent", reply.error
    (upload,) = calls(emulator, "/message_attachments")
    assert upload.body["platform"] == "INSTAGRAM"


def test_a_body_that_is_no_body_fails_the_reply(emulator, talk):
    for data in (
        {"message": None},
        {"message": {"attachment": {"payload": {"djmessenger_path": LocalPath("x")}}}},
    ):
        reply = models.Reply.objects.queue(talk.conversation, data, type="image")
        bot.get_engine().drain_queue("out", talk.conversation.pk)
        reply.refresh_from_db()
        assert reply.state == "failed"


@pytest.mark.parametrize("error", [UnknownFate("cut off"), NotSent("refused")])
def test_an_error_of_an_upload_is_never_of_unknown_fate(talk, picture, error):
    class Client:
        def upload(self, *args, **options):
            raise error

    (body,) = Image(path=picture).requests()
    with pytest.raises(Exception, match=str(error.message)) as raised:
        uploads.with_file(Client(), talk.conversation.page, body)
    assert raised.value.fate == "unsent"


def test_threads_that_want_the_same_file_upload_it_once(picture, monkeypatch):
    """The second begins during the upload of the first, waits for its end and finds its row."""
    page = models.Page(page_id="1")
    rows, payloads = {}, []
    is_second_there = threading.Event()

    class Lock:
        lock, entries = threading.Lock(), 0

        def __enter__(self):
            self.entries += 1
            if self.entries == 2:
                is_second_there.set()
            self.lock.acquire()

        def __exit__(self, *args):
            self.lock.release()

    class Client:
        uploads = 0

        def upload(self, *args, **options):
            self.uploads += 1
            if self.uploads == 1:
                second.start()
                assert is_second_there.wait(20)
            return "id-1"

    class Rows:
        def find(self, page, digest, kind):
            row = rows.get(digest)
            if threading.current_thread() is second:
                is_second_there.set()
            return row

        def keep(self, page, digest, kind, attachment_id):
            return rows.setdefault(digest, models.UploadedFile(attachment_id=attachment_id))

    monkeypatch.setattr(models.UploadedFile, "objects", Rows())
    monkeypatch.setattr(uploads, "_locks", [Lock()])
    client = Client()
    (body,) = Image(path=picture).requests()

    def send():
        payloads.append(uploads.with_file(client, page, body)["message"]["attachment"]["payload"])

    second = threading.Thread(target=send)
    send()
    second.join()
    assert payloads == [{"attachment_id": "id-1"}] * 2
    assert client.uploads == 1
