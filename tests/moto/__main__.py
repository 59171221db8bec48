"""`python -m tests.moto [--port N] [--until-eof]`: says its port on the first line, and serves until it is terminated
(or its standard input is closed, so that it ends with the process that started it). With --until-eof the second line is
a directory for the catalogs of clouds, which goes with it: who started it may be killed."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
import threading

from moto.moto_api._internal import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from tests.moto import ecr
from tests.moto.app import FaultyAws
from tests.moto.ec2 import Ec2
from tests.moto.faults import Faults


def end_with_input(directory: str) -> None:
    sys.stdin.read()
    shutil.rmtree(directory, ignore_errors=True)
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--until-eof", action="store_true")
    options = parser.parse_args()
    directory = ""
    if options.until_eof:
        directory = tempfile.mkdtemp(prefix="vk-catalog-")
        threading.Thread(target=end_with_input, args=(directory,), daemon=True).start()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    faults = Faults()
    ec2 = Ec2(faults)
    ec2.install()
    ecr.install()

    def reset() -> None:
        moto_api_backend.reset()
        ec2.reset()

    inner = DomainDispatcherApplication(create_backend_app)
    app = FaultyAws(inner, faults, ec2, reset)
    server = make_server("127.0.0.1", options.port, app, threaded=True, request_handler=MotoRequestHandler)
    print(server.server_address[1], flush=True)
    if directory:
        print(directory, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
