"""A shop to deploy to, on this machine: MariaDB, php-fpm and nginx of its own, below one
scratch directory, on loopback and free ports. The system's services are not touched, and
`close` (or the end of the `with`) ends exactly what was started.

    with Shop(hosts=3, document_root=False) as shop:      # needs the packages of requirements.py
        shop.database.reset("v1")                         # an empty one, then setup:upgrade of v1
        shop.deploy("v1")                                 # tar and ln, no Ansible; every host
        shop.get().status                                 # 200, through the balancer
        shop.switch("setup:upgrade", sleep=3)             # see Switches.php for what there is
        shop.switch("setup:upgrade", fail="data patch")
        run_ansible(shop.inventory(), artifact=shop.artifact("v3"))
        shop.runs("setup:upgrade")                        # each run of bin/magento: start, seconds, exit …

Shop(scratch=None, hosts=1, document_root=False, balancer=None, pool=None, php=None, padding=0, retry_after=False)
    scratch        a directory that www-data can reach (as root: not pytest's tmp_path); None: one below /tmp
    document_root  nginx passes $document_root instead of $realpath_root
    balancer       one in front of the hosts: True or "nginx"; "haproxy" (requirements.reason_against says whether it is here);
                   None: an nginx when there is more than one host
    pool           overrides of POOL in fpm.py: process_control_timeout, memory, children …
    php            version ("8.2", "8.4"); None: the newest that is here with its php-fpm
    retry_after    nginx says with each 503 when to come back (docs/hold.md)
    padding        so many files more in each artifact (a real one has 94,000)

    hosts          list of Host (below); `host` is the first
    url            of the balancer, else of the first host
    get(path="/", host=None, headers=None) -> Answer(status, headers, text, seconds); status 0: no answer, see text
    artifact(version, kind="tar.zst") -> Path; versions in artifacts.py: v1 v2 v3 v3-version v4 v4-store vbad
    deploy(version, shared_paths=SHARED_PATHS)
    write_env(**changes)      shared/app/etc/env.php of every host; password=, blue_green=, system= … see env.py
    remove_env()              state D
    switch(command, **settings), switches_off()
    runs(command=None)        list of dicts, oldest first; forget_runs()
    crontab(user="www-data")  its text ("" if there is none), of a crontab program of the shop's own
    inventory(ssh=True)       {host name: variables} for Ansible: connection, ansistrano_deploy_to, magento2_*
    environment               for a play (`environment:`): PATH with the shop's php and crontab first
    database                  up(), down(), reset(version), query(sql) -> rows, port, password

Host
    name, root (deploy_to), url, fpm (socket, pid, control: the script `control restart|reload|stop|start`)
    deploy(version, name=None, shared_paths=SHARED_PATHS) -> release path, now live
    magento(*arguments, release=None, user="www-data", **environment) -> CompletedProcess (text)
    live()         name of the release that current leads to

bin/magento run by a play: as www-data (root's play: become_user or the modules' own option), with
the PHP command `shop.php` (a script that knows the shop's crontab program).

By hand: PYTHONPATH=tests python3 -m shop --hosts 3 [--document-root] starts one, deploys v1 and waits.
"""

from .artifacts import VERSIONS
from .host import SHARED_FILES, SHARED_PATHS, Host
from .requirements import Missing
from .shop import Answer, Shop

__all__ = ["SHARED_FILES", "SHARED_PATHS", "VERSIONS", "Answer", "Host", "Missing", "Shop"]
