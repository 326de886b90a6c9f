"""Run every command on images, each as ``btrimg`` would; write what came of it as JSON.

``every_command.py MOST_FILES``: reads lines ``["IMAGE", "DEVICE", ...]`` and answers each with a line. Of more than
MOST_FILES files of an image, about so many are taken.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from importlib import import_module
from typing import Any

from btrimg.cli.main import COMMANDS, load, main
from btrimg.tables.schema import RELATIONS

MOST_BYTES = 64 << 20  #: of one file
MOST_TO_SEARCH = 128 << 20  #: bytes of an image of which all metadata are looked through
FIRST_DATA = "13631488"  #: where mkfs puts the first data chunk


def run(*words: str) -> dict[str, Any]:
    """Run one command in a process of its own; return what came of it, with the peak of its memory in KiB."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()  # a new interpreter for each of a hundred commands an image would take minutes
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv = ["btrimg", *words]
            main()
        _, status, usage = os.wait4(child, 0)
        out.seek(0)
        err.seek(0)
        return {
            "words": words,
            "code": os.waitstatus_to_exitcode(status),
            "out": out.read().decode(errors="backslashreplace"),
            "err": err.read().decode(errors="backslashreplace"),
            "peak_kib": usage.ru_maxrss,
        }


def every_command(most_files: int, image: str, *devices: str) -> list[dict[str, Any]]:
    """Return what came of all commands: those about the image, then those about each file in it."""
    further = [word for device in devices for word in ("-d", device)]
    listing = run("ls", "-R", "--json", image, *further)
    done = [
        listing,
        run("ls", "-lR", image, *further),
        run("extents", image, "--json", "--holes", "--pieces", *further),
        run("inspect", "dump-super", "-fa", image, *devices),
        run("inspect", "dump-tree", image, *devices),
        run("inspect", "dump-tree", "--json", "--dfs", image, *devices),
        run("inspect", "list-chunks", image, *further),
        run("locate", image, "0", "--length", str(os.path.getsize(image)), "--json", *further),
        run("sql", image, " union all ".join(f"select count(*) from {name}" for name in RELATIONS), *further),
        run("check", image, *further),
        run("du", image, *further),
        run("cache", "estimate", image, *further),
        run("inspect", "logical-resolve", FIRST_DATA, image, *further),
        run("inspect", "inode-resolve", "257", image, *further),
        run("inspect", "subvolid-resolve", "256", image, *further),
        run("inspect", "rootid", image, *further),
        run("inspect", "min-dev-size", image, *further),
        run("inspect", "tree-stats", "-b", image, *further),
    ]
    if os.path.getsize(image) <= MOST_TO_SEARCH:
        done.append(run("inspect", "find-root", "-a", image, *further))
    found = [entry for entry in map(json.loads, listing["out"].splitlines()) if isinstance(entry["path"], str)]
    for entry in found[:: -(-len(found) // most_files) or 1]:
        where = f"{image}:{entry['path']}"
        done.append(run("stat", where, *further))
        if entry["type"] == "file":
            done.append(run("cat", where, "--length", str(MOST_BYTES), *further))
            done.append(run("resolve", where, "0", *further))
            done.append(run("inspect", "map-swapfile", where, *further))
    return done


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
    for command in COMMANDS:
        load(command)  # once, not in every process
    import_module("duckdb")  # likewise
    import_module("btrimg.check.run")
    import_module("btrimg.pagecache.estimate")
    for line in sys.stdin:
        results = every_command(int(sys.argv[1]), *json.loads(line))
        for result in results[1:]:
            del result["out"]
        print(json.dumps(results), flush=True)
