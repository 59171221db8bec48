"""`python -m tests.moto [--port N]`: serves until it is terminated; says its port on the first line."""

from __future__ import annotations

import argparse
import logging

from moto.moto_api._internal import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from tests.moto.app import FaultyAws
from tests.moto.ec2 import Ec2
from tests.moto.faults import Faults


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    port = parser.parse_args().port
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    faults = Faults()
    ec2 = Ec2(faults)
    ec2.install()

    def reset() -> None:
        moto_api_backend.reset()
        ec2.reset()

    inner = DomainDispatcherApplication(create_backend_app)
    app = FaultyAws(inner, faults, ec2, reset)
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=MotoRequestHandler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
