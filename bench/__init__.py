"""PortNet measured side by side with what one would use without it; see `python -m bench --help`."""
