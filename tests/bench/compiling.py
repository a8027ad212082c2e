"""The compilation of the programs in C into a temporary directory."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from processes import HERE

LOAD_CLIENT = ("load_client.c", "load_crowd.c", "load_wire.c", "load_latencies.c")
FLOOR = ("floor.c",)
OPTIONS = ("-std=c11", "-O2", "-Wall", "-Wextra")
COMPILE_SECONDS = 120
INSTALL = "install one, on Debian and Ubuntu with 'apt-get install gcc libc6-dev', or name yours in the variable CC"


class Programs:
    """The compiled programs. Each is compiled when it is first asked for, and the load client when `with` begins."""

    def __init__(self):
        self._compiler = shutil.which(os.environ.get("CC") or "cc")
        if not self._compiler:
            sys.exit(f"The clients of this benchmark are a program in C, and there is no C compiler: {INSTALL}.")
        self._home = tempfile.TemporaryDirectory(prefix="gripd-bench-")
        self._compiled = {}

    def __enter__(self):
        self.load_client()
        return self

    def __exit__(self, *_):
        self._home.cleanup()

    def load_client(self):
        """Returns the path of the program that holds the clients."""
        return self._program(LOAD_CLIENT)

    def floor(self):
        """Returns the path of the program of floor.c."""
        return self._program(FLOOR)

    def _program(self, sources):
        if sources not in self._compiled:
            program = str(Path(self._home.name) / sources[0].removesuffix(".c"))
            self._compile(sources, program)
            self._compiled[sources] = program
        return self._compiled[sources]

    def _compile(self, sources, program):
        """Compiles source files of this directory. Prints warnings on standard error, and exits after an error."""
        own = os.environ.get("CFLAGS", "").split()
        command = [self._compiler, *OPTIONS, *own, *(str(HERE / source) for source in sources), "-o", program]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS)
        sys.stderr.write(done.stderr)
        if done.returncode:
            sys.exit(f"{sources[0]} does not compile with {self._compiler}. If that is no full C compiler, {INSTALL}.")
