#!/usr/bin/env python3
"""Counts the instructions of six scenes under callgrind, and compares them with the recorded counts.

    tests/bench/instructions.py                   # counts and compares; fails above the limit
    tests/bench/instructions.py --record REASON   # records the counts of the commit that is checked out

Instructions are counted instead of time. The scenes (tests/bench/instructions/main.rs) run in one thread and in memory,
so that a count differs by only a few tenths of a per cent from run to run, even on a busy machine.

The counts depend on the compiler, the C library and the features of the CPU. instructions.json says for which of them
its counts hold. On a machine with others, the recorded commit is built as well, and its counts are compared with the
current ones.
"""

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORD = Path(__file__).with_name("instructions.json")
SCENES = {
    "proxied": "per request that is passed on",
    "hold": "per stream that connects, is held and disconnects",
    "join": "per channel, for connections that join 100 channels each",
    "burst": "per delivery, if 64 items go to 1,000 streams at once",
    "single": "per delivery, if one item goes to 1,000 streams",
    "kick": "per kick, with its receipt",
}
# The largest growth of a count, in per cent, that is not a failure.
LIMIT = 5.0
# The features of the CPU by which the C library and crates choose one of their implementations.
FEATURES = ["avx", "avx2", "bmi1", "bmi2", "erms", "fma", "fsrm", "pclmulqdq", "sha_ni", "sse4_2", "vaes"]


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options)


def key():
    """Returns a text that identifies the compiler, the C library and the features of the CPU."""
    rustc = run("rustc", "--version", cwd=ROOT).stdout.split()[1]
    cpu = Path("/proc/cpuinfo").read_text(errors="replace")
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", cpu, re.MULTILINE)
    found = set(flags.group(1).split()) if flags else set()
    features = "+".join(feature for feature in FEATURES if feature in found) or "plain"
    return f"rustc {rustc}, {'-'.join(platform.libc_ver())}, {platform.machine()} {features}"


def build(source, target):
    """Builds the scenes of a source tree, and returns the path of the program."""
    command = ["cargo", "build", "--locked", "--release", "--bench", "instructions", "--message-format", "json"]
    built = subprocess.run(
        [*command, "--target-dir", str(target)], cwd=source, check=True, stdout=subprocess.PIPE, text=True
    )
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "instructions":
            return message["executable"]
    raise SystemExit("cargo has built no program with the name 'instructions'")


def count(program):
    """Returns the number of instructions of each scene, divided by the number of its operations."""
    counts = {}
    for scene in SCENES:
        command = ["valgrind", "--tool=callgrind", "--collect-atstart=no", "--callgrind-out-file=/dev/null"]
        done = run(*command, "--toggle-collect=*instructions::measured*", program, scene, timeout=900)
        collected = re.search(r"Collected : (\d+)", done.stderr)
        if not collected or int(collected.group(1)) == 0:
            raise SystemExit(f"no instructions were counted in the scene '{scene}':\n{done.stderr}")
        counts[scene] = round(int(collected.group(1)) / int(done.stdout), 1)
    return counts


def count_commit(commit):
    """Builds another commit in a temporary folder, and returns its counts."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        run("git", "worktree", "add", "--detach", str(source), commit, cwd=ROOT)
        try:
            return count(build(source, Path(folder) / "target"))
        finally:
            run("git", "worktree", "remove", "--force", str(source), cwd=ROOT)


def compare(before, now):
    """Prints the recorded and the current counts, and returns the scenes that have grown by more than the limit."""
    grown = []
    print(f"{'scene':8} {'recorded':>10} {'now':>10}")
    for scene, meaning in SCENES.items():
        if scene not in before:
            print(f"{scene:8} {'-':>10} {now[scene]:>10,.1f}           {meaning}")
            continue
        change = 100 * (now[scene] / before[scene] - 1)
        print(f"{scene:8} {before[scene]:>10,.1f} {now[scene]:>10,.1f} {change:+6.1f} %  {meaning}")
        if change > LIMIT:
            grown.append(scene)
    return grown


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", metavar="REASON", help="record the counts, and the reason for the change")
    args = parser.parse_args()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"commit": None, "reason": None, "counts": {}}
    if args.record and run("git", "status", "--porcelain", "--", "src", "tests", "Cargo.lock", cwd=ROOT).stdout:
        raise SystemExit("commit the changes first: counts are recorded for a commit, so that others can build it")
    now, own = count(build(ROOT, ROOT / "target")), key()
    print(own)
    before = record["counts"].get(own)
    if before is None and record["commit"]:
        print(f"no counts are recorded for such a machine: commit {record['commit'][:12]} is built and counted, too")
        before = count_commit(record["commit"])
    grown = compare(before or {}, now)
    if args.record:
        commit = run("git", "rev-parse", "HEAD", cwd=ROOT).stdout.strip()
        # Counts of other machines would belong to an older commit, so they are dropped: there this commit is built.
        record = {"commit": commit, "reason": args.record, "counts": {own: now}}
        RECORD.write_text(json.dumps(record, indent=2) + "\n")
        print(f"recorded in {RECORD.relative_to(ROOT)}")
    elif grown:
        print(
            f"more than {LIMIT:.0f} per cent above the record: {', '.join(grown)}. "
            "If there is a good reason, commit and run\n"
            f"    tests/bench/instructions.py --record 'the reason'\nand commit {RECORD.relative_to(ROOT)}."
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
