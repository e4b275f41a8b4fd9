"""Measures and prints the table.

make downtime                     all of it, for hours: a minute for each deploy
make downtime ARGS='--rounds 1'   PYTHONPATH=tests python3 -m downtime --help
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path

from shop import Missing, Shop, requirements

from . import figures, report
from .measure import CHECKOUT, COLLECTIONS, KINDS, WAYS, Bench, Case

# The ways that say something of a kind of deploy.
TELLING = {
    "code": ("ours", "seed", "seed, flag always"),
    "observer": ("ours", "seed"),
    "back": ("ours",),
    "additive": ("ours, online", "ours, hold"),
    "large": ("ours, online",),
    "schema": ("ours", "ours, hold", "seed"),
    "longer": ("ours, hold",),
    "long": ("ours", "ours, hold"),
    "import": ("ours", "ours, hold"),
    "failing": ("ours, online",),
}


def cases(options):
    """In the order of the table, without those that would only say the same again."""
    control = [Case("ours, elsewhere", "code", 2, False)]
    every = control + [
        Case(way, kind, hosts, document_root)
        for hosts, document_root in ((1, False), (1, True), (3, False), (3, True))
        for kind in KINDS
        for way in TELLING[kind]
        if (way != "seed, flag always" or hosts == 1 and not document_root) and (way.startswith("ours") or hosts == 1 or not document_root)
    ]
    # It asks for the health of its hosts, and takes one out of service that does not answer.
    every += [
        Case(way, kind, 3, False, "haproxy")
        for way, kind in (("ours", "observer"), ("ours", "back"), ("ours, online", "additive"), ("ours, hold", "schema"))
    ]
    return [
        case
        for case in every
        if (not options.way or case.way in options.way)
        and (not options.kind or case.kind in options.kind)
        and (not options.hosts or case.hosts in options.hosts)
        and (options.root is None or case.document_root == (options.root == "document"))
        and (not options.balancer or case.balancer == options.balancer)
    ]


def arguments():
    parser = argparse.ArgumentParser(prog="python3 -m downtime", description=__doc__)
    parser.add_argument("--ansible", type=Path, default=CHECKOUT / ".build/venv/bin/ansible-playbook")
    parser.add_argument("--collections", type=Path, default=COLLECTIONS, help="where oxistrano.deploy is found")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=50, help="requests per second (default: 50)")
    parser.add_argument("--upgrade", type=float, default=7.2, help="seconds that an upgrade takes (default: 7.2)")
    parser.add_argument("--padding", type=int, default=5000, help="files more in an artifact (default: 5000)")
    parser.add_argument("--way", action="append", choices=WAYS)
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--hosts", action="append", type=int, choices=[1, 2, 3])
    parser.add_argument("--root", choices=["realpath", "document"])
    parser.add_argument("--balancer", choices=["nginx", "haproxy"], help="in front of several hosts (default: each)")
    parser.add_argument("--patience", type=float, default=60, help="seconds to wait for a machine at rest, each time")
    parser.add_argument(
        "--aside",
        action="store_true",
        help="the controller gets only what hosts and load leave of the processors, as if it were a machine of its own",
    )
    parser.add_argument("--extra", type=json.loads, metavar="JSON", help="variables for Oxistrano's deploys")
    parser.add_argument("--show", type=Path, nargs="+", metavar="DIRECTORY", help="the table of earlier --outputs")
    parser.add_argument("--output", type=Path, help="where logs and results.json go (default: below /tmp)")
    return parser.parse_args()


def say(name, found):
    """One line while it goes on."""
    print(
        f"{name}: {found['failed']} of {found['requests']} failed {found['kinds'] or ''}, "
        f"outage {found['outage']:.2f} s, upgrade {found['upgrade']:.2f} s, deploy {found['wall']:.1f} s, "
        f"p99 {found['before']['p99']:.0f} -> {found['during']['p99']:.0f} ms, slowest {found['before']['max']:.0f} -> "
        f"{found['during']['max'] or 0:.0f} ms, first failure {found['held'] or 0:.1f} s after closing, "
        f"orders: {found['refused']} of {found['orders']} refused, {len(found['wrong'])} wrong {found['wrong'][:3]}, {found['idle']:.0%} idle before",
        file=sys.stderr,
        flush=True,
    )


def main():
    options = arguments()
    if options.show:
        show(options.show, options, requirements.check())
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    output = options.output or Path(tempfile.mkdtemp(prefix="downtime-", dir="/tmp"))
    output.mkdir(parents=True, exist_ok=True)
    bench = Bench(
        options.ansible,
        options.collections.absolute(),
        options.rate,
        options.upgrade,
        options.extra,
        options.patience,
        options.aside,
    )
    wanted = cases(options)
    if reason := requirements.reason_against("haproxy"):
        left = [case for case in wanted if case.balancer == "haproxy"]
        wanted = [case for case in wanted if case not in left]
        if left:
            print(f"left out, behind haproxy: {', '.join(case.name for case in left)}: {reason}", file=sys.stderr)
    runs = {case: [] for case in wanted}
    php = "not started"
    # One set of services after the other; within it the ways alternate.
    for services in dict.fromkeys(case[2:] for case in wanted):
        group = [case for case in wanted if case[2:] == services]
        hosts, document_root, balancer = services
        behind = balancer if hosts > 1 else None
        with Shop(hosts=hosts, document_root=document_root, balancer=behind, padding=options.padding, retry_after=True) as shop:
            php = shop.version
            for turn in range(options.rounds):
                for case in group if turn % 2 == 0 else reversed(group):
                    name = f"{case.name}-{turn}"
                    found = bench.run(shop, case, output / f"{name}.log")
                    runs[case].append(found)
                    raw = [{"case": each._asdict(), "runs": done} for each, done in runs.items()]
                    (output / "results.json").write_text(json.dumps(raw, indent=1))
                    say(f"{time.strftime('%H:%M:%S')} {name}", found)
    show([output], options, php)


def show(directories, options, php):
    """The table of all that is in the results of these directories."""
    runs = {}
    for directory in directories:
        for entry in json.loads((directory / "results.json").read_text()):
            runs.setdefault(Case(**entry["case"]), []).extend(entry["runs"])
    results = [(case, figures.of_rounds(found)) for case, found in runs.items() if found]
    print(report.table(results))
    print(report.machine(options.ansible, php))
    rounds = sorted({found["rounds"] for _, found in results})
    print(
        f"{' to '.join(map(str, rounds[:: len(rounds) - 1 or 1]))} rounds, {options.rate:.0f} requests/s; "
        f"before a deploy, under this load, at least {min(found['idle'] for _, found in results):.0%} "
        f"of the processors were idle; logs in {', '.join(map(str, directories))}"
    )


if __name__ == "__main__":
    try:
        main()
    except (Missing, RuntimeError) as error:
        sys.exit(str(error))
