"""A whole Cinder in one process: API, scheduler and a volume service for each backend.

``python -m tests.plane CONFIG`` says ``ready`` on its standard output, and ends with its standard
input. Its messages go through memory and its database is a file.
"""

# Cinder wants this before anything else, in each of its programs.
from cinder import monkey_patch

monkey_patch.patch()

import os  # noqa: E402
import shlex  # noqa: E402
import sys  # noqa: E402

import eventlet.tpool  # noqa: E402
import os_brick  # noqa: E402
from cinder import coordination, i18n, objects, rpc, service, utils, version  # noqa: E402
from cinder.common import config, constants  # noqa: E402
from cinder.db import migration  # noqa: E402
from oslo_config import cfg  # noqa: E402
from oslo_log import log as logging  # noqa: E402
from oslo_privsep import priv_context  # noqa: E402


def main() -> None:
    conf = cfg.CONF
    i18n.enable_lazy()
    objects.register_all()
    conf(["--config-file", sys.argv[1]], project="cinder", version=version.version_string())
    config.set_middleware_defaults()
    logging.setup(conf, "cinder")
    priv_context.init(root_helper=shlex.split(utils.get_root_helper()))
    os_brick.setup(conf)
    migration.db_sync()
    coordination.COORDINATOR.start()
    rpc.init(conf)
    services = [service.Service.create(binary="cinder-scheduler")]
    services += [
        service.Service.create(
            host=f"{conf.host}@{backend}",
            service_name=backend,
            binary=constants.VOLUME_BINARY,
            coordination=True,
        )
        for backend in conf.enabled_backends
    ]
    for one in services:
        one.start()
    api = service.WSGIService("osapi_volume")
    api.start()
    print("ready", flush=True)
    eventlet.tpool.execute(sys.stdin.read)
    # What is under way is not waited for: a service may be killed at any time.
    os._exit(0)


if __name__ == "__main__":
    main()
