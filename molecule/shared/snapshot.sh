# Every file of a host, one on a line: path, then what can change of it. Of a directory not its time: what
# was in it only for a moment does not count. Left out: what lies in memory (/proc, /run; not /tmp), what any
# login writes.
find / /tmp -xdev \( -path /var/log -o -path /var/lib/systemd -o -path /var/lib/sudo -o -path '*/.ansible' \) -prune -o \
    -type d -printf '%p\t%y %m %u:%g\n' -o -printf '%p\t%y %m %u:%g %s %T@ %C@ %l\n' | LC_ALL=C sort -u
