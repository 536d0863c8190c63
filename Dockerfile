# One image for all that runs in pods: `operator` and `gateway` are its commands.
#
#   docker build --build-arg VERSION=0.1.0 -t letterlock .
#
# Without a way to PyPI: put wheels of requirements/runtime.txt, of pip and of hatchling into build/wheels first.
# Any base with Python 3.13 at /usr/bin or /usr/local/bin does.
ARG BASE=docker.io/library/python:3.13-slim

# What it depends on and the program itself are layers of their own: a release moves two megabytes.
FROM ${BASE} AS dependencies
WORKDIR /src
# A pattern that need not match anything: the README is there so that something always is.
COPY README.md build/wheel[s] /wheels/
COPY requirements/runtime.txt requirements/
COPY image/install.sh image/
RUN sh image/install.sh dependencies

FROM dependencies AS program
COPY image/sbom.py image/
COPY pyproject.toml README.md LICENSE ./
COPY crds/letterlock_api crds/letterlock_api/
COPY operator/letterlock_operator operator/letterlock_operator/
COPY gateway/letterlock_gateway gateway/letterlock_gateway/
COPY cli/letterlock_cli cli/letterlock_cli/
RUN sh image/install.sh program

FROM ${BASE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Letterlock" \
      org.opencontainers.image.description="Certificates and TLS policy of mail gateways on Kubernetes, and the gateway itself" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=dependencies /opt/dependencies /opt/dependencies/
COPY --from=program /opt/letterlock /opt/letterlock/
ENV PATH=/opt/letterlock/bin:/opt/dependencies/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# As a number, so that a kubelet can see that it is not root. Nothing is ever written outside the volumes.
USER 65532:65532
WORKDIR /
ENTRYPOINT ["letterlock"]
CMD ["--help"]
