"""Which plugins' accounts the tests type: all that change something."""

from __future__ import annotations

from support.accounts import HERE, THERE

from cni_plugins.sdk import launcher

# Plugins of Windows are refused here; dhcp needs a server, and tests/netns/test_explain_true.py has one.
NOTHING_TO_TYPE = {"win-bridge", "win-overlay", "dhcp"}


def test_there_is_a_configuration_to_type_for_every_plugin() -> None:
    lists = [plugins for plugins, _setup, _wishes in (*HERE.values(), *THERE.values())]
    typed = {plugin["type"] for plugins in lists for plugin in plugins}
    typed |= {plugin["ipam"]["type"] for plugins in lists for plugin in plugins if "ipam" in plugin}
    assert typed == launcher.NAMES.keys() - NOTHING_TO_TYPE
