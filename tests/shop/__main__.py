"""Starts a shop, deploys v1 and waits for Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
import time

from . import Missing, Shop


def main():
    parser = argparse.ArgumentParser(prog="python3 -m shop", description=__doc__)
    parser.add_argument("--hosts", type=int, default=1, metavar="N")
    parser.add_argument("--document-root", action="store_true", help="nginx passes $document_root")
    parser.add_argument("--php", help="version (default: the newest that is here)")
    parser.add_argument("--padding", type=int, default=0, metavar="FILES", help="so many files more in an artifact")
    parser.add_argument("--once", action="store_true", help="show one answer and end")
    options = parser.parse_args()
    # So that the services end as well when this is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        shop = Shop(hosts=options.hosts, document_root=options.document_root, php=options.php, padding=options.padding)
    except Missing as missing:
        sys.exit(str(missing))
    with shop:
        shop.database.reset("v1")
        shop.deploy("v1")
        print(f"{shop.url} answers {shop.get().status}; PHP {shop.version}; all below {shop.scratch}", flush=True)
        for host in shop.hosts:
            print(f"{host.name}: {host.url}, deploy_to {host.root}, php-fpm {host.fpm.socket}", flush=True)
        try:
            while not options.once:
                time.sleep(3600)
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
