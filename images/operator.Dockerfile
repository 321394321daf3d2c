# The operator, from the repository's root: docker build -f images/operator.Dockerfile .
# Builds with BuildKit and with the classic builder.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS packages
COPY images/operator.lock /tmp/packages.lock
RUN python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --disable-pip-version-check \
        --root-user-action ignore --only-binary :all: --require-hashes --requirement /tmp/packages.lock \
 && /opt/venv/bin/python -m compileall -q /opt/venv/lib

FROM ${BASE}
ARG OWNER=0
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tidings-operator" \
      org.opencontainers.image.description="Reconciles EventSubscription, EventType and EventReplay resources" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=packages /opt/venv /opt/venv
COPY kit/src/ plan/src/ operator/src/ /app/
RUN /opt/venv/bin/python -m compileall -q /app \
 && if [ "${OWNER}" != 0 ]; then chown -R "${OWNER}:${OWNER}" /app; fi
# USER: kopf asks who it runs as, and uid 10001 has no entry in /etc/passwd.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin USER=tidings \
    PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TIDINGS_OPERATOR_PORT=8080
WORKDIR /app
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['TIDINGS_OPERATOR_PORT'] + '/healthz', timeout=2)"]
CMD ["python", "-m", "tidings_operator"]
