"""Two gripds without a cluster behind one nginx, as docs/deploy.md describes them."""

import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from harness import DEADLINE, Answer, Origin, Process, check, eventually, exchange, free_ports, same
from proxies_servers import HOST, Certificate, Gripd, Proxy, blocks, curl_options, open_folder, recipe, replaced

USER, CHANNEL = "user456", "conversation123"


def origin(_):
    """Holds every request as a stream."""
    hold = {"Content-Type": "text/event-stream", "Grip-Hold": "stream", "Grip-Channel": f"{CHANNEL}, {USER}"}
    return Answer(headers=hold, body=b"data: welcome\n\n")


def item(text, **more):
    return {"channel": CHANNEL, "formats": {"http-stream": {"content": f"data: {text}\n\n"}}, **more}


class Nodes:
    """Two gripds with one origin, and an nginx that distributes the clients."""

    def __init__(self, closing):
        self.closing = closing
        self.folder = closing.enter_context(open_folder())
        self.certificate = Certificate(self.folder)
        web = closing.enter_context(Origin(origin))
        self.routes = f"[[route]]\ntarget = '{web.address}'\n"
        folders = [Path(self.folder) / f"gripd-{number}" for number in (1, 2)]
        for folder in folders:
            folder.mkdir()
        self.all = [Gripd(folder, "unix", self.routes) for folder in folders]
        for gripd in self.all:
            closing.callback(gripd.process.end)
        [self.port] = free_ports(1)
        first, upstream = blocks("nginx")
        one = re.search(r"^upstream .*?^}\n", first, re.M | re.S)[0]
        text = replaced(first, [(one, upstream)])
        text = recipe("nginx", self.all[0], "unix", self.certificate, self.port, text, "-1")
        text = replaced(text, [("/run/gripd-2/client.sock", self.all[1].socket)])
        closing.callback(Proxy("nginx", text, self.folder, self.port).end)

    def stream(self):
        """Opens a stream through nginx, and waits for its beginning."""
        client = Process(["curl", "-sSN", *curl_options(self), f"https://{HOST}:{self.port}/events/456"], "stdout")
        self.closing.callback(client.end)
        client.find("^data: welcome$")
        return client

    def streams(self, number):
        """Opens streams one after the other, and waits until the nodes hold them, each of them at least one."""
        clients = [self.stream() for _ in range(number)]
        eventually("all streams are held", lambda: sum(self.held()) == number)
        check(min(self.held()) > 0, f"a node holds no stream: {self.held()}")
        return clients

    def held(self):
        return [gripd.connections(USER) for gripd in self.all]

    def in_place_of_the_names(self, text):
        """Puts the real addresses of the control ports into a text of the page."""
        for number, gripd in enumerate(self.all, 1):
            address = "{}:{}".format(*gripd.control)
            text = text.replace(f"node-{number}:5561", address).replace(f"node-{number}", address)
        return text.replace("$node:5561", "$node")


def with_nodes(play):
    """Returns a scene that starts the nodes, and then does as the function says."""

    def scene():
        with ExitStack() as closing:
            play(Nodes(closing))

    scene.__name__ = f"nodes_{play.__name__}"
    return scene


def getting(clients, text):
    return [client for client in clients if f"data: {text}\n" in client.lines]


@with_nodes
def an_item_reaches_the_clients_of_the_node_that_gets_it(nodes):
    clients = nodes.streams(4)
    [receipt] = nodes.all[0].publish(item("to one"))
    same(receipt["delivered"], nodes.held()[0], "the deliveries of the node that got the item")
    # When an item that goes to both has arrived, an earlier one would have arrived as well.
    delivered = [gripd.publish(item("to both"))[0]["delivered"] for gripd in nodes.all]
    same(sum(delivered), len(clients), "the deliveries of both nodes")
    for client in clients:
        client.find("^data: to both$")
    same(len(getting(clients, "to one")), receipt["delivered"], "the clients that got the item of one node")


@with_nodes
def the_library_publishes_to_each(nodes):
    clients = nodes.streams(2)
    [program] = blocks("python")
    program = nodes.in_place_of_the_names(program)

    def publish():
        return subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, timeout=DEADLINE)

    done = publish()
    same((done.returncode, done.stderr), (0, b""), "the program of the page")
    for client in clients:
        client.find("^data: hello$")
    # A node that cannot be reached does not keep the others from getting the item.
    nodes.all[0].end()
    eventually("one stream has ended", lambda: sum(client.child.poll() is not None for client in clients) == 1)
    publish()
    [left] = [client for client in clients if client.child.poll() is None]
    eventually("the other client gets the item", lambda: left.lines.count("data: hello\n") == 2)


@with_nodes
def the_receipts_of_a_kick_add_up(nodes):
    clients = nodes.streams(3)
    [shown] = [block for block in blocks("") if block.startswith("$ for node in")]
    command, receipts = re.fullmatch(r"\$ (.*?)\n(\{.*)", shown, re.S).groups()
    command = nodes.in_place_of_the_names(command)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=DEADLINE)
    same(done.stdout, receipts, "the receipts")
    same(sum(map(int, re.findall(r'"closed":(\d+)', done.stdout))), len(clients), "the sum of the receipts")
    for client in clients:
        eventually("the client sees its end", lambda client=client: client.child.poll() is not None)
        same(client.end(), 0, "curl's exit code")


@with_nodes
def a_close_at_one_node_leaves_the_clients_of_the_other(nodes):
    clients = nodes.streams(4)
    _, others = nodes.held()
    [receipt] = nodes.all[0].publish({"channel": USER, "action": "close", "deny-for": 60})
    same(receipt["closed"], len(clients) - others, "the connections that the close has ended")
    same(nodes.held(), [0, others], "the connections that the nodes hold")
    denied = [USER in exchange(gripd.control, "GET", "/denied")[1] for gripd in nodes.all]
    same(denied, [True, False], "the nodes that know of the denial")
    # nginx takes the nodes in turns. One of two clients is refused, and the other comes in.
    shown = ["-o", "/dev/null", "-w", "%{http_code}"]
    command = ["curl", "-sSN", *curl_options(nodes), *shown, f"https://{HOST}:{nodes.port}/"]
    tries = [Process(command, "stdout") for _ in range(2)]
    for client in tries:
        nodes.closing.callback(client.end)
    eventually("a client is refused", lambda: [line for client in tries for line in client.lines] == ["403"])
    eventually("the other one is held", lambda: nodes.held() == [0, others + 1])


@with_nodes
def each_node_has_its_own_ids(nodes):
    nodes.streams(2)
    first, second = nodes.all
    outcomes = [gripd.publish(item("numbered", id="1"))[0] for gripd in (first, first, second)]
    same([outcome.get("duplicate", 0) for outcome in outcomes], [0, 1, 0], "the duplicates")
    same(outcomes[2]["delivered"], 1, "the deliveries of the second node")


@with_nodes
def clients_of_a_node_that_stops_move_to_the_other(nodes):
    clients = nodes.streams(2)
    nodes.all[0].end()
    eventually("one stream has ended", lambda: sum(client.child.poll() is not None for client in clients) == 1)
    again = [nodes.stream() for _ in range(3)]
    same(nodes.all[1].publish(item("on"))[0]["delivered"], 1 + len(again), "the deliveries of the node that is left")
    for client in again:
        client.find("^data: on$")


SCENES = [
    an_item_reaches_the_clients_of_the_node_that_gets_it,
    the_library_publishes_to_each,
    the_receipts_of_a_kick_add_up,
    a_close_at_one_node_leaves_the_clients_of_the_other,
    each_node_has_its_own_ids,
    clients_of_a_node_that_stops_move_to_the_other,
]
