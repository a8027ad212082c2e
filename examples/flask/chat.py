"""A chat with gripd as streams, long-polls and WebSockets. docs/tutorial.md explains it."""

import json
from urllib.parse import quote

from flask import Flask, request, send_file
from gripcontrol import GripPubControl, HttpResponseFormat, HttpStreamFormat, WebSocketMessageFormat
from gripcontrol import WebSocketEvent, decode_websocket_events, encode_websocket_events, websocket_control_message
from pubcontrol import Item

app = Flask(__name__)
gripd = GripPubControl({"control_uri": "http://localhost:5561"})


def channels():
    return ["conversation123", "user-" + quote(request.args.get("name", "guest"), safe="")]


def tell(name, text):
    line = json.dumps({"name": name, "text": text})
    stream, response = HttpStreamFormat(f"data: {line}\n\n"), HttpResponseFormat(body=line + "\n")
    gripd.publish("conversation123", Item([stream, response, WebSocketMessageFormat(line)]), blocking=True)


@app.get("/events")
def events():
    return "", {"Content-Type": "text/event-stream", "Grip-Hold": "stream", "Grip-Channel": ", ".join(channels())}


@app.post("/say")
def say():
    tell(request.form["name"], request.form["text"])
    return "", 204


@app.get("/")
def page():
    return send_file("../chat.html")


@app.get("/poll")
def poll():
    return "", 204, {"Grip-Hold": "response", "Grip-Channel": ", ".join(channels())}


@app.post("/socket")
def socket():
    answer = []
    for event in decode_websocket_events(request.get_data()):
        if event.type == "OPEN":
            subscribe = [websocket_control_message("subscribe", {"channel": channel}) for channel in channels()]
            answer += [event, *(WebSocketEvent("TEXT", "c:" + message) for message in subscribe)]
        elif event.type == "TEXT":
            tell(request.args.get("name", "guest"), event.content.decode())
        elif event.type in ("PING", "CLOSE"):
            answer.append(WebSocketEvent(event.type.replace("PING", "PONG"), event.content))
    headers = {"Content-Type": "application/websocket-events", "Sec-WebSocket-Extensions": "grip"}
    return encode_websocket_events(answer), headers
