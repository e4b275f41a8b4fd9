"""nginx: one for each host, and the balancer in front of them."""

from __future__ import annotations

import signal
import subprocess

from .process import WEB_USER, end, free_port, is_root
from .requirements import find

MAIN = """\
{user}
worker_processes 1;
pid {directory}/pid;
error_log {directory}/error.log;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    map $status$upstream_http_retry_after $retry_after {{ 503 60; default ""; }}
    {content}
}}
"""

# {root_variable}: $realpath_root follows the link for each request, $document_root lets PHP.
WEB = """
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {root}/current/pub;
        index index.php;
        {retry_after}
        location / {{ try_files $uri $uri/ /index.php$is_args$args; }}
        location /static/ {{ try_files $uri /static.php; }}
        location ~ ^/(index|static|health_check)\\.php$ {{
            fastcgi_pass unix:{socket};
            fastcgi_param SCRIPT_FILENAME {root_variable}$fastcgi_script_name;
            fastcgi_param SCRIPT_NAME $fastcgi_script_name;
            fastcgi_param DOCUMENT_ROOT {root_variable};
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param REQUEST_URI $request_uri;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param SERVER_PROTOCOL $server_protocol;
            fastcgi_param SERVER_NAME $server_name;
            fastcgi_param REMOTE_ADDR $remote_addr;
        }}
        location ~ \\.php$ {{ return 404; }}
    }}
"""

# Nothing is tried a second time: a failure that the balancer hides would not be counted.
BALANCER = """
    upstream shop {{ {servers} }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://shop;
            proxy_next_upstream off;
            proxy_set_header Host $http_host;
        }}
    }}
"""


class Nginx:
    """Serves `content`, one of the two above, on a port of its own."""

    def __init__(self, directory, content, **places):
        self.directory = directory
        self.port = free_port()
        self.content = content.format(port=self.port, **places)

    @classmethod
    def web(cls, directory, root, socket, document_root, retry_after):
        variable = "$document_root" if document_root else "$realpath_root"
        retry = "add_header Retry-After $retry_after always;" if retry_after else ""
        return cls(directory, WEB, root=root, socket=socket, root_variable=variable, retry_after=retry)

    @classmethod
    def balancer(cls, directory, ports):
        # Never taken out of service: it is to be seen when one of them fails.
        servers = " ".join(f"server 127.0.0.1:{port} max_fails=0;" for port in ports)
        return cls(directory, BALANCER, servers=servers)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "nginx.conf"
        user = f"user {WEB_USER};" if is_root() else ""
        config.write_text(MAIN.format(directory=self.directory, user=user, content=self.content))
        started = subprocess.run([find("nginx"), "-c", config, "-e", self.directory / "error.log"], capture_output=True, text=True)
        if started.returncode:
            raise RuntimeError(f"nginx did not start: {started.stderr}")

    def stop(self):
        end(self.directory / "pid", str(self.directory), signal.SIGTERM)
