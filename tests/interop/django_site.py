"""A Django site with django-eventstream: its events are kept in a database, and published to a GRIP proxy.

    python django_site.py DATABASE GRIP_URL

The site serves on a free port, which it prints on standard error. Besides the streams of django-eventstream it has the
pages that the scenes need: one that sends an event, one that lists the events in the database, and others.
"""

import json
import sys
import warnings

import django
from django.conf import settings

DATABASE, GRIP_URL = sys.argv[1:]

# This comes before the imports below, because the modules read these settings.
settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": DATABASE,
            "OPTIONS": {
                # Otherwise a transaction that reads before it writes would fail if another one wrote in between.
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF",
            },
        }
    },
    EVENTSTREAM_CHANNELMANAGER_CLASS="__main__.Channels",
    EVENTSTREAM_STORAGE_CLASS="django_eventstream.storage.DjangoModelStorage",
    # Because the URL has a key, Django trusts a request to come from gripd only if it is signed with that key.
    GRIP_URL=GRIP_URL,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_eventstream"],
    MIDDLEWARE=["__main__.NextLinkTimeout", "django_grip.GripMiddleware", "__main__.UserOfTheQuery"],
    ROOT_URLCONF="__main__",
    SECRET_KEY="not a secret, but as long as one has to be",
    USE_TZ=True,
)
# A library warns that gripd's default key is short. Here it does not matter, as there is no secret to keep.
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


# The pairs of a user and a channel that the user may not read any more.
kicked = set()


class Channels(DefaultChannelManager):
    def can_read_channel(self, user, channel):
        return (user, channel) not in kicked


class NextLinkTimeout:
    """Adds the seconds in the request's parameter `poll` to the Grip-Link of the response, as a timeout.

    django-eventstream has no setting for this. The link repeats the parameters of the request, so the response to the
    link has the same timeout.
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
    """Logs in the user that the query names. Creates the user if necessary."""

    def __init__(self, respond):
        self._respond = respond

    def __call__(self, request):
        name = request.GET.get("user")
        request.user = User.objects.get_or_create(username=name)[0] if name else AnonymousUser()
        return self._respond(request)


def send(request):
    """Sends the body as an event. With `lost` it is stored but not published. `skip` names users who do not get it."""
    channel, text = request.GET["channel"], request.body.decode()
    if "lost" in request.GET:
        get_storage().append_event(channel, "message", text)
    else:
        skipped = User.objects.filter(username__in=request.GET.getlist("skip"))
        # A thread publishes the event in the background, so this request succeeds even if the proxy is not running.
        send_event(channel, "message", text, [str(user.id) for user in skipped], json_encode=False)
    return HttpResponse()


def kick(request):
    """Takes the right to read a channel from a user."""
    user, channel = User.objects.get(username=request.GET["user"]), request.GET["channel"]
    kicked.add((user, channel))
    channel_permission_changed(user, channel)
    return HttpResponse()


def current(request):
    """Returns the id of the latest event. A page is usually rendered with it, so that its client begins there."""
    return HttpResponse(get_current_event_id(request.GET.getlist("channel")))


def log(request):
    """Returns all events of a channel that are in the database, as pairs of the number and the data."""
    # The event with the number 0 is left out. It has no data, and only marks where the channel begins.
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
