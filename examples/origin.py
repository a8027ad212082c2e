"""The origin of examples/members.toml: it needs nothing but Python.

python3 examples/origin.py [PORT]      serves conversations on localhost, on port 8000 unless PORT is given
python3 examples/origin.py token USER  prints a token of a user, as a login would; it is valid for an hour
"""

import base64, hmac, http.server, json, sys, time

KEY = b"only the login and gripd know this"
WEBHOOKS = b"only the origin and gripd know this"
HOLDS = {"conversation": "stream", "poll": "response"}
EVENTS = []


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def token(user):
    claims = {"sub": user, "exp": int(time.time()) + 3600}
    text = b".".join(encode(json.dumps(part).encode()) for part in ({"alg": "HS256"}, claims))
    return (text + b"." + encode(hmac.digest(KEY, text, "sha256"))).decode()


def is_gripds(token):
    """Returns whether gripd itself sent this. It signs clients' requests, too, but not for the audience "webhook"."""
    text, _, signature = token.rpartition(".")
    if not hmac.compare_digest(signature.encode(), encode(hmac.digest(WEBHOOKS, text.encode(), "sha256"))):
        return False
    claims = json.loads(base64.urlsafe_b64decode(text.split(".")[1] + "=="))
    return claims.get("aud") == "webhook" and claims["exp"] > time.time()


class Origin(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # /conversation/1 is held as a stream, /poll/1 as a long-poll; /events lists the webhooks so far
        page, _, number = self.path.split("?")[0].strip("/").partition("/")
        if page in HOLDS:
            self.answer("hello\n", {"Grip-Hold": HOLDS[page], "Grip-Channel": "conversation" + number})
        else:
            self.answer("".join(EVENTS))

    def do_POST(self):  # /events: gripd sends its webhooks to it
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for event in json.loads(body)["events"] if is_gripds(self.headers.get("Grip-Sig", "")) else []:
            EVENTS.append(json.dumps(event) + "\n")
            print(EVENTS[-1], end="", flush=True)
        self.answer("")

    def answer(self, text, headers={}):
        self.send_response(200)
        for name, value in {"Content-Type": "text/plain", "Content-Length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


if sys.argv[1:2] == ["token"]:
    print(token(sys.argv[2]))
else:
    http.server.ThreadingHTTPServer(("localhost", int((sys.argv + [8000])[1])), Origin).serve_forever()
