"""The ssh door: the only place that knows asyncssh; built by app."""
