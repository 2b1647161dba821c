"""What every plugin is made of: the verbs' dispatch, netlink, nftables, namespaces, delegation, records.

The law of this folder: mechanism only, policy lives in the plugin's own file. Nothing here imports minirt.
"""
