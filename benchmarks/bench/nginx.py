"""nginx as a mock upstream that answers at once, and as the plain proxy that is the yardstick."""

import os
from contextlib import AbstractContextManager
from pathlib import Path

from bench import bodies
from bench.processes import Running, free_port, program, started

COMMON = """
{user}
worker_processes 1;
daemon off;
pid {folder}/{name}.pid;
error_log stderr error;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  default_type application/json;
  keepalive_requests 100000000;
  keepalive_timeout 300s;
  client_max_body_size 32m;
  client_body_buffer_size 1m;
  client_body_temp_path {folder}/{name}-body;
  proxy_temp_path {folder}/{name}-proxy;
  fastcgi_temp_path {folder}/{name}-fastcgi;
  uwsgi_temp_path {folder}/{name}-uwsgi;
  scgi_temp_path {folder}/{name}-scgi;
  {body}
}}
"""
PROXY = """
  upstream mock {{ server {upstream}; keepalive 4096; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering {buffering};
    }}
  }}
"""
MOCK = """
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = {chat} {{ return 200 '{openai}'; }}
    location = {messages} {{ return 200 '{anthropic}'; }}
    location = /v1/models {{ return 200 '{{"object":"list","data":[]}}'; }}
  }}
"""


def _nginx(name: str, body: str, port: int, folder: Path, core: int) -> AbstractContextManager[Running]:
    path = folder / f"{name}.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # its folder is open to this user alone
    path.write_text(COMMON.format(user=user, folder=folder, name=name, body=body))
    command = [program("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(path)]
    return started(command, f"http://127.0.0.1:{port}", core=core, log=folder / f"{name}.log")


def proxy(
    upstream: str, folder: Path, *, core: int, name: str = "proxy", buffering: bool = True
) -> AbstractContextManager[Running]:
    """Start one worker that passes everything on to ``upstream``."""
    port = free_port()
    text = PROXY.format(
        upstream=upstream.removeprefix("http://"), port=port, buffering="on" if buffering else "off"
    )
    return _nginx(name, text, port, folder, core)


def mock(folder: Path, *, core: int) -> AbstractContextManager[Running]:
    """Start one worker that answers every request at once, whatever it says."""
    port = free_port()
    text = MOCK.format(
        port=port,
        chat=bodies.CHAT,
        messages=bodies.MESSAGES,
        openai=bodies.OPENAI_ANSWER.decode(),
        anthropic=bodies.ANTHROPIC_ANSWER.decode(),
    )
    return _nginx("mock", text, port, folder, core)
