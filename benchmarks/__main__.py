"""Every benchmark: `make bench`, or `python -m benchmarks NAME... [--quick]`."""

import argparse
import json
import os
import platform

from benchmarks import (
    authentication,
    content,
    dns_queries,
    idle_memory,
    imap_commands,
    imap_flags,
    imap_peers,
    inbound,
    jmap,
    jmap_push,
    nodes,
    outbound,
    parse,
    receive,
    smtp_client,
    smtp_delivery,
    submission,
    workers,
)

BENCHMARKS = {
    "content": content.run,
    "parse": parse.run,
    "authentication": authentication.run,
    "dns_queries": dns_queries.run,
    "receive": receive.run,
    "smtp_delivery": smtp_delivery.run,
    "inbound": inbound.run,
    "imap_commands": imap_commands.run,
    "imap_flags": imap_flags.run,
    "imap_peers": imap_peers.run,
    "jmap": jmap.run,
    "jmap_push": jmap_push.run,
    "outbound": outbound.run,
    "smtp_client": smtp_client.run,
    "submission": submission.run,
    "idle_memory": idle_memory.run,
    "workers": workers.run,
    "nodes": nodes.run,
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    arguments.add_argument("--quick", action="store_true", help="smaller and less exact")
    options = arguments.parse_args()
    unknown = set(options.names) - BENCHMARKS.keys()
    if unknown:
        arguments.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    results: dict[str, object] = {
        "machine": {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "load_average_before": os.getloadavg()[0],
        }
    }
    for name in options.names or BENCHMARKS:
        results[name] = BENCHMARKS[name](options.quick)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
