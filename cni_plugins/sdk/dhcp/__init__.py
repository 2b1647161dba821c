"""The mechanism of the dhcp plugin: the half that runs in plugins (`options`, `wire`, `leases`), and its daemon."""
