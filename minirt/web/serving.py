"""`minirt serve`, from the first look to the signal that ends it."""

from __future__ import annotations

from collections.abc import Mapping

from minirt.cni import cache, discovery
from minirt.netadmin.catalog import Catalog
from minirt.shelf import Shelf
from minirt.supervise import ENDING, Interrupted, Signals, interrupting
from minirt.web import server
from minirt.web.lookout import Lookout
from minirt.web.stories import Stories
from minirt.web.view import View


def serve(catalog: Catalog, containers: Shelf, port: int, network: str, environ: Mapping[str, str]) -> int:
    """Say where, and show what there is until a signal ends it. Raises NotFound, Conflict, KernelRefused."""
    if network:
        catalog.find(network)
    servers = server.listen(port, environ)
    stories = Stories()
    try:
        with interrupting():
            view = View(catalog, containers, network)
            folders = (discovery.DIRECTORY, cache.ROOT)
            lookout = Lookout(view, stories, folders, (containers.store.containers,))
            with Signals(lookout.end, ENDING):
                server.answer(servers, lookout.board)
                print(f"http://127.0.0.1:{servers[0].server_port}/", flush=True)
                lookout.keep()
                lookout.board.end()
    except (Interrupted, KeyboardInterrupt):
        pass
    finally:
        stories.close()
    return 0
