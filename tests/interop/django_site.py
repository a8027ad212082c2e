"""A Django site with django-eventstream: its events are kept in a database, and published to a GRIP proxy.

    python django_site.py DATABASE GRIP_URL

It serves on a free port, and tells it on standard error. Beside the streams of django-eventstream it has what the
scenes need: an address that sends events, one that says what the database has, and so on.
"""

import json
import sys
import warnings

import django
from django.conf import settings

DATABASE, GRIP_URL = sys.argv[1:]

# Before the imports below: they look for their settings.
settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": DATABASE,
            "OPTIONS": {
                # A transaction that reads before it writes would fail if another one wrote in between.
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF",
            },
        }
    },
    EVENTSTREAM_CHANNELMANAGER_CLASS="__main__.Channels",
    EVENTSTREAM_STORAGE_CLASS="django_eventstream.storage.DjangoModelStorage",
    # The key in it makes Django believe only requests that are signed with that key.
    GRIP_URL=GRIP_URL,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_eventstream"],
    MIDDLEWARE=["__main__.NextLinkTimeout", "django_grip.GripMiddleware", "__main__.UserOfTheQuery"],
    ROOT_URLCONF="__main__",
    SECRET_KEY="not a secret, but as long as one has to be",
    USE_TZ=True,
)
# The default key of a GRIP proxy is short, and there is no secret to keep.
warnings.simplefilter("ignore")
django.setup()

import waitress
from django.contrib.auth.models import AnonymousUser, User
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse
from django.urls import include, path
from django_eventstream import channel_permission_changed, get_current_event_id, send_event
from django_eventstream.channelmanager import DefaultChannelManager
from django_eventstream.models import Event
from django_eventstream.utils import get_storage


# Who is kept out of which channel.
kicked = set()


class Channels(DefaultChannelManager):
    def can_read_channel(self, user, channel):
        return (user, channel) not in kicked


class NextLinkTimeout:
    """Adds the timeout that a request asks for with `poll` to its Grip-Link: django-eventstream has no setting for it.

    The link repeats the parameters of the request, so that what it leads to has the timeout as well.
    """

    def __init__(self, respond):
        self._respond = respond

    def __call__(self, request):
        response = self._respond(request)
        seconds = request.GET.get("poll")
        if seconds and "Grip-Link" in response:
            response["Grip-Link"] += f"; timeout={int(seconds)}"
        return response


class UserOfTheQuery:
    """Logs in whom the query names."""

    def __init__(self, respond):
        self._respond = respond

    def __call__(self, request):
        name = request.GET.get("user")
        request.user = User.objects.get_or_create(username=name)[0] if name else AnonymousUser()
        return self._respond(request)


def send(request):
    """Sends the body as an event. With `lost` only the database hears of it; `skip` names users that do not get it."""
    channel, text = request.GET["channel"], request.body.decode()
    if "lost" in request.GET:
        get_storage().append_event(channel, "message", text)
    else:
        skipped = User.objects.filter(username__in=request.GET.getlist("skip"))
        # A thread publishes it in the background: if the proxy is away, that does not fail this request.
        send_event(channel, "message", text, [str(user.id) for user in skipped], json_encode=False)
    return HttpResponse()


def kick(request):
    """Takes the right to read a channel from a user."""
    user, channel = User.objects.get(username=request.GET["user"]), request.GET["channel"]
    kicked.add((user, channel))
    channel_permission_changed(user, channel)
    return HttpResponse()


def current(request):
    """The id of now, as a page is rendered with it, so that its client begins there."""
    return HttpResponse(get_current_event_id(request.GET.getlist("channel")))


def log(request):
    """All events of a channel as the database has them: the number of each, and its data."""
    # The one with the number 0 has no data: it only marks where the channel begins.
    events = Event.objects.filter(channel=request.GET["channel"], eid__gt=0).order_by("eid")
    return JsonResponse([[event.eid, json.loads(event.data)] for event in events], safe=False)


urlpatterns = [
    path("events/", include("django_eventstream.urls")),
    path("send", send),
    path("kick", kick),
    path("current", current),
    path("log", log),
]

call_command("migrate", verbosity=0)
server = waitress.create_server(get_wsgi_application(), host="127.0.0.1", port=0, threads=8)
print(f"serving {server.effective_port}", file=sys.stderr, flush=True)
server.run()
