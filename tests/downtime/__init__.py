"""Downtime as a number: requests at a steady rate through a deploy. `make downtime`; docs/downtime.md."""
