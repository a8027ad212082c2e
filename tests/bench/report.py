"""The figures as a table for people."""

# What is told of each scenario: a text, and the value with its unit.
ROWS = {
    "memory": [
        ("memory per held connection, one channel", "{kib_per_connection_one_channel} KiB"),
        ("memory per held connection, two channels", "{kib_per_connection_two_channels} KiB"),
        ("connections held per second (bound by client and origin)", "{holds_per_s_one_channel:,}"),
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
    "wsmemory": [
        ("memory per parked WebSocket, one channel", "{kib_per_connection_one_channel} KiB"),
        ("memory per parked WebSocket, two channels", "{kib_per_connection_two_channels} KiB"),
        ("memory per WebSocket that is relayed to the origin, one channel", "{kib_per_connection_relayed} KiB"),
        ("memory per parked WebSocket with compression agreed, one channel", "{kib_per_connection_compressed} KiB"),
        ("the same, once it was sent a message", "{kib_per_connection_told_compressed} KiB"),
        ("WebSockets opened per second (bound by client and origin)", "{holds_per_s_one_channel:,}"),
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
BESIDE_NGINX = [
    ("the same with nginx as the proxy", "{nginx_requests_per_s:,}, {nginx_cpu_us_per_request} µs"),
    ("gripd's rate to nginx's", "{rate_to_nginx}"),
]


def table(results, caption):
    """A table in Markdown, below a line that says what it holds for."""
    lines = [caption, "", "| measure | gripd |", "|---|---:|"]
    return "\n".join(lines + [line for result in results for line in rows(result)])


def rows(result):
    trouble = result.get("skipped") or result.get("error")
    if trouble:
        return [row(result["scenario"], f"not measured: {trouble}")]
    wanted = ROWS[result["scenario"]] + (BESIDE_NGINX if "rate_to_nginx" in result else [])
    lines = [row(text.format(**result), value.format(**result)) for text, value in wanted]
    remarks = result.get("faults", []) + [result[key] for key in ("note",) if key in result]
    return lines + [row(result["scenario"], remark) for remark in remarks]


def row(text, value):
    """A row, whatever an error message has in it."""
    clean = " ".join(str(value).split()).replace("|", "\\|")
    return f"| {text} | {clean} |"
