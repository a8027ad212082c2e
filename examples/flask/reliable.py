"""A chat whose clients miss nothing, as streams and long-polls. docs/tutorial.md explains it."""

import json
import re
import sqlite3
from contextlib import closing
from urllib.parse import quote

from flask import Flask, request, send_file
from gripcontrol import GripPubControl, HttpResponseFormat, HttpStreamFormat
from pubcontrol import Item

app = Flask(__name__)
gripd = GripPubControl({"control_uri": "http://localhost:5561"})


def sql(statement, *values):
    with closing(sqlite3.connect("chat.db")) as database, database:
        return database.execute(statement, values).fetchall()


sql("CREATE TABLE IF NOT EXISTS line (id INTEGER PRIMARY KEY, name TEXT, text TEXT)")


def user():
    return quote(request.args.get("name", "guest"), safe="")


def missed():
    """Returns the lines that the client does not have yet, and the channels that hold it after the last of them."""
    last = re.search(r"last-id=(\d+)", request.headers.get("Grip-Last", ""))
    query = request.args.get("after", 0, type=int)
    after = int(last[1]) if last else request.headers.get("Last-Event-ID", query, type=int)
    rows = sql("SELECT id, name, text FROM line WHERE id > ? ORDER BY id", after)
    channels = f"conversation123; prev-id={rows[-1][0] if rows else after}, user-{user()}"
    return [{"id": id, "name": name, "text": text} for id, name, text in rows], {"Grip-Channel": channels}


def event(line):
    return f"id: {line['id']}\ndata: {json.dumps(line)}\n\n"


@app.get("/events")
def events():
    lines, channels = missed()
    link = f"</events?name={user()}>; rel=next; timeout=20"
    head = {"Content-Type": "text/event-stream", "Grip-Hold": "stream", "Grip-Link": link, **channels}
    return "".join(map(event, lines)), head


@app.post("/say")
def say():
    name, text = request.form["name"], request.form["text"]
    [(id,)] = sql("INSERT INTO line (name, text) VALUES (?, ?) RETURNING id", name, text)
    line = {"id": id, "name": name, "text": text}
    formats = [HttpStreamFormat(event(line)), HttpResponseFormat(body=json.dumps([line]) + "\n")]
    gripd.publish("conversation123", Item(formats, str(id), str(id - 1)), callback=log_failure)
    return "", 204


def log_failure(published, why):
    if not published:
        app.logger.warning("The line is stored, but not published yet: %s", why)


@app.get("/")
def page():
    return send_file("../chat.html")


@app.get("/poll")
def poll():
    lines, channels = missed()
    return lines or ("", 204, {"Grip-Hold": "response", **channels})
