"""Tables in Markdown that show the figures."""

from itertools import groupby
from string import Formatter

# The rows of each scenario: a text, and a template for the value and its unit.
ROWS = {
    "memory": [
        ("memory per held connection, one channel", "{kib_per_connection_one_channel} KiB"),
        ("memory per held connection, two channels", "{kib_per_connection_two_channels} KiB"),
        ("connections held per second, with an origin in Python", "{holds_per_s_one_channel:,}"),
    ],
    "fanout": [
        ("CPU per delivery, {burst} messages in a burst, median of {bursts}", "{cpu_us_per_delivery_burst} µs"),
        ("deliveries lost", "{lost}"),
        ("CPU per delivery, single messages", "{cpu_us_per_delivery_single} µs"),
        ("publish until the last subscriber has read it, median", "{last_subscriber_ms_median} ms"),
    ],
    "kick": [
        ("kick until the client sees the end, median of {kicks}", "{p50_ms} ms"),
        ("the same, 99th percentile", "{p99_ms} ms"),
        ("CPU per kick", "{cpu_us_per_kick} µs"),
    ],
    "kickburst": [
        ("kick while {burst} messages go to everybody else, median of {rounds}", "{median_ms} ms"),
        ("the same, the slowest", "{max_ms} ms"),
    ],
    "rooms": [
        ("CPU per delivery in rooms of 1, {at_once} publishes at a time", "{cpu_us_per_delivery_rooms_of_1} µs"),
        ("the same in rooms of 10", "{cpu_us_per_delivery_rooms_of_10} µs"),
        ("the same in rooms of 100", "{cpu_us_per_delivery_rooms_of_100} µs"),
        ("the same in rooms of 1,000", "{cpu_us_per_delivery_rooms_of_1000} µs"),
        ("publish until a member of 10 has read it, median", "{delivery_p50_ms_rooms_of_10} ms"),
        ("the same, 99th percentile", "{delivery_p99_ms_rooms_of_10} ms"),
    ],
    "poll": [
        ("CPU per long-poll, from its request until it is held", "{cpu_us_per_poll_held} µs"),
        ("CPU per long-poll that is answered by a message to all", "{cpu_us_per_poll_answered} µs"),
        ("publish until the last long-poll has its answer, median", "{last_subscriber_ms_median} ms"),
    ],
    "wsmemory": [
        ("memory per parked WebSocket, one channel", "{kib_per_connection_one_channel} KiB"),
        ("memory per parked WebSocket, two channels", "{kib_per_connection_two_channels} KiB"),
        ("memory per WebSocket that is relayed to the origin, one channel", "{kib_per_connection_relayed} KiB"),
        ("memory per parked WebSocket with compression agreed, one channel", "{kib_per_connection_compressed} KiB"),
        ("the same, once it was sent a message", "{kib_per_connection_told_compressed} KiB"),
        ("WebSockets opened per second, with an origin in Python", "{holds_per_s_one_channel:,}"),
    ],
    "wsfanout": [
        ("CPU per WebSocket delivery, bursts of {burst}, median of {bursts}", "{cpu_us_per_delivery_burst} µs"),
        ("WebSocket deliveries lost", "{lost}"),
        ("CPU per WebSocket delivery, single messages", "{cpu_us_per_delivery_single} µs"),
        ("publish until the last WebSocket has read it, median", "{last_subscriber_ms_median} ms"),
    ],
    "wskick": [
        ("kick until the WebSocket has the Close frame, median of {kicks}", "{goodbye_p50_ms} ms"),
        ("the same, 99th percentile", "{goodbye_p99_ms} ms"),
        ("kick until it has answered and sees the end, median", "{p50_ms} ms"),
        ("the same, 99th percentile", "{p99_ms} ms"),
        ("CPU per kick of a WebSocket", "{cpu_us_per_kick} µs"),
    ],
    "wskickburst": [
        ("Close frame while {burst} messages go to all other WebSockets, median of {rounds}", "{goodbye_median_ms} ms"),
        ("the same, the slowest", "{goodbye_max_ms} ms"),
        ("the end after it, median", "{median_ms} ms"),
    ],
    "proxy": [
        ("plain requests per second", "{requests_per_s:,}"),
        ("CPU per plain request", "{cpu_us_per_request} µs"),
    ],
}
NOT_MEASURED = "–"
RATIOS = "In brackets: the figure of the other server divided by gripd's."


def tables(results, caption):
    """Returns tables in Markdown, below a caption.

    Scenarios that follow each other and were run with the same servers share a table.
    """
    scenes = [list(group) for _, group in groupby(results, key=lambda result: result["scenario"])]
    played = groupby(scenes, key=lambda scene: [result["server"] for result in scene])
    has_peers = any(len(scene) > 1 for scene in scenes)
    captions = [caption, *([RATIOS] if has_peers else [])]
    return "\n\n".join([*captions, *(table(servers, list(group)) for servers, group in played)])


def table(servers, scenes):
    """Returns one table, with a column for each server."""
    lines = [line(["measure", *servers]), "|---|" + "---:|" * len(servers)]
    for scene in scenes:
        lines += [line([text, *cells]) for text, cells in rows(scene)]
        for result in scene:
            lines += [line([result["scenario"], *beside(servers, result, remark)]) for remark in remarks(result)]
    return "\n".join(lines)


def rows(scene):
    """Yields the rows of a scenario: a text, and the cells of all servers. Omits rows in which all cells are empty."""
    first = next((result for result in scene if not trouble(result)), None)
    for text, template in ROWS[scene[0]["scenario"]] if first else ():
        cells = [cell(template, result, scene[0]) for result in scene]
        if set(cells) != {NOT_MEASURED}:
            yield text.format(**first), cells


def cell(template, result, own):
    """Returns the text for a value. If the server is not gripd, the ratio to the value of gripd is added."""
    figure = value(template, result)
    if figure is None:
        return NOT_MEASURED
    text = template.format(**result)
    reference = value(template, own)
    return f"{text} ({figure / reference:.2f})" if result is not own and reference else text


def value(template, result):
    """Returns the number that a template shows, or None if it was not measured."""
    name = next(field for _, field, _, _ in Formatter().parse(template) if field)
    return result.get(name)


def remarks(result):
    """Returns the texts that are shown below the figures of one server: its error, its faults and its note."""
    found = [f"not measured: {trouble(result)}"] if trouble(result) else []
    return found + result.get("faults", []) + [result[key] for key in ("note",) if key in result]


def trouble(result):
    """Returns the reason why there are no figures, or None."""
    return result.get("skipped") or result.get("error")


def beside(servers, result, remark):
    """Returns the cells of a row in which only one server has a remark."""
    return [remark if server == result["server"] else "" for server in servers]


def line(cells):
    """Returns a row of a table. Line breaks and `|` in a cell, as some error messages have, do not break the table."""
    clean = (" ".join(str(each).split()).replace("|", "\\|") for each in cells)
    return f"| {' | '.join(clean)} |"
