"""A chat with gripd as streams, long-polls and WebSockets. docs/tutorial.md explains it."""

import json
from urllib.parse import quote

from django.http import FileResponse, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django_eventstream import send_event, views
from django_grip import publish, set_hold_longpoll, websocket_only
from gripcontrol import HttpResponseFormat, WebSocketMessageFormat


def user_channel(request):
    return "user-" + quote(request.GET.get("name", "guest"), safe="")


def tell(name, text):
    line = json.dumps({"name": name, "text": text})
    send_event("conversation123", "message", line, json_encode=False)
    publish("conversation123", [HttpResponseFormat(body=line + "\n"), WebSocketMessageFormat(line)])


def events(request):
    response = views.events(request, channels=["conversation123"])
    if request.grip.instruct:
        request.grip.instruct.add_channel(user_channel(request))
    return response


def say(request):
    tell(request.POST["name"], request.POST["text"])
    return HttpResponse(status=204)


def page(request):
    return FileResponse(open("../chat.html", "rb"))


def poll(request):
    set_hold_longpoll(request, ["conversation123", user_channel(request)])
    return HttpResponse(status=204)


@csrf_exempt
@websocket_only
def socket(request):
    socket = request.wscontext
    if socket.is_opening():
        socket.accept()
        socket.subscribe("conversation123")
        socket.subscribe(user_channel(request))
    while socket.can_recv():
        try:
            text = socket.recv()
        except OSError:
            break  # The client has gone without a close.
        if text is None:
            socket.close(socket.close_code or 1000)
        else:
            tell(request.GET.get("name", "guest"), text)


urlpatterns = [path("", page), path("events", events), path("say", say), path("poll", poll), path("socket", socket)]
