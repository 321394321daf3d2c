# Unmodified daprd for a cluster that reaches no registry, in place of ghcr.io/dapr/daprd: `tidings tools` has obtained it,
# and it is the only file of the context (make sidecar-image). Builds with BuildKit and with the classic builder.
# The base is the services': their nodes have its layers already, and it brings the certificates that TLS is checked by.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tidings-daprd" \
      org.opencontainers.image.description="Dapr's sidecar, unmodified" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY daprd /daprd
USER 65532:65532
# Dapr's injector puts the probes on the container; this one is for who runs it without Kubernetes.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["python3", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ.get('DAPR_HTTP_PORT', '3500') + '/v1.0/healthz', timeout=2)"]
ENTRYPOINT ["/daprd"]
