"""`python -m letterlock_operator`: the operator without the rest of the command line."""

import argparse
import sys

from letterlock_operator import main


def _options() -> main.Options:
    parser = argparse.ArgumentParser(
        prog="python -m letterlock_operator", description="The Letterlock operator."
    )
    parser.add_argument(
        "--namespace",
        action="append",
        default=[],
        help="serve only this namespace (repeatable); default: all",
    )
    parser.add_argument("--kubeconfig", help="kubeconfig file; default: the pod's own, else the usual one")
    parser.add_argument("--context", help="context of the kubeconfig")
    parser.add_argument("--lease", default="", help="NAMESPACE/NAME of a Lease, where several operators run")
    parser.add_argument("--image", default="", help="image of gateway members that name none")
    parser.add_argument(
        "--installation", default="", help="NAMESPACE/RELEASE, who this operator is; default: this host"
    )
    parser.add_argument(
        "--image-pull-secret", action="append", default=[], help="Secret to pull the image with (repeatable)"
    )
    parser.add_argument("--health-port", type=int, help="answer /healthz on this port")
    parser.add_argument("--log-format", choices=("json", "text"), default="json")
    given = parser.parse_args()
    return main.Options(
        namespaces=tuple(given.namespace),
        kubeconfig=given.kubeconfig,
        context=given.context,
        lease=given.lease,
        installation=given.installation,
        image=given.image,
        image_pull_secrets=tuple(given.image_pull_secret),
        health_port=given.health_port,
        log_format=given.log_format,
    )


if __name__ == "__main__":
    sys.exit(main.run(_options()))
